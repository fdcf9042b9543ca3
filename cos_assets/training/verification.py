"""Which of the bought samples are trained on: by their answer, by a judge, by both, by a vote, or all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import polars as pl

from cos_assets.grading.answer_classes import answer_classes
from cos_assets.grading.cores import usable_cores
from cos_assets.tasks import Task

Verification = Literal["answer", "none", "judge", "answer+judge", "answer+steps", "vote"]
_KEYS = ["model", "problem_id", "sample_index"]


def verify(
    taken: pl.DataFrame,
    verification: Verification,
    verdicts: pl.DataFrame,
    judgements: pl.DataFrame,
    judges: Sequence[str],
    task: Task,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The rows of `taken` [model, problem_id, sample_index, finish_reason, ...] that verify, in their order, and what
    that meant: `kept_share` of the taken, `kept_wrong_share` of the kept whose answer is wrong (None where the task has
    no gold answers), `verification_flops` and `verification_cost` of the judgements of these samples.

    answer        the final answer is right
    none          everything that came
    judge         the judge calls the reasoning right; no gold answer is looked at
    answer+judge  both
    answer+steps  the answer is right, and so is every equation
    vote          the answer is the one that most samples of the problem that were taken give; a problem whose first
                  answers have equally many votes is left out, and counted in `tied_problems`

    The last of `judges` is the one that decides, the others are those that it is a vote of. A sample that was cut off
    is trained on with `none` only, without an end; one that failed, or was cut off before its first word, never is.
    """
    nothing = (pl.col("finish_reason") == "length") & (pl.col("completion").str.strip_chars() == "")
    kept = taken.filter(pl.col("finish_reason") != "error", ~nothing)
    facts: dict[str, Any] = {}
    if verification.startswith("answer"):
        kept = _only(kept, verdicts.filter("correct"))
    if verification in ("judge", "answer+judge", "answer+steps"):
        mine = judgements.filter(pl.col("judge").is_in(judges))
        paid = _only(mine, kept)  # another source may have had more of them judged
        kept = _only(kept, mine.filter(pl.col("judge") == judges[-1], pl.col("label") == "right"))
        for name in ("flops", "cost"):  # unknown is not nothing
            facts[f"verification_{name}"] = paid[name].sum() if paid[name].null_count() < paid.height else None
    elif verification == "vote":
        winners, facts["tied_problems"] = _majority(kept, verdicts, task)
        kept = _only(kept, winners)
    facts["kept_share"] = kept.height / taken.height if taken.height else None
    facts["kept_wrong_share"] = None
    if kept.height and task.answer_kind is not None:
        facts["kept_wrong_share"] = 1 - _only(kept, verdicts.filter("correct")).height / kept.height
    return kept, facts


def _only(rows: pl.DataFrame, those: pl.DataFrame) -> pl.DataFrame:
    return rows.join(those.select(_KEYS), on=_KEYS, how="semi", maintain_order="left")


def _majority(kept: pl.DataFrame, verdicts: pl.DataFrame, task: Task) -> tuple[pl.DataFrame, int]:
    """The samples with their problem's most frequent answer, and how many problems have a tie for it. Answers are the
    same by the grader's comparison; which of them is right is not looked at."""
    voters = kept.select(_KEYS).join(verdicts, on=_KEYS, maintain_order="left")
    blind = pl.when(pl.col("verdict") == "correct").then(pl.lit("wrong")).otherwise("verdict")
    classes = answer_classes(voters.with_columns(verdict=blind), task.answer_kind, usable_cores())
    voters = voters.with_columns(answer=classes).filter(pl.col("answer").is_not_null())
    votes = voters.group_by("problem_id", "answer").len("votes")
    most = votes.filter(pl.col("votes") == pl.col("votes").max().over("problem_id"))
    tied = most.filter(pl.len().over("problem_id") > 1)
    winners = most.join(tied, on="problem_id", how="anti")
    return voters.join(winners, on=["problem_id", "answer"], how="semi"), tied["problem_id"].n_unique()
