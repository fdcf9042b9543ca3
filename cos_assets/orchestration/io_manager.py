"""Dagster IO manager of the table tree.

An output is a polars frame, written to one Parquet file with its lineage beside it. An input is one LazyFrame,
regardless of how many partitions the asset needs.
"""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import polars as pl
from pydantic import PrivateAttr

from cos_assets.orchestration.partitions import as_dict
from cos_assets.storage import tables
from cos_assets.storage.paths import Place, place
from cos_assets.storage.schemas import description

BETWEEN_FILES = 1.0  # seconds; a table and its lineage are two files, and a writer may have replaced only one of them
STOPPED_BY = "stopped_by"
"""The fact that names the failed checks because of which nothing may read a table."""


class _Read(NamedTuple):
    """A partition that a step has read: its entry for the lineage, and whether it may be used."""

    entry: dict[str, Any]
    recorded: bool
    stopped_by: list[str]


class ParquetIOManager(dg.ConfigurableIOManager):
    """Reads and writes the tree under `root`, a folder or `s3://bucket/prefix`; empty means $COS_HOME, else `.cos`."""

    root: str = ""
    _read: dict[tuple[str, str], dict[str, _Read]] = PrivateAttr(default_factory=dict)

    @property
    def path(self) -> Place:
        return place(self.root, "root") if self.root else tables.home()

    def load_input(self, context: dg.InputContext) -> pl.LazyFrame:
        study, asset = _study_and_asset(context.asset_key)
        partitions: list[dict[str, str]] = [{}]
        if context.has_asset_partitions:
            keys = context.asset_partition_keys
            partitions = [as_dict(key, context.asset_partitions_def) for key in keys]
            order = list(context.asset_partitions_def.get_partition_keys())
            partitions = [p for _, p in sorted(zip(map(order.index, keys), partitions, strict=True))]
        read = self._read.setdefault((context.step_context.run_id, context.step_context.step.key), {})
        files = []
        for partition in partitions:
            file, lineage, recorded = self._opened(study, asset, partition)
            files.append(file)
            entry = {"asset": f"{study}/{asset}"} | {name: lineage.get(name) for name in ("partition", "data_version")}
            name = f"{study}/{asset} {lineage.get('partition') or ''}".strip()
            # Keyed by name, because a retried step reads its inputs again.
            read[name] = _Read(entry, recorded, lineage.get("facts", {}).get(STOPPED_BY, []))
        return tables.joined(files, asset)

    def _opened(self, study: str, asset: str, partition: dict[str, str]) -> tuple[Path | BytesIO, dict[str, Any], bool]:
        """Return a table's file, its lineage.json, and whether the two agree."""
        for seconds in (0.0, BETWEEN_FILES):
            time.sleep(seconds)
            file = tables.opened(self.path, study, asset, partition)
            lineage = tables.lineage(self.path, study, asset, partition) or {}
            if tables.as_recorded(file, lineage, partition):
                return file, lineage, True
        return file, lineage, False

    def input_problems(self, context: dg.AssetExecutionContext) -> tuple[list[str], list[str]]:
        """Return two lists of messages on the tables that a step has read: those that are not as written, and those
        with a failed check that stops."""
        read = self._read.get((context.run_id, context.get_step_execution_context().step.key), {})
        changed = [
            f"{name}: its content differs from its lineage.json; materialize it again"
            for name, its in read.items()
            if not its.recorded
        ]
        stopped = [f"{name}: failed {', '.join(its.stopped_by)}" for name, its in read.items() if its.stopped_by]
        return changed, stopped

    def handle_output(self, context: dg.OutputContext, obj: pl.DataFrame) -> None:
        study, asset = _study_and_asset(context.asset_key)
        partition = as_dict(context.partition_key, context.asset_partitions_def) if context.has_asset_partitions else {}
        facts = (context.output_metadata or {}).get("facts")
        lineage = {
            "code_version": context.asset_spec.code_version,
            "run_id": context.run_id,
            "inputs": [
                its.entry for its in self._read.pop((context.run_id, context.step_context.step.key), {}).values()
            ],
            "facts": facts.data if isinstance(facts, dg.JsonMetadataValue) else {},
        }
        file = tables.write(self.path, study, asset, partition, obj, lineage)
        self._catalogue(context)
        labels = {"study": pl.String, **dict.fromkeys(sorted(partition), pl.String)}
        columns = [
            dg.TableColumn(name, str(dtype), description=description(asset, name))
            for name, dtype in (labels | dict(obj.schema)).items()
        ]
        context.add_output_metadata(
            {
                "dagster/row_count": obj.height,
                "dagster/uri": str(file),
                "dagster/column_schema": dg.TableSchema(columns=columns),
            }
        )

    def _catalogue(self, context: dg.OutputContext) -> None:
        """Make sure that `cos.duckdb` exists, however the run was launched. A failure only warns: results do not need
        it."""
        from cos_assets.storage import catalog

        try:
            catalog.ready(self.path)
        except Exception as error:
            context.log.warning(f"{catalog.NAME} cannot be written: {error}")


def _study_and_asset(key: dg.AssetKey) -> tuple[str, str]:
    *study, asset = key.path
    return "/".join(study), asset
