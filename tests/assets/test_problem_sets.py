"""A user's own problem set in Dagster: few-shot examples, imported solutions, verdicts and checks."""

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


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def study(tmp_path: Path, task: dict[str, Any], solutions: list[dict[str, Any]]) -> dict[str, Any]:
    columns = {"question": "question", "completion": "text"}
    made = {"engine": "imported", "path": write(tmp_path / "solutions.jsonl", solutions), "columns": columns}
    return {
        "name": "own",
        "task": {"name": "jsonl", **task},
        "models": {"wc": {**made, "params": 1e6}, "se": {**made, "params": 1e6}},
        "budgets": {"one": {"se": 1}},
        "sampling": {"split": "test", "shots": 1, "max_tokens": 64},
    }


def test_a_question_in_two_splits_is_reported(tmp_path: Path, materialize: Callable[[dict[str, Any]], Path]) -> None:
    rows = [
        {"question": "Capital of France?", "answer": "Paris", "split": "test"},
        {"question": "capital of  FRANCE?", "answer": "Paris", "split": "train"},
        {"question": "Capital of Italy?", "answer": "Rome", "split": "test"},
    ]
    task = {
        "path": write(tmp_path / "rows.jsonl", rows), "grade": "text", "columns": {"split": "split"},
        "examples": [{"question": "Capital of Peru?", "solution": "The answer is Lima."}],
    }  # fmt: skip
    solutions = [
        {"question": rows[0]["question"], "text": "The answer is paris."},
        {"question": rows[2]["question"], "text": "The answer is Milan."},
    ]
    root = materialize(study(tmp_path, task, solutions))
    check = dg.AssetCheckKey(dg.AssetKey(["own", "problems"]), "splits_are_disjoint")
    with instance.open_instance() as opened:
        (record, *_) = opened.event_log_storage.get_asset_check_execution_history(check, limit=1)
    outcome = record.event.asset_check_evaluation if record.event else None
    assert outcome is not None
    assert (outcome.passed, outcome.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert outcome.metadata["in_several_splits"].value == 1
    assert outcome.metadata["examples"].value == (
        "- jsonl/row/00001 (train) = jsonl/row/00000 (test): 'capital of  FRANCE?'"
    )
    verdicts = tables.scan(root, "own", "verdicts", [{"budget": "one", "model": "wc"}]).collect()
    assert verdicts["verdict"].to_list() == ["correct", "wrong"]
    samples = tables.scan(root, "own", "samples", [{"budget": "one", "model": "wc"}]).collect()
    prompts = pl.read_parquet(root / "ledger" / "**" / "part-*.parquet", hive_partitioning=False)["prompt"]
    assert samples.height == 2
    assert set(prompts) == {
        f"Question: Capital of Peru?\nAnswer:\nThe answer is Lima.\n\nQuestion: {row['question']}\nAnswer:\n"
        for row in (rows[0], rows[2])
    }


@pytest.mark.usefixtures("sandbox")
def test_programs_for_a_users_problem_set_are_run_against_its_tests(
    tmp_path: Path, materialize: Callable[[dict[str, Any]], Path]
) -> None:
    rows = [{"question": f"Add {n}.", "answer": [f"assert f(1) == {n + 1}"], "split": "test"} for n in (1, 2)]
    task = {
        "path": write(tmp_path / "rows.jsonl", rows), "grade": "tests", "columns": {"split": "split"},
        "examples": [{"question": "Add 5.", "solution": "def f(x): return x + 5"}],
    }  # fmt: skip
    solutions = [
        {"question": row["question"], "text": "So:\n```python\ndef f(x):\n    return x + 2\n```"} for row in rows
    ]
    root = materialize(study(tmp_path, task, solutions))
    verdicts = tables.scan(root, "own", "verdicts", [{"budget": "one", "model": "se"}]).collect()
    assert verdicts["verdict"].to_list() == ["wrong", "correct"]
