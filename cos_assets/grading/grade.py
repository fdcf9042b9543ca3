"""Types of the graders: the kinds of gold answers, the five verdicts, and the grade of one answer."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["number", "math", "text", "choice", "tests", "instructions"]
"""How an answer is compared with its gold; see `answers`."""
VERDICTS = ("correct", "wrong", "no_answer", "truncated", "grader_error")


class Grade(NamedTuple):
    """The verdict on one answer.

    Attributes
    ----------
    verdict : str
        One of `VERDICTS`.
    reason : str or None
        Why the answer is wrong or could not be graded; None if there is nothing to say.
    grader : str or None
        The grader that decided, with its version where it has one; None if none did.

    Examples
    --------
    >>> Grade("wrong", "the answer is not a number", "number").verdict
    'wrong'
    """

    verdict: str
    reason: str | None
    grader: str | None
