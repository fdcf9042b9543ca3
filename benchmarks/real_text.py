"""Results of the graders and the step checker on public text that no model of ours wrote, against stated targets.

Run: python benchmarks/real_text.py

The data are public, from the folder that COS_PUBLIC_DATA names (or ../shared/data). Exits with 1 if a target is
missed.

    step checker   false alarms: the share of reference solutions that it calls wrong, of those that it can read;
                   recall: the share of solutions called wrong, of those that people found wrong (MR-GSM8K) or whose
                   answer is wrong; readable: the share of solutions in which it can read an equation
    distinct       correct solutions per problem, of 100 problems with 8 samples each, as each rule counts them
    unread         complete solutions in which the task finds no stated answer
    disagreements  verdicts that differ from the published ones, where the answer is read from the text
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cos_assets import tasks
from cos_assets.grading.answers import grade
from cos_assets.grading.grade import Kind
from cos_assets.grading.identity import normalized
from cos_assets.grading.steps import check_equations
from cos_assets.tasks import Task

DATA = Path(os.environ.get("COS_PUBLIC_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
WORKERS = os.cpu_count() or 1


class Figure(NamedTuple):
    """A measured value, its limits (None if there is no limit), and the number of texts or problems that it covers."""

    name: str
    value: float
    most: float | None = None
    least: float | None = None
    of: int | None = None

    @property
    def met(self) -> bool:
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)


def step_checker() -> Iterator[Figure]:
    references = {
        "GSM8K train references": [row["answer"] for row in _rows("gsm8k/train.jsonl")],
        "GSM8K test references": [row["answer"] for row in _rows("gsm8k/test.jsonl")],
        "MATH test references": [row["solution"] for row in _rows("math/math_test_5000.jsonl")],
    }
    qwen = _qwen()
    right = [text for row in qwen for text, correct in _samples(row) if correct]
    wrong = [text for row in qwen for text, correct in _samples(row) if not correct]
    with ProcessPoolExecutor(WORKERS) as pool:
        for name, texts in (references | {"MATH samples, right answer": right}).items():
            labels = _labels(pool, texts)
            read = len(texts) - labels.count("unreadable")
            yield Figure(f"{name}: false alarms", labels.count("wrong") / read, most=0.01, of=read)
            yield Figure(f"{name}: readable", read / len(texts), of=len(texts))
        for name, texts, least in (
            ("MR-GSM8K, wrong solutions", list(_mr_gsm8k()), 0.24),
            ("MATH samples, wrong answer", wrong, None),
        ):
            labels = _labels(pool, texts)
            yield Figure(f"{name}: recall", labels.count("wrong") / len(texts), least=least, of=len(texts))
            yield Figure(f"{name}: readable", 1 - labels.count("unreadable") / len(texts), of=len(texts))


def distinct() -> Iterator[Figure]:
    task = tasks.make("math")
    rules: dict[str, Callable[[str], Any]] = {
        "exact text": lambda text: " ".join(text.split()),
        "normalized text": normalized,
        "equations, else normalized text": task.identity,
        "equations alone": task.equations,
    }
    problems = [[text for text, correct in _samples(row) if correct] for row in _qwen()]
    counts = {
        name: sum(len(set(map(rule, texts))) for texts in problems) / len(problems) for name, rule in rules.items()
    }
    for name, count in counts.items():
        between = name.startswith("equations, else")
        least, most = (counts["equations alone"], counts["exact text"]) if between else (None, None)
        yield Figure(f"MATH samples: distinct by {name}", count, most, least, of=len(problems))


def answers() -> Iterator[Figure]:
    """Yield unread answers and disagreements; a set consists of a task and of rows (text, gold, published verdict)."""
    math, gsm8k = tasks.make("math"), tasks.make("gsm8k")
    golds = [row["answer"].rpartition("####")[2].strip() for row in _rows("gsm8k/test.jsonl")]
    outputs = _rows("gsm8k/example_model_solutions.jsonl")
    published = [
        (made["solution"], gold, made["is_correct"])
        for row, gold in zip(outputs, golds, strict=True)
        for made in row.values()
        if isinstance(made, dict)
    ]
    references = [(row["answer"], gold, True) for row, gold in zip(_rows("gsm8k/test.jsonl"), golds, strict=True)]
    samples = [(text, row["gt"], correct) for row in _qwen() for text, correct in _samples(row)]
    solutions = [(row["solution"], row["answer"], True) for row in _rows("math/math500.jsonl")]
    yield from _graded("GSM8K's four models", gsm8k, published, 0.0025, 0)
    yield from _graded("GSM8K test references", gsm8k, references, 0, 0)
    yield from _graded("MATH samples", math, samples, 0, 1)
    yield from _graded("MATH-500 references", math, solutions, 0, 0)
    for model, most in (("tora-70b", 0), ("tora-code-34b", 0)):
        rows = _rows(f"gsm8k_model_outputs/{model}-v1.0.jsonl")
        stated = [row["pred"][0] for row in rows]
        verdicts = _verdicts("number", golds, stated)
        same = [_number(gold) == _number(answer) for gold, answer in zip(golds, stated, strict=True)]
        yield Figure(f"GSM8K, {model}: disagreements", _differences(verdicts, same), most, of=len(rows))


def _graded(name: str, task: Task, rows: list[tuple[str, str, bool]], unread: float, differ: int) -> Iterator[Figure]:
    stated = [task.answer(text, gold) for text, gold, _ in rows]
    yield Figure(f"{name}: unread", stated.count(None) / len(rows), unread, of=len(rows))
    verdicts = _verdicts(task.answer_kind, [gold for _, gold, _ in rows], stated)
    yield Figure(f"{name}: disagreements", _differences(verdicts, [ok for *_, ok in rows]), differ, of=len(rows))


def _verdicts(kind: Kind | None, golds: list[str], stated: list[str | None]) -> list[bool]:
    columns = {"gold": golds, "answer": stated, "finish_reason": ["stop"] * len(golds)}
    rows = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    return (grade(rows, kind, WORKERS)["verdict"] == "correct").to_list()


def _differences(ours: Iterable[bool], published: Iterable[bool]) -> int:
    return sum(one != other for one, other in zip(ours, published, strict=True))


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _labels(pool: ProcessPoolExecutor, texts: list[str]) -> list[str]:
    return list(pool.map(_label, texts, chunksize=50))


def _label(text: str) -> str:
    return check_equations(text).label


def _mr_gsm8k() -> Iterator[str]:
    """Yield the solutions that people marked as wrong, each once."""
    seen = set()
    for file in sorted((DATA / "mr_gsm8k_subset").glob("*.jsonl")):
        for row in json.loads(file.read_text(encoding="utf-8")):
            if row["uuid"] not in seen:
                seen.add(row["uuid"])
                yield "\n".join(row["model_output_steps"])


def _qwen() -> list[dict[str, Any]]:
    return _rows("qwen_math_cot_100/math_cot_100.jsonl")


def _samples(row: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    return zip(row["code"], row["score"], strict=True)


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").split("\n") if line]


def main() -> None:
    if not DATA.is_dir():
        sys.exit(f"public data not found at {DATA}; set COS_PUBLIC_DATA to the folder that holds gsm8k/ and the others")
    started, missed = time.perf_counter(), 0
    print(f"{'':<58}{'value':>9}{'target':>16}{'of':>8}")
    for part in (step_checker, distinct, answers):
        for figure in part():
            value = f"{figure.value:d}" if isinstance(figure.value, int) else f"{figure.value:.4f}"
            limits = [f">= {figure.least:.4g}"] if figure.least is not None else []
            limits += [f"<= {figure.most:.4g}"] if figure.most is not None else []
            print(
                f"{figure.name:<58}{value:>9}{', '.join(limits):>16}{figure.of or '':>8}"
                f"{'' if figure.met else '  MISSED'}"
            )
            missed += not figure.met
    print(f"\n{time.perf_counter() - started:.0f} s; {missed} targets missed")
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
