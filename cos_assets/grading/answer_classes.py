"""Classes of equal answers to a problem. The grader compares the answers, not their text: ½ and 0.5 are equal."""

from __future__ import annotations

import polars as pl

from cos_assets.grading.answers import grade
from cos_assets.grading.grade import Kind

# Kinds whose answers can repeat. Programs and whole replies are not compared with one another.
VOTING: tuple[Kind, ...] = ("number", "math", "text", "choice")


def answer_classes(rows: pl.DataFrame, kind: Kind | None, workers: int = 1) -> pl.Series:
    """Return the class of equal answers to which each answer belongs.

    A wrong answer joins the first class whose first answer it equals. That first answer serves as the gold of the
    comparison.

    Parameters
    ----------
    rows : polars.DataFrame
        [problem_id, answer, verdict] (all String), one row per sample; the verdicts are those of `answers.grade`.
    kind : Kind or None
        The kind of the gold answers.
    workers : int
        The number of processes for math-verify.

    Returns
    -------
    polars.Series
        Int32, in the order of the rows. The class of the right answer is 0. Equal wrong answers of a problem share a
        number above 0. The class is null if there is no vote: no answer, a truncated solution, or a kind that is not in
        `VOTING`.

    Examples
    --------
    >>> rows = {"problem_id": ["p"] * 4, "answer": ["5", "0.5", "1/2", None]}
    >>> verdicts = ["correct", "wrong", "wrong", "no_answer"]
    >>> answer_classes(pl.DataFrame(rows).with_columns(verdict=pl.Series(verdicts)), "number").to_list()
    [0, 1, 1, None]
    """
    stated = rows.select("problem_id", "answer", "verdict").filter(
        pl.col("verdict").is_in(["correct", "wrong", "grader_error"]), pl.col("answer").is_not_null()
    )
    if kind not in VOTING:
        stated = stated.clear()
    keys = ["problem_id", "answer"]
    right = pl.col("verdict") == "correct"
    found = [stated.filter(right).select(*keys, right=True, number=pl.lit(0, pl.Int32)).unique()]
    left, number = stated.filter(~right).select(keys).unique(maintain_order=True), 0
    while left.height:
        number += 1
        first = left.unique("problem_id", keep="first", maintain_order=True)
        pairs = left.join(first.rename({"answer": "gold"}), on="problem_id", maintain_order="left")
        graded = grade(pairs.with_columns(finish_reason=pl.lit("stop")), kind, workers)
        same = graded.select((pl.col("verdict") == "correct") | (pl.col("answer") == pl.col("gold"))).to_series()
        found.append(left.filter(same).select(*keys, right=False, number=pl.lit(number, pl.Int32)))
        left = left.filter(~same)
    known = rows.with_columns(right=right).join(
        pl.concat(found), on=[*keys, "right"], how="left", maintain_order="left"
    )
    votes = pl.col("verdict").is_in(["correct", "wrong", "grader_error"])
    return known.select(answer_class=pl.when(votes).then("number")).to_series()
