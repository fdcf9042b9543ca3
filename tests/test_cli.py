"""Messages of `cos` after failures."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support import own_project

from cos_assets.orchestration.machine_faults import message_of
from cos_assets.storage import paths


def small_study(data: Path) -> dict[str, Any]:
    """Six problems with imported solutions, written to a file."""
    rows = [{"question": f"{n} + 1?", "answer": str(n + 1), "split": "test", "text": f"#### {n + 1}"} for n in range(6)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = {"question": "question", "completion": "text"}
    made = {"engine": "imported", "path": str(data), "params": 1e6, "columns": columns}
    task: dict[str, Any] = {"name": "jsonl", "grade": "number", "path": str(data)}
    task["columns"] = {"question": "question", "answer": "answer", "split": "split"}
    return {
        "name": "own",
        "task": task,
        "models": {"wc": made, "se": made},
        "budgets": {"one": {"se": 1}},
        "sampling": {"split": "test"},
    }


def test_an_old_answer_is_not_printed_after_a_failed_run(tmp_path: Path) -> None:
    folder, data = tmp_path / "project", tmp_path / "rows.jsonl"
    attributes = small_study(data)
    own_project.write(folder, attributes)
    first = own_project.cos(folder, "run", "own", "--jobs", "1")
    assert first.returncode == 0, first.stderr
    answer = (folder / "home" / "own" / "report" / "answer.txt").read_text().strip()
    assert answer in first.stdout and "The report with all figures" in first.stdout
    data.unlink()
    own_project.write(folder, attributes | {"task": attributes["task"] | {"limit": {"test": 4}}})
    second = own_project.cos(folder, "run", "own", "--jobs", "1")
    assert second.returncode == 1
    assert answer not in second.stdout
    page = folder / "home" / "own" / "report" / "report.html"
    assert f"own: no new conclusion; the report of the last complete run is {page}" in second.stdout
    assert "own/problems" in second.stderr


def _break(home: Path, what: str) -> None:
    dagster = home / "dagster"
    dagster.mkdir(parents=True)
    if what == "yaml":
        (dagster / "dagster.yaml").write_text("storage: [")
    elif what == "settings":
        (dagster / "dagster.yaml").write_text("nonsense: {a: 1}")
    elif what == "database":
        (dagster / "history" / "runs").mkdir(parents=True)
        (dagster / "history" / "runs" / "index.db").write_bytes(os.urandom(5000))
    else:
        (home / "cos.duckdb").mkdir()


@pytest.mark.parametrize(
    ("what", "command", "message"),
    [
        ("yaml", ["run", "own"], "dagster/dagster.yaml: while parsing a flow node"),
        ("settings", ["run", "own"], "dagster/dagster.yaml: Errors whilst loading dagster instance config"),
        ("database", ["run", "own"], "dagster: file is not a database; move this folder away"),
        ("catalogue", ["sql", "select 1"], "cos.duckdb: Is a directory"),
        ("database", ["plan", "other"], "'other' is not a study of this project; allowed: own"),
    ],
)
def test_a_broken_instance_is_reported_in_one_line(tmp_path: Path, what: str, command: list[str], message: str) -> None:
    own_project.write(tmp_path / "project", small_study(tmp_path / "rows.jsonl"))
    _break(tmp_path / "project" / "home", what)
    done = own_project.cos(tmp_path / "project", *command)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr


@pytest.mark.parametrize("rows", [0, 10, 1_000_000])
def test_a_table_that_cannot_be_written_is_reported_in_one_line(tmp_path: Path, rows: int) -> None:
    """The message of polars depends on the moment of the failed write, and may be empty."""
    file, frame = tmp_path / "samples" / "data.parquet", pl.DataFrame({"text": pl.int_range(rows, eager=True)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # the kernel refuses larger files
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            paths.replace(file, frame.write_parquet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert message_of(raised.value) == (
        f"{file}: File too large; no purchase or result is lost. Run the same command again to continue"
    )
    assert not list((tmp_path / "samples").iterdir())


def test_a_full_disk_is_reported_in_one_line(tmp_path: Path) -> None:
    def write(file: Path) -> None:
        with Path("/dev/full").open("w") as full:  # every write fails
            full.write("text")

    with pytest.raises(OSError, match="No space left on device") as raised:
        paths.replace(tmp_path / "samples" / "data.parquet", write)
    assert message_of(raised.value) == (
        f"{tmp_path / 'samples' / 'data.parquet'}: No space left on device;"
        " no purchase or result is lost. Run the same command again to continue"
    )
    assert not list((tmp_path / "samples").iterdir())
