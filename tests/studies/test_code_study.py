"""Programs as solutions: a study on MBPP whose samples are graded by its tests in the sandbox."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets import tasks
from cos_assets.storage import tables

PROBLEMS = 6


@pytest.mark.usefixtures("sandbox")
def test_a_study_grades_programs_by_their_tests(
    public_data: Path, tmp_path: Path, materialize: Callable[[dict[str, Any]], Path]
) -> None:
    task = {
        "name": "mbpp",
        "path": str(public_data / "humaneval_mbpp"),
        "limit": {"train": PROBLEMS},
    }
    train = tasks.make(task).load().filter(pl.col("split") == "train")
    assert train.height == PROBLEMS
    # WC: three samples, the second is correct for even problems; SE: one correct sample. All are in a Markdown fence,
    # after a draft that is ignored. WC's rows have the published id, SE's the published text.
    for name in ("wc", "se"):
        lines = []
        for number, (problem_id, question, right) in enumerate(
            train.select("problem_id", "question", "solution").iter_rows()
        ):
            task_id, published = int(problem_id.rpartition("/")[2]), question.partition(" Your code should pass")[0]
            lines.append(json.dumps({"id": task_id, "asked": published, "text": "x = 1", "kind": "draft"}))
            samples = (
                [right] if name == "se" else ["while True: pass", right if number % 2 == 0 else "x = 1", "def f(:"]
            )
            for text in samples:
                text = f"Here it is.\n```python\n{text}\n```\n"
                lines.append(json.dumps({"id": task_id, "asked": published, "text": text, "kind": "final"}))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    root = materialize(
        {
            "name": "code",
            "task": task,
            "models": {
                name: {
                    "engine": "imported",
                    "params": params,
                    "path": str(tmp_path / f"{name}.jsonl"),
                    "columns": {**match, "completion": "text"},
                    "where": {"kind": "final"},
                }
                for name, params, match in (("wc", 1e9, {"problem_id": "id"}), ("se", 3e9, {"question": "asked"}))
            },
            "budgets": {"one": {"se": 1}},
        }
    )
    parts = [{"budget": "one", "model": model} for model in ("wc", "se")]
    verdicts = tables.scan(root, "code", "verdicts", parts).collect()
    counts = dict(verdicts.group_by("model").agg(pl.col("correct").sum()).iter_rows())
    assert counts == {"wc": PROBLEMS // 2, "se": PROBLEMS}
    reasons = verdicts.filter(pl.col("model") == "wc")["reason"].drop_nulls()
    assert reasons.str.contains("time limit").sum() == PROBLEMS
    assert reasons.str.contains("SyntaxError").sum() == PROBLEMS
    covered = tables.scan(root, "code", "report").collect().row(by_predicate=pl.col("metric") == "coverage", named=True)
    assert (covered["weak_value"], covered["strong_value"], covered["k_weak"]) == (0.5, 1.0, 3)
