"""The tables that a report is made from, with empty ones in place of those that a study does not have (yet)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from cos_assets.metrics.evaluated import SCHEMA as EVAL_METRICS

Tables = Mapping[str, pl.DataFrame]

_SAMPLE: dict[str, Any] = {
    "budget": pl.String,
    "model": pl.String,
    "problem_id": pl.String,
    "sample_index": pl.Int32,
}
_ANSWER: dict[str, Any] = {
    "budget": pl.String,
    "source": pl.String,
    "target": pl.String,
    "benchmark": pl.String,
    "problem_id": pl.String,
    "correct": pl.Boolean,
}
# Only the columns that the report reads.
_EMPTY: dict[str, dict[str, Any]] = {
    "problems": {"problem_id": pl.String, "split": pl.String},
    "budget_plan": {
        "budget": pl.String,
        "model": pl.String,
        "samples": pl.Int64,
        "exact_samples": pl.Float64,
        "mismatch": pl.Float64,
        "reference": pl.Boolean,
        "params": pl.Float64,
        "unit_cost": pl.Float64,
        "tokens_per_second": pl.Float64,
    },
    "samples": _SAMPLE
    | {"finish_reason": pl.String, "completion_tokens": pl.Int64, "flops": pl.Float64, "cost": pl.Float64},
    "verdicts": _SAMPLE
    | {"verdict": pl.String, "correct": pl.Boolean, "text_key": pl.String, "equations_key": pl.String},
    "sample_metrics": {
        "budget": pl.String,
        "model": pl.String,
        "metric": pl.String,
        "distinct": pl.String,
        "denominator": pl.String,
        "level": pl.String,
        "k": pl.Int64,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
    },
    "judgements": _SAMPLE
    | {"control": pl.String, "judge": pl.String, "correct": pl.Boolean}
    | {"weight": pl.Float64, "wrong_reasoning": pl.Boolean},
    "labelled": {"rater": pl.String, "problem_id": pl.String, "judge": pl.Boolean, "human": pl.Boolean},
    "sft_set": _SAMPLE | {"source": pl.String},
    "checkpoints": {
        "budget": pl.String,
        "source": pl.String,
        "target": pl.String,
        "examples": pl.Int64,
        "epochs": pl.Float64,
        "chosen_step": pl.Int64,
        "steps": pl.Int64,
        "validation_accuracy": pl.Float64,
        "tokens": pl.Int64,
        "flops": pl.Float64,
    },
    "evals": _ANSWER,
    "base_eval": _ANSWER,
    "eval_metrics": dict(EVAL_METRICS),
    "ablations": {
        **dict.fromkeys(("budget", "arm", "reference", "target", "benchmark", "better"), pl.String),
        **dict.fromkeys(("arm_value", "arm_low", "arm_high", "difference", "low", "high"), pl.Float64),
    },
}


def complete(tables: Tables) -> Tables:
    """Return `tables` with an empty table for each that is absent."""
    return {name: pl.DataFrame(schema=schema) for name, schema in _EMPTY.items()} | dict(tables)
