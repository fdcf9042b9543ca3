"""Check that final answers can be extracted: from the first solutions before the rest is bought, and from all later.

Solutions of a model that was not told the expected answer format, or that is cut off before it states an answer, count
as wrong whatever they contain. The first few solutions show this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from cos_assets.generation.generate import Look
from cos_assets.grading.answers import grade
from cos_assets.grading.reasoning import reply_of
from cos_assets.tasks import Task

ALMOST_NONE = 1
"""The purchase stops if at most this many of the first solutions are readable."""
MOST_UNREAD = 0.05
"""The maximum share of complete solutions without an answer that can be extracted."""
_ENDING = 200
_ENDINGS = 3


class Unreadable(ValueError):
    """Raised if almost no solution can be read, so that buying more would be a waste."""


class Unread(NamedTuple):
    """Statistics of the complete solutions without an answer that can be extracted."""

    complete: int
    unread: int
    lenient_read: int
    """The number of unread solutions that `extract: flexible` can read."""
    lenient_correct: int
    """The number of these whose answer is right."""
    endings: tuple[str, ...]
    """The last characters of some of the unread solutions."""

    @property
    def share(self) -> float:
        return self.unread / self.complete if self.complete else 0.0


def first_look(task: Task, who: str, block: str, max_tokens: int) -> Look:
    """Return a function that checks the first solutions of `who`, for the argument `look` of `generate`.

    It raises Unreadable if at most `ALMOST_NONE` of them is complete and states an answer. `block` is the block of the
    study whose keys the error message names: sampling or evaluation.
    """

    def look(solutions: Sequence[tuple[str, str]]) -> None:
        # Instructions are checked in truncated solutions, too.
        whole = [text for text, reason in solutions if reason != "length" or task.answer_kind == "instructions"]
        readable = sum(task.answer(text) is not None for text in whole)
        if readable > ALMOST_NONE:
            return
        cut = len(solutions) - len(whole)
        anyway = f", or continue with {block}.unreadable: continue. The ledger keeps all completions that were bought"
        silent = sum(reason == "length" and not text.strip() for text, reason in solutions)
        if 2 * silent > len(solutions):
            raise Unreadable(
                f"{who}: {silent} of the first {len(solutions)} solutions were cut off at {block}.max_tokens:"
                f" {max_tokens} before the reply began: the model was still reasoning. Complete solutions with an"
                f" answer: {readable}. Raise max_tokens, or set a budget or mode: off under reasoning: of the model"
                f"{anyway}"
            )
        if 2 * cut > len(solutions):
            last = next(text for text, reason in reversed(solutions) if reason == "length")
            raise Unreadable(
                f"{who}: {cut} of the first {len(solutions)} solutions were cut off at {block}.max_tokens:"
                f" {max_tokens}. Complete solutions with an answer: {readable}. A solution ends with"
                f" {ending(last)!r}. Raise {block}.max_tokens{anyway}"
            )
        lenient = sum(task.lenient_answer_in(reply_of(text) or "") is not None for text in whole)
        flexible = f", or set task.extract: flexible, which reads {lenient} of them" if lenient > ALMOST_NONE else ""
        raise Unreadable(
            f"{who}: only {readable} of the first {len(solutions)} solutions states a readable answer (task"
            f" {task.name!r}). A solution ends with {ending(whole[-1])!r}. Readable forms: {task.formats}. Make the"
            f" model use one (chat: true for an instruct model, sampling.shots for a base model){flexible}{anyway}"
        )

    return look


def unread(rows: pl.DataFrame, problems: pl.DataFrame, task: Task, workers: int = 1) -> Unread:
    """Count the complete solutions in `rows` without an answer that can be extracted.

    `rows` has the columns [problem_id, completion, finish_reason, answer], and `problems` the gold answers. The lenient
    answer is the last number of the text (`Task.lenient_answer_in`). It is graded like any other answer.
    """
    complete = rows.filter(pl.col("finish_reason") == "stop")
    texts = complete.filter(pl.col("answer").is_null()).select("problem_id", "completion")
    guesses = [task.lenient_answer_in(reply_of(text) or "") for text in texts["completion"]]
    guessed = (
        texts.with_columns(answer=pl.Series(guesses, dtype=pl.String), finish_reason=pl.lit("stop"))
        .filter(pl.col("answer").is_not_null())
        .join(problems.select("problem_id", gold="answer"), on="problem_id", how="left", maintain_order="left")
    )
    right = int((grade(guessed, task.answer_kind, workers)["verdict"] == "correct").sum()) if guessed.height else 0
    different = texts["completion"].unique(maintain_order=True).head(_ENDINGS)
    return Unread(complete.height, texts.height, guessed.height, right, tuple(map(ending, different)))


def truncated_in_reasoning(rows: pl.DataFrame) -> int:
    """Return how many completions [completion, finish_reason] were cut off before the reply began."""
    begun = pl.col("completion").str.strip_chars() != ""
    return rows.filter(pl.col("finish_reason") == "length", ~begun).height


def ending(text: str) -> str:
    """Return the end of a text as one line."""
    line = " ".join(text[-4 * _ENDING :].split())
    return line if len(line) <= _ENDING else f"…{line[-_ENDING:]}"
