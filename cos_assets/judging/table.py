"""Input and output of judges: the draw of the samples to judge, and the table of judgements with one row per sample."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from cos_assets.storage.schemas import TABLES

UNTOLD = ("unreadable", "refused", "truncated", "failed", "undecided")
"""Labels without a judgement of the reasoning. In this order: the reply contains no judgement, the judge refused, its
reply was truncated, there was no reply (the next run asks again), a vote was a tie or had no votes."""

SCHEMA = TABLES["judgements"].schema


class Label(NamedTuple):
    """A judge's label of one sample: right, wrong, or one of `UNTOLD`.

    Steps are counted from 1; what a step is depends on the judge.
    """

    label: str
    first_wrong_step: int | None = None
    reason: str | None = None


def draw(pool: pl.DataFrame, count: int | None, seed: int) -> pl.DataFrame:
    """Draw `count` rows (all, if None) of `pool` [problem_id, sample_index, ...], in its order, and add `weight`.

    One sample of each problem is drawn before a second of any. The random order of the problems depends on the seed and
    their ids only. Therefore the same problems are judged for two models, as far as both have solved them, and a larger
    draw contains a smaller one. `weight` is the number of rows of its problem in `pool` that a drawn row represents.
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
    """Return the judgements of one judge in the schema `SCHEMA`.

    `rows` are samples and controls, with `flops` and `cost` if the judge has any. `labels` contains one label per row.
    """
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
    """Return one judge's judgements of samples with a correct answer, the basis of its false positive rate."""
    return judgements.filter(pl.col("judge") == judge, pl.col("correct"))


def _lot(*what: object) -> bytes:
    return hashlib.sha256("/".join(map(str, what)).encode()).digest()
