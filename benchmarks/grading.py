"""Graded samples per second with 30 samples per problem, versus a plain loop over math-verify in one process.

Run: python benchmarks/grading.py [--samples 30] [--problems 1319]

All answers are graded as mathematics. They are public, from the folder that COS_PUBLIC_DATA names (or
../shared/data). No public data set has 30 samples per problem with their texts, so samples are drawn by a seed:

    public    the 1,319 test problems of GSM8K, each from the stated answers of its 4 published model solutions (a
              solution that states nothing is a sample without an answer), and the 100 MATH problems of
              qwen_math_cot_100, each from its 8 recorded answers; with replacement
    qwen      those 100 problems alone: so few that starting the workers takes nearly all of our time
    modelled  the 500 problems of MATH-500, whose answers are hard for us: rates of right ones from beta(.835, .423),
              as in metrics.py; a right answer is the gold's own text, a wrong one the gold of another problem of the
              subject, chosen by a Zipf law with exponent 1.3

`distinct` is the number of different (gold, answer) pairs; `asked` is the number of them that we pass to math-verify.
The others are equal strings or two numbers. The loop is what most projects run: parse gold and answer between dollar
signs and verify, row by row, with the libraries loaded before timing starts. Our time includes starting the workers.
Both must grade the same rows as right.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cos_assets.grading.answers import grade
from cos_assets.tasks.gsm8k import Gsm8k

DATA = Path(os.environ.get("COS_PUBLIC_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SCHEMA = {"gold": pl.String, "answer": pl.String, "finish_reason": pl.String}
Sampled = list[tuple[str, list[str | None]]]  # a gold answer and the answers to its problem


def gsm8k(problems: int, samples: int) -> Sampled:
    task = Gsm8k(path=str(DATA / "gsm8k"))
    golds = task.load().filter(pl.col("split") == "test")["answer"]
    rows = _read("gsm8k/example_model_solutions.jsonl")
    solutions = [[made["solution"] for made in row.values() if isinstance(made, dict)] for row in rows]
    stated = [(gold, list(map(task.answer, texts))) for gold, texts in zip(golds, solutions, strict=True)]
    return _drawn(stated[:problems], samples)


def qwen(problems: int, samples: int) -> Sampled:
    rows = _read("qwen_math_cot_100/math_cot_100.jsonl")
    return _drawn([(row["gt"], row["pred"]) for row in rows[:problems]], samples)


def modelled(problems: int, samples: int) -> Sampled:
    rows = _read("math/math500.jsonl")[:problems]
    subjects: dict[str, list[str]] = {}
    for row in rows:
        subjects.setdefault(row["subject"], []).append(row["answer"])
    rng = np.random.default_rng(0)
    out: Sampled = []
    for row, rate in zip(rows, rng.beta(0.835, 0.423, len(rows)), strict=True):
        gold = row["answer"]
        others = rng.permutation([answer for answer in subjects[row["subject"]] if answer != gold]).tolist() or [gold]
        wrong = [others[(rank - 1) % len(others)] for rank in rng.zipf(1.3, samples)]
        out.append((gold, [gold if rng.random() < rate else answer for answer in wrong]))
    return out


def loop(rows: pl.DataFrame) -> list[bool]:
    """Return whether each row is right, by math-verify alone, row by row."""
    from math_verify import parse, verify

    def between_dollars(text: str) -> str:
        return text if "$" in text.replace("\\$", "") else f"${text}$"

    return [
        answer is not None and verify(parse(between_dollars(gold)), parse(between_dollars(answer)))
        for gold, answer in rows.select("gold", "answer").rows()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--problems", type=int, default=1319, help="at most, of each source")
    options = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"public data not found at {DATA}; set COS_PUBLIC_DATA to the folder that holds gsm8k/ and the others")
    made = {make.__name__: make(options.problems, options.samples) for make in (gsm8k, qwen, modelled)}
    sets = {"public": made["gsm8k"] + made["qwen"], "qwen": made["qwen"], "modelled": made["modelled"]}
    workers = os.cpu_count() or 1
    loop(pl.DataFrame([("\\frac{1}{2} x", "\\frac{x}{2}", "stop")], schema=SCHEMA, orient="row"))  # loads the libraries
    print(f"{options.samples} samples a problem; ours with {workers} workers\n")
    print("set          rows  distinct  asked   loop s  rows/s   ours s   rows/s  ratio")
    for name, sampled in sets.items():
        flat = [(gold, answer, "stop") for gold, answers in sampled for answer in answers]
        rows = pl.DataFrame(flat, schema=SCHEMA, orient="row")
        started = time.perf_counter()
        graded = grade(rows, "math", workers)
        ours = time.perf_counter() - started
        started = time.perf_counter()
        right = loop(rows)
        plain = time.perf_counter() - started
        differ = graded.filter((pl.col("verdict") == "correct") != pl.Series(right)).unique(["gold", "answer"])
        assert differ.is_empty(), f"{name}: {differ.select('gold', 'answer', 'verdict', 'grader').rows()}"
        distinct = graded.drop_nulls("answer").unique(["gold", "answer"])
        asked = distinct.filter(pl.col("grader").str.starts_with("math-verify")).height
        print(
            f"{name:<10}{rows.height:>7}{distinct.height:>10}{asked:>7}{plain:>9.2f}{rows.height / plain:>8.0f}"
            f"{ours:>9.2f}{rows.height / ours:>9.0f}{plain / ours:>6.1f}x"
        )
    print("\nratio: the loop's seconds by ours; both called the same rows right")


def _drawn(given: Sampled, samples: int) -> Sampled:
    rng = random.Random(0)
    return [(gold, rng.choices(answers, k=samples)) for gold, answers in given]


def _read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").split("\n") if line]


if __name__ == "__main__":
    main()
