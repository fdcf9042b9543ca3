"""A small study with a schedule, for tests: imported solutions, which are fast, and a simulated clock."""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.test_utils import freeze_time

from cos_assets import study
from cos_assets.assets import build_study
from cos_assets.orchestration import schedule
from cos_assets.orchestration.io_manager import ParquetIOManager

NAME = "timed"
NIGHT = {"cron": "0 2 * * *", "retries": 1}


def attributes(folder: Path, **more: Any) -> dict[str, Any]:
    """The study's YAML. `folder` holds its problems and the solutions of wc and se."""
    problems = [{"question": f"What is {n} + {n}?", "answer": str(2 * n), "split": "train"} for n in range(1, 7)]
    files = {"problems": problems}
    for model, right in (("wc", 3), ("se", 5)):
        texts = [f"{n} + {n} = {2 * n}. The answer is {2 * n if n <= right else 0}." for n in range(1, 7)]
        files[model] = [{"question": row["question"], "text": text} for row, text in zip(problems, texts, strict=True)]
    if not (folder / "problems.jsonl").exists():
        for name, rows in files.items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    columns = {"question": "question", "completion": "text"}
    models = {
        name: {"engine": "imported", "path": str(folder / f"{name}.jsonl"), "columns": columns, "params": 1e6}
        for name in ("wc", "se")
    }
    task = {"name": "jsonl", "path": str(folder / "problems.jsonl"), "columns": {"split": "split"}}
    return {"name": NAME, "task": task, "models": models, "budgets": {"one": {"se": 1}}, "schedule": NIGHT, **more}


def definitions(*specs: Mapping[str, Any], assets: Iterable[dg.AssetsDefinition] = ()) -> dg.Definitions:
    parsed = [study.parse(spec) for spec in specs]
    return dg.Definitions(
        assets=[*assets, *(asset for spec in parsed for asset in build_study(spec))],
        sensors=[sensor for spec in parsed for sensor in schedule.sensors(spec)],
        resources={"io_manager": ParquetIOManager()},
        executor=dg.in_process_executor,
    )


class Nights:
    """A schedule evaluated every night, shortly before and after its time."""

    def __init__(self, instance: dg.DagsterInstance, name: str = NAME) -> None:
        self.instance, self.sensor = instance, f"{name}_schedule"
        self.cursor: str | None = None
        self.told = ""  # the log of the last night's tick
        # Later than the tables of the tests, which have the time of the real clock.
        self.night = datetime.datetime.now(datetime.UTC).replace(hour=2, minute=0, second=0, microsecond=0)

    def next(self, found: dg.Definitions) -> AssetGraphSubset | None:
        """The request of the next night, or None. Every request must be one backfill."""
        self.night += datetime.timedelta(days=1)
        assert not self._look(found, self.night - datetime.timedelta(minutes=1)), "requested before its time"
        requests = self._look(found, self.night + datetime.timedelta(seconds=20))
        log = self.told
        assert not self._look(found, self.night + datetime.timedelta(seconds=50)), "requested twice"
        self.told = log
        assert len(requests) <= 1
        if not requests:
            return None
        assert requests[0].requires_backfill_daemon()
        self.tags = dict(requests[0].tags)
        return requests[0].asset_graph_subset

    def _look(self, found: dg.Definitions, at: datetime.datetime) -> list[dg.RunRequest]:
        sensor = found.get_repository_def().get_sensor_def(self.sensor)
        context = dg.build_sensor_context(self.instance, self.cursor, repository_def=found.get_repository_def())
        self.told = ""
        handler = logging.Handler()
        handler.emit = lambda record: setattr(self, "told", f"{self.told}{record.getMessage()}\n")  # type: ignore[method-assign]
        context.log.addHandler(handler)
        with freeze_time(at):
            data = sensor.evaluate_tick(context)
        self.cursor = data.cursor
        return list(data.run_requests or [])


def names(subset: AssetGraphSubset | None) -> set[str]:
    """`asset` or `asset partition` for each member of a subset."""
    units: Iterable[AssetKeyPartitionKey] = subset.iterate_asset_partitions() if subset else ()
    return {" ".join(part for part in (unit.asset_key.path[-1], unit.partition_key) if part) for unit in units}
