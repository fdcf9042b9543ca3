"""MBPP: write a short Python function from a sentence and three tests (Austin et al. 2021, CC-BY-4.0 license).

    You are an expert Python programmer, and here is your task: Write a python function to identify non-prime numbers.
    Your code should pass these tests:

    assert is_not_prime(2) == False
    assert is_not_prime(10) == True
    assert is_not_prime(35) == True
    [BEGIN]
    import math
    def is_not_prime(n):
        ...
    [DONE]

`path:` is mbpp.jsonl, or a folder that contains it. For the 427 rows that were verified by hand, it is
sanitized-mbpp.json or CodeT's mbpp_sanitized_for_code_generation.jsonl, or their folder. The splits are the published
ones, by task id: test 11 to 510, validation 511 to 600, train 601 to 974. Tasks 1 to 10 are for prompts only and in
no split. The ids of the paper's 324 + 100 problems are not published; use `limit` to draw as many.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import polars as pl

from cos_assets import readers
from cos_assets.tasks import program_prompt, text
from cos_assets.tasks._code import Code

_SPLITS = {"test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}
_BEGIN, _DONE = "[BEGIN]", "[DONE]"
_TESTS = " Your code should pass these tests:\n\n"


class Mbpp(Code):
    """MBPP, the full set or `subset: sanitized`."""

    name: str = "mbpp"
    dataset: str = "google-research-datasets/mbpp"
    subset: Literal["full", "sanitized"] = "full"

    files: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "full": ("mbpp",),
        "sanitized": ("sanitized-mbpp", "mbpp_sanitized_for_code_generation"),
    }
    published: ClassVar[Mapping[str, int]] = {"full": 974, "sanitized": 427}
    prompt_version: ClassVar[str] = "mbpp-1"
    stop: ClassVar[tuple[str, ...]] = (_DONE,)

    def problems(self) -> pl.DataFrame:
        """Return all splits; `question` includes the tests, as in the prompt."""
        return self.problems_of(self.subset, _problem)

    def texts(self, question: str) -> tuple[str, ...]:
        """Return the question, and the published sentence without the tests."""
        return question, question.partition(_TESTS)[0]

    def hub(self, part: str) -> tuple[str, str | None, str, str | None]:
        return self.dataset, part, "prompt+test+validation+train", self.revision

    def file(self, part: str) -> Path:
        path = Path(self.path or "").expanduser()
        return path if path.is_file() else super().file(part)

    def provenance(self) -> dict[str, Any]:
        if self.path is None:
            return {**super().provenance(), "config": self.subset}
        file = self.file(self.subset)
        return {f"{self.subset}_file": str(file), f"{self.subset}_sha256": readers.sha256(file)}

    def complete(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = ()) -> str:
        """Return the prompt in the format of the MBPP paper; the examples include their solutions."""
        ask = "You are an expert Python programmer, and here is your task: {}\n" + _BEGIN + "\n"
        worked = "".join(f"{ask.format(s['question'])}{s['solution'].rstrip()}\n{_DONE}\n\n" for s in shots)
        return worked + ask.format(problem["question"])

    def instruct(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = ()) -> str:
        return program_prompt(problem, shots)


def _problem(where: str, row: Mapping[str, Any]) -> dict[str, Any]:
    number = str(row.get("task_id")).rpartition("/")[2]
    if not (number.isdecimal() and 1 <= int(number) <= 974):
        raise ValueError(f"{where}: 'task_id' is {row.get('task_id')!r}; expected a number from 1 to 974")
    task, code, setup, tests = _codet(where, row) if "canonical_solution" in row else _published(where, row)
    test = "\n".join([*setup, *tests])
    return {
        "problem_id": f"mbpp/{int(number):03d}",
        "split": next((split for split, ids in _SPLITS.items() if int(number) in ids), None),
        "question": task.strip() + _TESTS + "\n".join(tests),
        "answer": json.dumps({"prompt": "", "test": test, "entry_point": None}, ensure_ascii=False),
        "solution": code.rstrip() + "\n",
        "level": None,
        "subject": None,
        "truth": None,
    }


def _published(where: str, row: Mapping[str, Any]) -> tuple[str, str, list[str], list[str]]:
    """Return task, code, setup lines and tests of a row of Google's files or the hub; converts Windows line endings."""
    task, code = text(row, "text" if "text" in row else "prompt", where), text(row, "code", where)
    tests = row.get("test_list")
    setup = [
        *([text(row, "test_setup_code", where)] if row.get("test_setup_code") else []),
        *(row.get("test_imports") or ()),
    ]
    if not (isinstance(tests, list) and tests and all(isinstance(line, str) for line in [*setup, *tests])):
        raise ValueError(f"{where}: 'test_list' is {repr(tests)[:60]}; expected a list of lines of code")
    code, *lines = (line.replace("\r\n", "\n") for line in [code, *setup, *tests])
    return task, code, lines[: len(setup)], lines[len(setup) :]


def _codet(where: str, row: Mapping[str, Any]) -> tuple[str, str, list[str], list[str]]:
    """Return the same for a row of CodeT's file.

    `prompt` is the head of a function with the task as its docstring, `test` is a function.
    """
    prompt, body, test = (text(row, column, where) for column in ("prompt", "canonical_solution", "test"))
    head, task, *rest = [*prompt.split("'''"), ""]
    first, _, lines = test.partition("\n")
    tests = [line for line in textwrap.dedent(lines).splitlines() if line]
    if len(rest) != 2 or not first.startswith("def check(") or not tests:
        raise ValueError(
            f"{where}: 'prompt' or 'test' is not allowed; expected a function head with its docstring, and"
            " `def check(candidate):`"
        )
    # The file lacks the imports of the tests; they use no module but `math`.
    imports = ["import math"] if any("math." in line for line in tests) else []
    return task, f"{head.rstrip()}\n{body}", imports, tests


TASK = Mbpp
