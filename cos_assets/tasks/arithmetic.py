"""The built-in task of the demo: arithmetic word problems that need no download and no large model.

    Q: Ann has 12 apples . Ann imports 3 crates of 4 apples . How many apples does Ann have now ?
    A: 3 * 4 = 12 . 12 + 12 = 24 . The answer is 24 .

Problems have two to five steps (the level). Every problem includes its program, so `check` determines with certainty
whether the reasoning is right and not only the answer. See `cos_assets/tiny/problems.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import polars as pl
from pydantic import Field

from cos_assets.grading.extraction import stated
from cos_assets.grading.steps import StepCheck, check_program
from cos_assets.tasks import Task
from cos_assets.tiny.problems import generate, prompt_of


class Arithmetic(Task):
    """Word problems generated from a seed. `train`, `validation` and `test` are numbers of problems."""

    name: str = "arithmetic"
    train: int = Field(400, ge=1, le=20_000)
    validation: int = Field(200, ge=1, le=20_000)
    test: int = Field(1500, ge=1, le=20_000)
    seed: int = Field(0, ge=0)

    def load(self) -> pl.DataFrame:
        return generate(self.train, self.validation, self.test, self.seed)

    formats: ClassVar[str] = "'The answer is 12'"

    def prompt(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = (), chat: bool = False) -> str:
        worked = "".join(f"{prompt_of(s['question'])}{s['solution']}\n" for s in shots)
        return worked + prompt_of(problem["question"])

    def answer_in(self, reply: str, gold: str | None = None) -> str | None:
        return stated(reply, "number")

    def check_in(self, problem: Mapping[str, Any], reply: str) -> StepCheck:
        return check_program(problem["truth"], reply)


TASK = Arithmetic
