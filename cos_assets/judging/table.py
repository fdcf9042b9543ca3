"""What every judge is given, and what it leaves: which samples are judged, and one row for each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

UNTOLD = ("unreadable", "refused", "truncated", "failed", "undecided")
"""Labels that say nothing on the reasoning, and why: no judgement could be read, the judge declined, its reply was cut,
no reply came (the next run asks again), a vote was a tie."""

SCHEMA = pl.Schema(
    {
        "problem_id": pl.String,
        "sample_index": pl.Int32,
        "control": pl.String,
        "judge": pl.String,
        "judge_version": pl.String,
        "label": pl.String,
        "first_wrong_step": pl.Int32,
        "reason": pl.String,
        "wrong_reasoning": pl.Boolean,
        "correct": pl.Boolean,
        "weight": pl.Float64,
        "flops": pl.Float64,
        "cost": pl.Float64,
    }
)


class Label(NamedTuple):
    """What a judge says of one sample: right, wrong, or one of `UNTOLD`. Steps count from 1, in the judge's own way."""

    label: str
    first_wrong_step: int | None = None
    reason: str | None = None


def draw(pool: pl.DataFrame, count: int | None, seed: int) -> pl.DataFrame:
    """`count` rows (all, if None) of `pool` [problem_id, sample_index, ...], in its order, with a column `weight`.

    One sample of each problem comes before a second of any. Problems come by a lot that depends on the seed and their
    name alone, so that two models have the same problems judged as far as both have solved them, and a larger draw
    holds a smaller one. `weight` is how many rows of its problem's pool a drawn row stands for.
    """
    lots = [
        (_lot(seed, problem, index), _lot(seed, problem))
        for problem, index in pool.select("problem_id", "sample_index").iter_rows()
    ]
    drawn = (
        pool.with_columns(pl.DataFrame(lots, schema={"_sample": pl.Binary, "_problem": pl.Binary}, orient="row"))
        .with_row_index("_order")
        .with_columns(_round=pl.col("_sample").rank("ordinal").over("problem_id"), _of=pl.len().over("problem_id"))
        .sort("_round", "_problem")
    )
    drawn = drawn.head(drawn.height if count is None else count).sort("_order")
    return drawn.with_columns(weight=pl.col("_of") / pl.len().over("problem_id")).drop(
        "_sample", "_problem", "_order", "_round", "_of"
    )


def table(rows: pl.DataFrame, judge: str, version: str, labels: Iterable[Label]) -> pl.DataFrame:
    """The judgements of one judge in the schema `SCHEMA`. `rows` are samples and controls, with flops and cost where
    the judge took any; `labels` has one for each of them."""
    told = pl.DataFrame(
        list(labels),
        schema={"label": pl.String, "first_wrong_step": pl.Int32, "reason": pl.String},
        orient="row",
    )
    wrong = pl.when(pl.col("label").is_in(["right", "wrong"])).then(pl.col("label") == "wrong")
    frame = pl.concat([rows.drop(told.columns, strict=False), told], how="horizontal").with_columns(
        judge=pl.lit(judge), judge_version=pl.lit(version), wrong_reasoning=wrong
    )
    absent = {"flops": pl.lit(0.0), "cost": pl.lit(0.0), "control": pl.lit(None, pl.String)}
    absent = {name: value for name, value in absent.items() if name not in frame.columns}
    return frame.with_columns(**absent).select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())


def of_judge(judgements: pl.DataFrame, judge: str) -> pl.DataFrame:
    """What one judge says of samples with a correct answer: what its false positive rate is made of."""
    return judgements.filter(pl.col("judge") == judge, pl.col("correct"))


def _lot(*what: object) -> bytes:
    return hashlib.sha256("/".join(map(str, what)).encode()).digest()
