"""What `cos run` says after a run that failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]


def project(folder: Path) -> Path:
    """A project with an empty `defs/`, as a user would have."""
    (folder / "dagster_project" / "defs" / "own").mkdir(parents=True)
    for file in ("pyproject.toml", "dagster_project/__init__.py", "dagster_project/definitions.py"):
        (folder / file).write_text((ROOT / file).read_text(encoding="utf-8"), encoding="utf-8")
    return folder


def run(folder: Path, attributes: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    contents = {"type": "cos_assets.Study", "attributes": attributes}
    (folder / "dagster_project" / "defs" / "own" / "defs.yaml").write_text(yaml.safe_dump(contents))
    surroundings = os.environ | {"COS_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    surroundings.pop("DAGSTER_HOME", None)
    command = [sys.executable, "-m", "cos_assets.cli", "run", "own", "--jobs", "1"]
    return subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True)


def test_an_old_answer_is_not_printed_after_a_run_that_failed(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    rows = [{"question": f"{n} + 1?", "answer": str(n + 1), "split": "test", "text": f"#### {n + 1}"} for n in range(6)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = {"question": "question", "completion": "text"}
    made = {"engine": "imported", "path": str(data), "params": 1e6, "columns": columns}
    task = {"name": "jsonl", "grade": "number", "path": str(data)}
    task["columns"] = {"question": "question", "answer": "answer", "split": "split"}
    attributes = {
        "name": "own",
        "task": task,
        "models": {"wc": made, "se": made},
        "budgets": {"one": {"se": 1}},
        "sampling": {"split": "test"},
    }
    first = run(folder, attributes)
    assert first.returncode == 0, first.stderr
    answer = (folder / "home" / "own" / "report" / "answer.txt").read_text().strip()
    assert answer in first.stdout and "The page with all figures" in first.stdout
    data.unlink()
    second = run(folder, attributes | {"task": task | {"limit": {"test": 4}}})
    assert second.returncode == 1
    assert answer not in second.stdout
    page = folder / "home" / "own" / "report" / "report.html"
    assert f"own: no new answer; that of the last complete run is in {page}" in second.stdout
    assert "own/problems" in second.stderr
