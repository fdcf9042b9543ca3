"""Verification of samples for training: by answer, by judge, by both, by majority vote, or none."""

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
    """Return the rows of `taken` that pass verification, in their order, and facts about the verification.

    `taken` has the columns [model, problem_id, sample_index, completion, finish_reason, ...]. The facts are
    `kept_share`, the share of `taken` that is kept; `kept_wrong_share`, the share of the kept rows whose answer is
    wrong (None if the task has no gold answers); and, where a judge is used, `verification_flops` and
    `verification_cost` of the judgements of these samples (None if unknown).

    answer        the final answer is right
    none          all samples
    judge         the judge calls the reasoning right; gold answers are not used
    answer+judge  both
    answer+steps  the answer is right, and so is every equation
    vote          the answer is the most frequent one among the taken samples of the problem; a problem with a tie for
                  the most votes is left out, and counted in `tied_problems`

    The last of `judges` decides; if it is a vote, the others are its members. A truncated sample is kept with `none`
    only, and is trained on without EOS. A sample that failed, or was cut off before its first word, is never kept.
    """
    nothing = (pl.col("finish_reason") == "length") & (pl.col("completion").str.strip_chars() == "")
    kept = taken.filter(pl.col("finish_reason") != "error", ~nothing)
    facts: dict[str, Any] = {}
    if verification.startswith("answer"):
        kept = _only(kept, verdicts.filter("correct"))
    if verification in ("judge", "answer+judge", "answer+steps"):
        mine = judgements.filter(pl.col("judge").is_in(judges))
        paid = _only(mine, kept)  # another source may have had more samples judged
        kept = _only(kept, mine.filter(pl.col("judge") == judges[-1], pl.col("label") == "right"))
        for name in ("flops", "cost"):  # unknown is None, not 0
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
    """Return the samples with the most frequent answer of their problem, and the number of problems with a tie.

    Answers are equal by the grader's comparison. Verdicts are masked, so the right answer has no influence.
    """
    voters = kept.select(_KEYS).join(verdicts, on=_KEYS, maintain_order="left")
    blind = pl.when(pl.col("verdict") == "correct").then(pl.lit("wrong")).otherwise("verdict")
    classes = answer_classes(voters.with_columns(verdict=blind), task.answer_kind, usable_cores())
    voters = voters.with_columns(answer=classes).filter(pl.col("answer").is_not_null())
    votes = voters.group_by("problem_id", "answer").len("votes")
    most = votes.filter(pl.col("votes") == pl.col("votes").max().over("problem_id"))
    tied = most.filter(pl.len().over("problem_id") > 1)
    winners = most.join(tied, on="problem_id", how="anti")
    return voters.join(winners, on=["problem_id", "answer"], how="semi"), tied["problem_id"].n_unique()
