"""Verdicts of samples: extract and grade each answer, and compute keys of equal solutions."""

from __future__ import annotations

import hashlib

import polars as pl

from cos_assets.grading.answers import GRADER_VERSION, grade
from cos_assets.grading.grade import VERDICTS
from cos_assets.storage.schemas import TABLES
from cos_assets.tasks import Task

_KEYS = ("text_key", "equations_key")
VERDICT_COLUMNS = tuple(TABLES["verdicts"].schema)
GRADED_COLUMNS = tuple(name for name in VERDICT_COLUMNS if name not in _KEYS)


def verdicts(samples: pl.DataFrame, problems: pl.DataFrame, task: Task, workers: int = 1) -> pl.DataFrame:
    """Grade each sample with `graded` and add two keys of the correct samples for diversity.

    `text_key` is equal for texts that differ in white space only. `equations_key` is equal for solutions that count as
    one (`Task.identity`): those with the same canonical equations in the same order, or, without equations, those with
    the same text except for case and markup. Both are null for samples that are not correct.
    """
    rows = graded(samples, problems, task, workers).with_columns(samples["completion"])  # the order is the same
    right = rows.filter("correct")["completion"].unique(maintain_order=True)
    by_text = {text: _key(" ".join(text.split())) for text in right}
    by_equations = {text: _key(task.identity(text)) for text in right}
    correct_text = pl.when("correct").then(pl.col("completion"))
    return rows.with_columns(
        text_key=correct_text.replace_strict(by_text, default=None, return_dtype=pl.String),
        equations_key=correct_text.replace_strict(by_equations, default=None, return_dtype=pl.String),
    ).select(VERDICT_COLUMNS)


def graded(samples: pl.DataFrame, problems: pl.DataFrame, task: Task, workers: int = 1) -> pl.DataFrame:
    """Return one verdict per sample, in the order of `samples` [problem_id, sample_index, completion, finish_reason].

    `answer` is the final answer of the solution. `strict` is the result of a second grader, which compares strings. For
    a task without gold answers, `correct` is null, and `verdict` is null for complete solutions.
    Raises ValueError for a sample whose problem is not in `problems`.
    """
    gold = problems.select("problem_id", "level", gold="answer")
    if strangers := samples.join(gold, on="problem_id", how="anti").height:
        raise ValueError(f"samples: {strangers} rows belong to no problem of this study; use the sampled split")
    rows = samples.select("problem_id", "sample_index", "completion", "finish_reason").join(
        gold, on="problem_id", how="left", maintain_order="left"
    )
    replies = rows.select("completion", "gold")
    answers = {reply: task.answer(*reply) for reply in replies.unique().iter_rows()}
    rows = rows.with_columns(answer=pl.Series([answers[reply] for reply in replies.iter_rows()], dtype=pl.String))
    rows = grade(rows, task.answer_kind, workers)
    verifiable = pl.lit(task.answer_kind is not None)
    return rows.with_columns(
        extract=pl.lit(task.extract),
        correct=pl.when(verifiable).then(pl.col("verdict") == "correct"),
        grader_version=pl.lit(GRADER_VERSION),
    ).select(GRADED_COLUMNS)


def verdict_counts(rows: pl.DataFrame) -> dict[str, int]:
    """Return the number of `rows` [verdict] with each verdict."""
    counts = dict(rows["verdict"].value_counts().iter_rows())
    return {verdict: counts.get(verdict, 0) for verdict in VERDICTS}


def second_opinion(verdicts: pl.DataFrame, problems: pl.DataFrame) -> tuple[float | None, pl.DataFrame]:
    """Return how often the second grader disagrees, and the five most frequent disagreements.

    The first value is a share of the answers that both graded; None if there are none. The second has the columns
    [gold, answer, verdict, samples], with gold and answer cut to 200 characters.
    """
    both = verdicts.filter(pl.col("strict").is_not_null() & pl.col("verdict").is_in(["correct", "wrong"]))
    differ = both.filter(pl.col("strict") != pl.col("correct"))
    shown = (
        differ.join(problems.select("problem_id", gold="answer"), on="problem_id")
        .group_by("gold", "answer", "verdict")
        .agg(samples=pl.len())
        .sort("samples", "gold", "answer", descending=[True, False, False])
    )
    cut = shown.head(5).with_columns(pl.col("gold", "answer").str.slice(0, 200))
    return differ.height / both.height if both.height else None, cut


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
