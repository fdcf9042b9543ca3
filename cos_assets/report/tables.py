"""The tables that a report is made from, with empty ones in place of those that a study does not have (yet)."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from cos_assets.storage.schemas import TABLES

Tables = Mapping[str, pl.DataFrame]

_READ = (
    *("problems", "budget_plan", "samples", "verdicts", "sample_metrics", "judgements", "sft_set", "checkpoints"),
    *("evals", "eval_metrics", "ablations"),
)
_EMPTY = {name: TABLES[name].empty() for name in _READ} | {
    "base_eval": TABLES["evals"].empty(),
    "labelled": pl.DataFrame(
        schema={"rater": pl.String, "problem_id": pl.String, "judge": pl.Boolean, "human": pl.Boolean}
    ),
}


def complete(tables: Tables) -> Tables:
    """Return `tables` with an empty table for each that is absent, and with null for each column that is absent."""
    found = {name: pl.concat([_EMPTY[name], table], how="diagonal_relaxed") for name, table in tables.items()}
    return {**_EMPTY, **found}
