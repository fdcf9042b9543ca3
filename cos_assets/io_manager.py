"""Assets in and out of the table tree.

Out: a polars frame becomes one Parquet file, with its lineage beside it. In: whatever partitions an asset needs come as
one LazyFrame, so that nobody has to ask whether it was one or several.
"""

from __future__ import annotations

from typing import Any

import dagster as dg
import polars as pl
from pydantic import PrivateAttr

from cos_assets import store
from cos_assets.columns import description
from cos_assets.partitions import as_dict
from cos_assets.places import Place, place

STOPPED_BY = "stopped_by"
"""The fact that names the checks because of which nothing may be made of a table."""


class ParquetIOManager(dg.ConfigurableIOManager):
    """Reads and writes the tree under `root`, a folder or `s3://bucket/prefix`; empty means $COS_HOME, else `.cos`."""

    root: str = ""
    _read: dict[tuple[str, str], list[tuple[dict[str, Any], list[str], str, str, dict[str, str]]]] = PrivateAttr(
        default_factory=dict
    )

    @property
    def path(self) -> Place:
        return place(self.root, "root") if self.root else store.home()

    def load_input(self, context: dg.InputContext) -> pl.LazyFrame:
        study, asset = _study_and_asset(context.asset_key)
        partitions: list[dict[str, str]] = [{}]
        if context.has_asset_partitions:
            keys = context.asset_partition_keys
            partitions = [as_dict(key, context.asset_partitions_def) for key in keys]
            order = list(context.asset_partitions_def.get_partition_keys())
            partitions = [p for _, p in sorted(zip(map(order.index, keys), partitions, strict=True))]
        read = self._read.setdefault((context.step_context.run_id, context.step_context.step.key), [])
        for partition in partitions:
            lineage = store.lineage(self.path, study, asset, partition) or {}
            version, key = lineage.get("data_version"), lineage.get("partition")
            entry = {"asset": f"{study}/{asset}", "partition": key, "data_version": version}
            failed = lineage.get("facts", {}).get(STOPPED_BY, [])
            if (entry, failed, study, asset, partition) not in read:  # a step that is tried again reads again
                read.append((entry, failed, study, asset, partition))
        return store.scan(self.path, study, asset, partitions)

    def unsound(self, context: dg.AssetExecutionContext) -> tuple[list[str], list[str]]:
        """What of the tables that a step has read is not what was written (see `store.as_recorded`), and what failed a
        check that stops it: each in a line."""
        changed, stopped = [], []
        for entry, failed, study, asset, partition in self._read.get(
            (context.run_id, context.get_step_execution_context().step.key), []
        ):
            name = f"{entry['asset']} {entry['partition'] or ''}".strip()
            if failed:
                stopped.append(f"{name}: failed {', '.join(failed)}; mend that and materialize it again")
            elif not store.as_recorded(self.path, study, asset, partition):
                file = store.folder(self.path, study, asset, partition) / store.DATA
                changed.append(f"{name}: {file} is not what was written; materialize it again")
        return changed, stopped

    def handle_output(self, context: dg.OutputContext, obj: pl.DataFrame) -> None:
        study, asset = _study_and_asset(context.asset_key)
        partition = as_dict(context.partition_key, context.asset_partitions_def) if context.has_asset_partitions else {}
        facts = (context.output_metadata or {}).get("facts")
        lineage = {
            "data_version": store.content_hash(obj),
            "code_version": context.asset_spec.code_version,
            "run_id": context.run_id,
            "inputs": [entry for entry, *_ in self._read.pop((context.run_id, context.step_context.step.key), [])],
            "facts": facts.data if isinstance(facts, dg.JsonMetadataValue) else {},
        }
        file = store.write(self.path, study, asset, partition, obj, lineage)
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
        """See to it that `cos.duckdb` is there, whoever launched the run. What was made does not depend on it."""
        from cos_assets import catalogue

        try:
            catalogue.ready(self.path)
        except Exception as error:
            context.log.warning(f"{catalogue.NAME} cannot be written: {error}")


def _study_and_asset(key: dg.AssetKey) -> tuple[str, str]:
    *study, asset = key.path
    return "/".join(study), asset
