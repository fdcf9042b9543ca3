"""Runs and `cos sql` with changed, damaged and removed tables. Models: see test_end_to_end.py."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from support import Silent

from cos_assets import study
from cos_assets.assets import build_study
from cos_assets.orchestration import executor, graph, instance
from cos_assets.orchestration.io_manager import ParquetIOManager
from cos_assets.orchestration.selection import named
from cos_assets.storage import catalog, tables
from cos_assets.study import environment


class Study:
    """Six problems with imported solutions; runs are executed in this process."""

    def __init__(self, folder: Path) -> None:
        data = folder / "rows.jsonl"
        rows = [{"question": f"{n} + 1?", "answer": str(n + 1), "text": f"#### {n + n % 2}"} for n in range(6)]
        data.write_text("".join(json.dumps(row | {"split": "test"}) + "\n" for row in rows), encoding="utf-8")
        made = {"engine": "imported", "path": str(data), "params": 1e6}
        made["columns"] = {"question": "question", "completion": "text"}
        columns = {"question": "question", "answer": "answer", "split": "split"}
        attributes: dict[str, Any] = {
            "name": "own",
            "task": {"name": "jsonl", "grade": "number", "path": str(data), "columns": columns},
            "models": {"wc": made, "se": made},
            "budgets": {"one": {"se": 1}},
            "sampling": {"split": "test"},
        }
        self.attributes = attributes
        expanded, written = environment.expand(attributes)
        resources = {"io_manager": ParquetIOManager()}
        assets = build_study(study.parse(expanded, written=written))
        self.root = instance.prepare()
        assert isinstance(self.root, Path)
        self.graph = graph.Graph(dg.Definitions(assets, resources=resources, executor=dg.in_process_executor))

    def run(self, *again: str) -> int:
        """Bring everything up to date like `cos run`, and return the number of partitions made."""
        units = self.graph.units(self.graph.keys())
        batches, forced = self.graph.batches(units), named(units, again)
        with instance.open_instance() as dagster:
            todo = self.graph.due(dagster, batches, forced)
            summary = executor.run(self.graph, dagster, batches, Silent(), 1, forced, todo)
        assert not summary.failed
        return summary.made

    def due(self, confidence: float | None = None, again: tuple[str, ...] = ()) -> dict[str, dict[str, str]]:
        """The stale assets of each batch with the reason; optionally with another confidence in the YAML."""
        of = self.graph if confidence is None else self.with_confidence(confidence)
        units = of.units(of.keys())
        batches, forced = of.batches(units), named(units, again)
        with instance.open_instance() as dagster:
            found = of.due(dagster, batches, forced)
            # Checking all partitions at once gives the same result as checking each batch.
            single = {batch.name: of.stale(dagster, batch, forced) for batch in batches}
        assert {name: list(reasons) for name, reasons in found.items()} == {k: v for k, v in single.items() if v}
        return {name: {key.path[-1]: why for key, why in reasons.items()} for name, reasons in found.items()}

    def with_confidence(self, confidence: float) -> graph.Graph:
        assets = build_study(study.parse(self.attributes | {"confidence": confidence}))
        resources = {"io_manager": ParquetIOManager()}
        return graph.Graph(dg.Definitions(assets, resources=resources, executor=dg.in_process_executor))

    def table(self, asset: str, partition: str = "budget=one/model=wc") -> Path:
        return self.root / "own" / asset / partition / tables.DATA

    def versions(self) -> dict[str, str]:
        files = sorted((self.root / "own").rglob(tables.LINEAGE))
        return {str(file.parent): json.loads(file.read_text())["data_version"] for file in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COS_HOME", str(folder / "home"))
        patch.delenv("DAGSTER_HOME", raising=False)
        found = Study(folder)
        found.run()
        yield found


def remove(file: Path) -> None:
    file.unlink()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:500])


def turn(file: Path) -> None:
    """A table with the same columns, in which every verdict is correct."""
    pl.read_parquet(file).with_columns(verdict=pl.lit("correct"), correct=pl.lit(True)).write_parquet(file)


def remove_folder(file: Path) -> None:
    shutil.rmtree(file.parent)


def empty_lineage(file: Path) -> None:
    (file.parent / tables.LINEAGE).write_text("")


def test_every_stale_partition_has_a_reason(made: Study) -> None:
    """The output of `cos run --dry-run`."""
    assert made.due() == {}
    assert made.due(again=("report",)) == {"own/report": {"report": "requested by --again"}}
    batches = {f"own budget|model one|{model}": "sample_metrics" for model in ("wc", "se")}
    batches |= {"own/budget_plan": "budget_plan", "own/report": "report"}
    assert made.due(confidence=0.9) == {name: {asset: "has a new code version"} for name, asset in batches.items()}
    kept = made.table("samples").read_bytes()
    made.table("samples").unlink()
    assert made.due() == {
        "own budget|model one|wc": {
            "samples": "its files have changed since they were written",
            "verdicts": "reads samples",
            "judgements": "reads samples, verdicts",
            "sample_metrics": "reads verdicts",
        }
    }
    made.table("samples").write_bytes(kept)


@pytest.mark.parametrize(
    ("asset", "damage"),
    [
        *(("samples", remove), ("samples", cut), ("verdicts", cut), ("verdicts", turn), ("samples", remove_folder)),
        ("verdicts", empty_lineage),
    ],
)
def test_a_damaged_table_is_made_again(made: Study, asset: str, damage: Callable[[Path], None]) -> None:
    before = made.versions()
    assert made.run() == 0
    damage(made.table(asset))
    assert made.run() >= 1
    assert made.versions() == before
    assert made.run() == 0


def test_a_table_with_only_a_new_timestamp_is_not_made_again(made: Study) -> None:
    os.utime(made.table("samples"), (time.time(), time.time()))
    assert made.run() == 0


def test_again_remakes_the_named_partitions_and_assets(made: Study) -> None:
    before = made.versions()
    assert made.run("one|wc") >= 2
    assert made.run("problems") == 1
    assert made.versions() == before
    with pytest.raises(ValueError, match=r"--again 'nothing': allowed are one\|wc, one\|se, problems, "):
        made.run("nothing")


def test_removed_tables_are_named(made: Study) -> None:
    assert catalog.gone(made.root, "SELECT count(*) FROM samples") == []
    folder = made.table("samples").parent
    folder.rename(aside := made.root.parent / "aside")
    try:
        assert catalog.gone(made.root, "SELECT count(*) FROM samples") == ["own/samples one|wc"]
        assert catalog.gone(made.root, "SELECT count(*) FROM problems") == []
    finally:
        aside.rename(folder)
    made.table("samples").rename(file := made.root.parent / "aside.parquet")
    try:
        assert catalog.gone(made.root, "SELECT count(*) FROM samples") == ["own/samples one|wc"]
    finally:
        file.rename(made.table("samples"))
