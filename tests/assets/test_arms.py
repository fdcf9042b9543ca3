"""Data arms of one study: all are drawn from the same ledger, and none buys samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets import tiny
from cos_assets.storage import tables

Made = Callable[[dict[str, Any]], Path]
SPEC = {
    "name": "arms",
    "task": {"name": "arithmetic", "train": 40, "validation": 1, "test": 2},
    "models": {name: {"model": str(tiny.shipped(name))} for name in ("wc", "se")},
    "budgets": {"low": {"se": 3}},
    "sampling": {"top_k": 3, "max_tokens": 56},
}
SOURCES = {
    "half": {"take": {"wc": 1.0}, "problems": 0.5},
    "wc_matched": {"take": {"wc": 1.0}, "rows": 20},
    "se_matched": {"take": {"se": 1.0}, "rows": 20},
    "mix": {"take": {"wc": 0.5, "se": 0.5}, "max_per_problem": 2, "deduplicate": "equations"},
    "near": {"take": {"wc": 1.0}, "deduplicate": "near"},
    "even": {"take": {"se": 1.0}, "balance": "level"},
    "gt": {"reference_solutions": True, "problems": 10},
    "greedy": {"take": {"se": 1.0}, "rows": 500},
}


def test_all_arms_are_drawn_from_one_ledger_and_none_buys(materialize: Made) -> None:
    root = materialize(SPEC | {"sources": SOURCES})
    ledger = pl.concat([pl.read_parquet(f, hive_partitioning=False) for f in (root / "ledger").rglob("part-*.parquet")])
    assert ledger.height == 40 * (3 + 9)
    rows = {
        name: tables.scan(root, "arms", "sft_set", [{"budget": "low", "source": name}]).collect()
        for name in ("wc", "se", *SOURCES)
    }
    keys = ["model", "problem_id", "sample_index", "completion"]
    for name in ("half", "wc_matched", "se_matched", "near", "even", "greedy"):
        own = rows["se" if name in ("se_matched", "even", "greedy") else "wc"]
        assert rows[name].join(own, on=keys, how="anti").is_empty(), name
    assert rows["half"]["problem_id"].n_unique() <= 20
    assert rows["half"].height == rows["wc"].join(rows["half"], on="problem_id", how="semi").height
    assert rows["wc_matched"].height == rows["se_matched"].height == 20
    assert rows["mix"].group_by("problem_id").len()["len"].max() == 2
    assert rows["near"]["problem_id"].unique().sort().equals(rows["wc"]["problem_id"].unique().sort())
    levels = tables.scan(root, "arms", "problems").select("problem_id", "level").collect()
    assert rows["even"].join(levels, on="problem_id")["level"].value_counts()["count"].n_unique() == 1
    assert rows["gt"].height == 10
    assert rows["greedy"].equals(rows["se"].with_columns(source=pl.lit("greedy")))


def test_a_source_with_too_many_problems_is_refused_before_a_purchase(materialize: Made) -> None:
    with pytest.raises(
        AssertionError,
        match=r"sources\.half\.problems: 41 is more than the 40 problems that are sampled",
    ):
        materialize(SPEC | {"sources": {"half": {"take": {"wc": 1.0}, "problems": 41}}})
