r"""Functional MATH: problems of MATH with new numbers, three snapshots of 1,745 (Srivastava et al. 2024, GPL-3.0).

    Problem:
    What is the value of $3^4 - 3^3$?

    Solution:
    $3^4 - 3^3 = 81 - 27 = \boxed{54}$.
    Final Answer: The final answer is $54$. I hope it is correct.

This is a transfer benchmark: every problem is in the test split, and few-shot examples are those of `math`. `path:`
is the archive of a snapshot (`Dec-2023.tar.gz`), or a folder with archives, as published on
github.com/ConsequentAI/fneval; the set is not on the hub. An archive contains `<snapshot>/test/<subject>/<n>.json`
[problem, level, type, solution, is_static], where the solution is only the boxed answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import polars as pl

from cos_assets import readers
from cos_assets.tasks import PROBLEMS
from cos_assets.tasks.math import MathTask, math_problem


class FunctionalMath(MathTask):
    """One snapshot. Problems with the same number <n> in all snapshots differ only in the numbers of their text."""

    name: str = "functional_math"
    snapshot: Literal["Oct-2023", "Nov-2023", "Dec-2023"] = "Dec-2023"

    files: ClassVar[Mapping[str, tuple[str, ...]]] = {"test": ()}
    published: ClassVar[Mapping[str, int]] = {"test": 1745}

    def file(self, part: str) -> Path:
        if self.path is None:
            raise ValueError(
                "task.path: is missing; functional_math is not on the hub, so give the folder with"
                f" {self.snapshot}.tar.gz from github.com/ConsequentAI/fneval"
            )
        path = Path(self.path).expanduser()
        return path if path.is_file() else readers.in_folder(path, self.snapshot)

    def problems(self) -> pl.DataFrame:
        """Return all problems; `truth` contains whether a problem is static, that is, has no numbers to change."""
        file = str(self.file("test"))
        return pl.DataFrame([self._problem(file, *row) for row in self.rows("test")], schema=PROBLEMS)

    def _problem(self, file: str, where: str, row: Mapping[str, Any]) -> dict[str, Any]:
        member = where.removeprefix(f"{file}:")
        snapshot, _, rest = member.partition("/test/")
        if snapshot != self.snapshot:
            raise ValueError(f"{where}: is not in the snapshot {self.snapshot}; expected {self.snapshot}/test/...")
        return {
            "problem_id": f"functional_math/{self.snapshot}/{rest.partition('.json')[0]}",
            **math_problem("test", where, row),
            "solution": None,  # a bare answer is useless for training
            "truth": json.dumps({"is_static": row.get("is_static")}),
        }


TASK = FunctionalMath
