"""A home from before the modules moved into packages is up to date.

After a change that makes partitions stale on purpose, such as a new grader, fill the stored home again: with
`own_project`, the study below and `cos run own` in its folder, without logs, figures and `cos.duckdb`.
"""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

from support import own_project

HOME = Path(__file__).with_name("home_before_packages.tar.xz")
MADE = {
    "engine": "imported",
    "path": "rows.jsonl",
    "params": 1e6,
    "columns": {"question": "question", "completion": "text"},
}
STUDY = {
    "name": "own",
    "task": {
        "name": "jsonl",
        "grade": "number",
        "path": "rows.jsonl",
        "columns": {"question": "question", "answer": "answer", "split": "split"},
    },
    "models": {"wc": MADE, "se": MADE},
    "budgets": {"one": {"se": 1}},
    "sampling": {"split": "test"},
}


def test_a_home_of_an_earlier_version_is_up_to_date(tmp_path: Path) -> None:
    with tarfile.open(HOME) as archive:
        archive.extractall(tmp_path, filter="data")
    own_project.write(tmp_path, STUDY)
    done = own_project.cos(tmp_path, "run", "own", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "own: all 13 partitions are up to date; nothing to do." in done.stdout
    launcher = (tmp_path / "home" / "dagster" / "dagster.yaml").read_text(encoding="utf-8")
    assert "module: cos_assets.orchestration.run_launcher" in launcher

    shutil.rmtree(tmp_path / "home" / "own" / "verdicts" / "budget=one" / "model=wc")
    done = own_project.cos(tmp_path, "run", "own", "--dry-run")
    assert "verdicts               its files have changed since they were written" in done.stdout
    assert done.stdout.endswith("Nothing was made.\n")
