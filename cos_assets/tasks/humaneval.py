'''HumanEval: complete a Python function from its signature and docstring (Chen et al. 2021, MIT license).

    def digits(n):
        """Given a positive integer n, return the product of the odd digits.
        Return 0 if all digits are even.
        For example:
        digits(1)  == 1
        digits(4)  == 0
        digits(235) == 15
        """

All 164 problems are for evaluation. `path:` is HumanEval.jsonl(.gz) as published, or its folder. A completion either
continues the prompt, or is a whole program that contains the function, as chat models write it.
'''

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import polars as pl

from cos_assets.tasks import text
from cos_assets.tasks._code import Code


class HumanEval(Code):
    """HumanEval. Base models continue the function; instruct models are asked for the whole function."""

    name: str = "humaneval"
    dataset: str = "openai/openai_humaneval"

    files: ClassVar[Mapping[str, tuple[str, ...]]] = {"test": ("HumanEval", "human_eval", "test")}
    published: ClassVar[Mapping[str, int]] = {"test": 164}
    prompt_version: ClassVar[str] = "humaneval-1"

    stop: ClassVar[tuple[str, ...]] = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
    """Strings that mark the end of the function, as in section 2.2 of the paper."""

    def problems(self) -> pl.DataFrame:
        """Return all problems; `question` is the signature and docstring of the function."""
        return self.problems_of("test", _problem)

    def complete(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = ()) -> str:
        return "".join(f"{s['question']}{s['solution']}\n\n" for s in shots) + problem["question"]

    def instruct(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = ()) -> str:
        ask = "Complete this Python function. Reply with the whole program, in one block of code.\n\n"
        block = "```python\n{}\n```\n\n".format
        worked = (f"{ask}{block(s['question'].rstrip())}{block(s['question'] + s['solution'].rstrip())}" for s in shots)
        return "".join(worked) + ask + block(problem["question"].rstrip())


def _problem(where: str, row: Mapping[str, Any]) -> dict[str, Any]:
    columns = ("task_id", "prompt", "canonical_solution", "test", "entry_point")
    number, prompt, solution, test, entry_point = (text(row, column, where) for column in columns)
    if not entry_point.isidentifier():
        raise ValueError(f"{where}: 'entry_point' is {entry_point[:60]!r}; expected the name of a function")
    gold = {"prompt": prompt, "test": f"{test}\ncheck({entry_point})", "entry_point": entry_point}
    return {
        "problem_id": number,
        "split": "test",
        "question": prompt,
        "answer": json.dumps(gold, ensure_ascii=False),
        "solution": solution,
        "level": None,
        "subject": None,
        "truth": None,
    }


TASK = HumanEval
