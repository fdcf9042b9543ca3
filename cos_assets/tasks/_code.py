"""Base class of programming tasks: the answer is a program, and tests decide whether it is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from cos_assets.grading.grade import Kind
from cos_assets.tasks import PROBLEMS, Styled

if TYPE_CHECKING:
    from cos_assets.grading.steps import StepCheck


class Code(Styled):
    """Problems whose `answer` contains tests (see `grading.code`)."""

    answer_kind: ClassVar[Kind | None] = "tests"
    extract_version: ClassVar[str] = "3"

    def load(self) -> pl.DataFrame:
        """Return the problems in file order.

        Raises ValueError for invalid problems. Raises RuntimeError if there is no sandbox to run programs in, so that
        the error occurs before any sampling is paid for.
        """
        from cos_assets.grading.sandbox import require

        require()
        return super().load()

    def problems_of(self, part: str, problem: Callable[[str, Mapping[str, Any]], dict[str, Any]]) -> pl.DataFrame:
        """Return the rows of a part, each parsed by `problem`, without rows that are in no split.

        Raises ValueError for a repeated id.
        """
        found: dict[str, dict[str, Any]] = {}
        for where, row in self.rows(part):
            read = problem(where, row)
            if read["problem_id"] in found:
                raise ValueError(f"{where}: 'task_id' {row['task_id']!r} is a duplicate; expected one row per task_id")
            found[read["problem_id"]] = read
        return pl.DataFrame([read for read in found.values() if read["split"]], schema=PROBLEMS)

    def answer_in(self, reply: str, gold: str | None = None) -> str | None:
        """Return the last program of the reply that defines what the tests call (see `grading.programs`)."""
        from cos_assets.grading.code import code_of

        return code_of(reply, gold)

    def check_in(self, problem: Mapping[str, Any], reply: str) -> StepCheck:
        """Return "unreadable": a program has no steps that can be checked."""
        from cos_assets.grading.steps import StepCheck

        return StepCheck("unreadable", None, "a program has no equations to check; its tests say whether it is right")

    def equations_in(self, reply: str) -> tuple[str, ...]:
        """Return the program in canonical form: solutions that differ only in comments or layout count as one."""
        from cos_assets.grading.code import canonical

        return (canonical(self.answer_in(reply) or ""),)
