"""Types of the graders: the kinds of gold answers, the five verdicts, and the grade of one answer."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["number", "math", "text", "choice", "tests", "instructions"]
"""How an answer is compared with its gold; see `answers`."""
VERDICTS = ("correct", "wrong", "no_answer", "truncated", "grader_error")


class Grade(NamedTuple):
    """The verdict on one answer, the reason for it, and the grader that decided."""

    verdict: str
    reason: str | None
    grader: str | None
