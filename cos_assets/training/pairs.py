"""Rows for training on preferences: right and wrong samples of the same problem, from one purchase.

`objective: dpo` pairs a right sample with a wrong one (Rafailov et al. 2023, arXiv 2305.18290). `objective: kto` takes
both kinds as they are, with a label (Ethayarajh et al. 2024, arXiv 2402.01306).
"""

from __future__ import annotations

import hashlib

import polars as pl

_KEYS = ["model", "problem_id", "sample_index"]


def rejected(taken: pl.DataFrame, verdicts: pl.DataFrame) -> pl.DataFrame:
    """Return the samples of `taken` that are complete and state a wrong answer, in their order.

    A sample that was cut off or states no answer is no example of wrong reasoning, so it is left out.
    """
    wrong = verdicts.filter(pl.col("verdict") == "wrong").select(_KEYS)
    complete = pl.col("finish_reason") == "stop"
    return taken.filter(complete).join(wrong, on=_KEYS, how="semi", maintain_order="left")


def paired(right: pl.DataFrame, wrong: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return `right` with the columns rejected, rejected_reasoning, rejected_model and rejected_index.

    The samples of a problem are put in a random order by the seed, the right and the wrong ones apart, and paired. A
    problem has as many pairs as it has samples of the rarer kind. Each sample is in one pair at most.
    """
    names = {"rejected": "completion", "rejected_reasoning": "reasoning"}
    names |= {"rejected_model": "model", "rejected_index": "sample_index"}
    others = wrong.select("problem_id", _place=_places(wrong, f"{seed}/rejected"), **names)
    pairs = right.with_columns(_place=_places(right, f"{seed}/chosen"))
    return pairs.join(others, on=["problem_id", "_place"], maintain_order="left").drop("_place")


def labelled(right: pl.DataFrame, wrong: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return both with the column desirable, in a random order within each problem, by the seed."""
    rows = pl.concat([right.with_columns(desirable=True), wrong.with_columns(desirable=False)])
    order = rows["problem_id"].unique(maintain_order=True).to_frame().with_row_index("_problem")
    places = rows.with_columns(_place=_places(rows, f"{seed}/desirable"))
    sorted_rows = places.join(order, on="problem_id", maintain_order="left").sort("_problem", "_place")
    return sorted_rows.drop("_problem", "_place")


def _places(rows: pl.DataFrame, seed: str) -> pl.Series:
    """Return the place of each row in the random order of its problem, from 0."""
    keys = zip(*(rows[name].cast(pl.String) for name in _KEYS), strict=True)
    lots = [hashlib.sha256("/".join([seed, *key]).encode()).hexdigest() for key in keys]
    drawn = rows.with_columns(_lot=pl.Series(lots, dtype=pl.String))
    return drawn.select(pl.col("_lot").rank("ordinal").over("problem_id").cast(pl.Int64) - 1).to_series()
