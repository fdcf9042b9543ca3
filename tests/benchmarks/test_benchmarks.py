"""A study that scores its models on a different task, through Dagster's API."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from cos_assets.orchestration import instance
from cos_assets.storage import tables
from cos_assets.tiny import shipped

SPEC = {
    "name": "transfer",
    "task": {"name": "arithmetic", "train": 20, "validation": 5, "test": 10},
    "models": {"wc": {"model": str(shipped("wc"))}, "se": {"model": str(shipped("se"))}},
    "budgets": {"one": {"se": 2}},
    "sampling": {"max_tokens": 56},
    "targets": {"student": {"model": str(shipped("student"))}},
    "finetune": {"steps": 2, "batch_size": 4, "checkpoints": 1},
    "evaluation": {
        "benchmarks": [{"name": "arithmetic", "train": 1, "validation": 1, "test": 15, "seed": 9}],
    },
}


def test_models_are_scored_on_the_benchmark(materialize: Callable[[dict[str, Any]], Path]) -> None:
    root = materialize(SPEC)
    check = dg.AssetCheckKey(dg.AssetKey(["transfer", "sft_set"]), "no_scored_problem_is_trained_on")
    with instance.open_instance() as opened:
        (record, *_) = opened.event_log_storage.get_asset_check_execution_history(check, limit=1)
    benchmark = tables.scan(root, "transfer", "benchmark_problems").collect()
    assert benchmark.height == 15
    assert set(benchmark["benchmark"]) == {"arithmetic"}
    arms = [{"budget": "one", "source": source} for source in ("wc", "se")]
    scored = tables.scan(root, "transfer", "student_eval", arms).collect()
    assert set(scored["problem_id"]) == set(benchmark["problem_id"])
    assert scored.height == 2 * 15
    report = tables.scan(root, "transfer", "report").collect().filter(pl.col("metric") == "accuracy")
    assert set(report["benchmark"]) == {"arithmetic"}
    assert set(report["n_problems"]) == {15}
    outcome = record.event.asset_check_evaluation if record.event else None
    assert outcome is not None
    assert outcome.passed
    assert outcome.metadata["scored_problems_known"].value == 0


@pytest.mark.usefixtures("sandbox")
def test_programs_and_instructions_are_graded_as_benchmarks(
    public_data: Path, materialize: Callable[[dict[str, Any]], Path]
) -> None:
    """The model can solve neither kind of task; the test checks only which grader is used."""
    benchmarks = [
        {"name": "humaneval", "path": str(public_data / "humaneval_mbpp")},
        {"name": "ifeval", "path": str(public_data / "ifeval")},
    ]
    root = materialize(SPEC | {"evaluation": {"benchmarks": benchmarks, "limit": 4, "max_tokens": 24}})
    problems = tables.scan(root, "transfer", "benchmark_problems").collect()
    assert dict(problems["benchmark"].value_counts().iter_rows()) == {"humaneval": 164, "ifeval": 540}
    scored = tables.scan(root, "transfer", "base_eval").collect()
    facts = json.loads((root / "transfer" / "base_eval" / "lineage.json").read_text())["facts"]
    figures = [f"student_ifeval_{of}_{how}" for of in ("prompt", "instruction") for how in ("strict", "loose")]
    assert all(0 <= facts[name] <= 1 for name in (*figures, "student_pass_at_1"))
    assert dict(scored["benchmark"].value_counts().iter_rows()) == {"humaneval": 4, "ifeval": 4}
    assert set(scored["verdict"]) <= {"wrong", "truncated", "correct", "no_answer"}
    report = tables.scan(root, "transfer", "report").collect().filter(pl.col("metric") == "accuracy")
    assert report["benchmark"].to_list() == ["humaneval"] * 2 + ["ifeval"] * 2
