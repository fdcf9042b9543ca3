"""What `cos run` says after a run that failed."""

from __future__ import annotations

import json
from pathlib import Path

import own_project


def test_an_old_answer_is_not_printed_after_a_run_that_failed(tmp_path: Path) -> None:
    folder = tmp_path / "project"
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
    own_project.write(folder, attributes)
    first = own_project.cos(folder, "run", "own", "--jobs", "1")
    assert first.returncode == 0, first.stderr
    answer = (folder / "home" / "own" / "report" / "answer.txt").read_text().strip()
    assert answer in first.stdout and "The page with all figures" in first.stdout
    data.unlink()
    own_project.write(folder, attributes | {"task": task | {"limit": {"test": 4}}})
    second = own_project.cos(folder, "run", "own", "--jobs", "1")
    assert second.returncode == 1
    assert answer not in second.stdout
    page = folder / "home" / "own" / "report" / "report.html"
    assert f"own: no new answer; that of the last complete run is in {page}" in second.stdout
    assert "own/problems" in second.stderr
