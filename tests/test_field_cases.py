"""Inputs that were once graded, read, counted or refused wrongly, each with the accepted results.

The cases are in the public data, or in the file in COS_FIELD_CASES. `rec` cases describe a situation in words;
they have separate tests in the modules of their subjects.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support import ROOT

from cos_assets import tasks
from cos_assets.generation.completions import cut
from cos_assets.generation.engines.imported import ImportedEngine
from cos_assets.generation.types import Request, Sampling
from cos_assets.grading.answers import grade
from cos_assets.judging.llm import read
from cos_assets.judging.verdicts import verdicts
from cos_assets.tasks import Task
from cos_assets.tasks.ifeval import Ifeval
from cos_assets.tasks.jsonl import Jsonl
from cos_assets.tasks.math import Math

FILE = Path(
    os.environ.get("COS_FIELD_CASES")
    or Path(os.environ.get("COS_PUBLIC_DATA", ROOT.parent / "shared" / "data")) / "field_cases" / "cases.jsonl"
)
CASES = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()] if FILE.is_file() else []
CALLED = [case for case in CASES if case["input"]["call"] != "rec"]
GRADES = {"number": "number", "jmath": "math", "text": "text", "choice": "choice", "tests": "tests"}
ADD = {
    "mbpp": {"prompt": "", "test": "assert add(1, 2) == 3", "entry_point": None},
    "tests": {"prompt": "", "test": "assert add(1, 2) == 3", "entry_point": None},
    "humaneval": {
        "prompt": 'def add(a, b):\n    """Add two numbers."""\n',
        "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n\ncheck(add)",
        "entry_point": "add",
    },
}


def task_of(given: str | Mapping[str, Any]) -> Task:
    if isinstance(given, str) and given in GRADES:
        return Jsonl(path="a", grade=GRADES[given])  # type: ignore[arg-type]
    return tasks.make(given)


def graded(task: Task, gold: str, text: str) -> pl.DataFrame:
    """The verdict of one sample with this text."""
    problem = dict.fromkeys(tasks.PROBLEMS) | {"problem_id": "p", "split": "test", "answer": gold}
    problems = pl.DataFrame([problem | {"question": "q"}], schema=tasks.PROBLEMS)
    samples = pl.DataFrame({"problem_id": ["p"], "sample_index": [0], "completion": [text], "finish_reason": ["stop"]})
    return verdicts(samples, problems, task)


def extraction(case: Mapping[str, Any], _: Path) -> str:
    return str(graded(task_of(case["task"]), case["gold"], case["text"])["verdict"].item())


def equality(case: Mapping[str, Any], _: Path) -> str:
    pair = pl.DataFrame({"gold": [case["gold"]], "answer": [case["ans"]], "finish_reason": ["stop"]})
    return str(grade(pair, "math")["verdict"].item())


def steps(case: Mapping[str, Any], _: Path) -> str:
    return Math().check({}, case["text"]).label


def distinct(case: Mapping[str, Any], _: Path) -> int:
    frames = [graded(task_of(case["task"]), case["gold"], text) for text in case["texts"]]
    return pl.concat(frames).filter("correct")["equations_key"].n_unique()


def program(case: Mapping[str, Any], _: Path) -> str:
    return str(graded(task_of(case["task"]), json.dumps(ADD[case["task"]]), case["text"])["verdict"].item())


def instructions(case: Mapping[str, Any], _: Path) -> str:
    gold = {"prompt": "", "instruction_id_list": case["ids"], "kwargs": case["kw"]}
    return str(graded(Ifeval(), json.dumps(gold), case["text"])["verdict"].item())


def judgement(case: Mapping[str, Any], _: Path) -> str:
    return read(case["text"], "stop", 9).label


def stopped(case: Mapping[str, Any], _: Path) -> str:
    task = task_of(case["task"])
    return cut(case["text"], task.stops(chat=task.name == "humaneval"))  # its cases are replies of chat models


def imported(case: Mapping[str, Any], folder: Path) -> str:
    file = folder / f"s.{case.get('name') or 'jsonl'}"
    rows = case.get("rows")
    text = case["raw"] if rows is None else "".join(json.dumps(row) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")
    engine = ImportedEngine({"path": str(file), "columns": case["columns"], "questions": case["questions"]})
    requests = [Request(problem, question, (0,)) for problem, question in case["questions"].items()]
    got = [completion for batch in engine.stream(requests, Sampling()) for completion in batch]
    return "ok" if got else "nothing was imported"


def table_file(case: Mapping[str, Any], folder: Path) -> str:
    raw = case["raw"]
    if long := re.fullmatch(r"(.*) / one quoted field of ([\d,]+) x / (.*)", raw):
        raw = f'{long[1]}\n"{"x" * int(long[2].replace(",", ""))}",{long[3]}\n'
    file = folder / case["name"]
    file.write_text(raw, encoding="utf-8")
    options = {name: case[name] for name in ("columns", "grade") if name in case}
    return "ok" if Jsonl(path=str(file), **options).load().height else "no rows"


CALLS: dict[str, Callable[[Mapping[str, Any], Path], Any]] = {
    "ex": extraction,
    "gr": equality,
    "st": steps,
    "div": distinct,
    "code": program,
    "if": instructions,
    "ju": judgement,
    "stop": stopped,
    "imp": imported,
    "jl": table_file,
}


def test_every_kind_of_case_is_known(public_data: Path) -> None:
    assert CALLED, f"{FILE}: contains no cases"
    unknown = {case["input"]["call"] for case in CALLED} - CALLS.keys()
    assert not unknown, f"{FILE}: no translation of {', '.join(sorted(unknown))}"


@pytest.mark.parametrize("case", CALLED, ids=lambda case: case["id"])
def test_a_recorded_case_gives_one_of_its_accepted_results(
    case: Mapping[str, Any], tmp_path: Path, sandbox: None
) -> None:
    got = CALLS[case["input"]["call"]](case["input"], tmp_path)
    assert got in case["want"], f"{case['kind']}: expected {case['expected']}"
