"""Status of partitions: which ones `cos run` and schedules have to materialize.

A partition is due if Dagster's own rules make it missing or stale, by data versions (equal content is no change) and
code versions. It is also due if a blocking check failed, or if its files are not as they were written: the table, or
the model that the table names. Dagster itself counts both as materialized.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

from cos_assets.orchestration.dagster_private import (
    AssetCheckExecutionRecordStatus,
    AssetRecord,
    BaseAssetGraph,
    CachingStaleStatusResolver,
    LoadingContext,
    PartitionKeyFilter,
    StaleCause,
    StaleStatus,
)
from cos_assets.orchestration.partitions import as_dict
from cos_assets.storage import tables
from cos_assets.storage.paths import ObjectPath
from cos_assets.training import checkpoints

_PAGE = 5000
_IDS = 500  # storage ids in one query
_TOLD = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


class PartitionStatus:
    """Status of the partitions of a graph at one moment. Each is looked up once."""

    def __init__(self, instance: dg.DagsterInstance, graph: BaseAssetGraph, loading: LoadingContext) -> None:
        self.log, self.graph, self.loading = instance.event_log_storage, graph, loading
        self.latest: dict[dg.AssetKey, dict[str, dg.EventLogRecord]] = {}
        self.resolver = CachingStaleStatusResolver(self._answering(instance), graph, loading)
        self.is_blocked = cache(self._is_blocked)
        self.intact = cache(self._intact)
        self.root = tables.home()
        self.listed = cache(self._listed)
        self.said: dict[dg.AssetCheckKey, dict[str | None, dg.AssetCheckEvaluation | None]] = {}

    def prefetch(self, keys: Collection[dg.AssetKey], every_partition: bool = False) -> None:
        """Look up these assets in one query instead of one per asset.

        With `every_partition`, also look up the results of their blocking checks: one query for all partitions of a
        check instead of one per partition.
        """
        AssetRecord.blocking_get_many(self.loading, keys)
        if not every_partition:
            return
        for key in keys:
            if self.graph.has(key) and self.graph.get(key).is_partitioned and self.graph.get(key).is_materializable:
                self.latest[key] = self._latest(key)
        for check in self.graph.get_check_keys_for_assets(set(keys)):
            if self.graph.get(check).blocking:
                self.said[check] = self._said(check)

    def _latest(self, key: dg.AssetKey) -> dict[str, dg.EventLogRecord]:
        """Return the last materialization of each partition of an asset, with a few queries."""
        kind = dg.DagsterEventType.ASSET_MATERIALIZATION
        ids = list(self.log.get_latest_storage_id_by_partition(key, kind).values())
        records: list[dg.EventLogRecord] = []
        for start in range(0, len(ids), _IDS):
            wanted = dg.EventRecordsFilter(kind, asset_key=key, storage_ids=ids[start : start + _IDS])
            records += self.log.get_event_records(wanted)
        return {record.partition_key or "": record for record in records}

    def _answering(self, instance: dg.DagsterInstance) -> dg.DagsterInstance:
        """Return the instance, answering from `latest` what Dagster asks with one query for each partition."""
        answering = copy.copy(instance)

        def fetch(records_filter: Any, limit: int, *args: Any, **more: Any) -> Any:
            key = getattr(records_filter, "asset_key", None)
            partition = next(iter(getattr(records_filter, "asset_partitions", None) or ()), None)
            simple = dg.AssetRecordsFilter(key, asset_partitions=[partition]) if key and partition else None
            if key in self.latest and partition and limit == 1 and records_filter == simple:
                record = self.latest[key].get(partition)
                return dg.EventRecordsResult([record] if record else [], "", has_more=False)
            return instance.fetch_materializations(records_filter, limit, *args, **more)

        def last(
            key: dg.AssetKey,
            is_source: bool | None = None,
            partition_key: str | None = None,
            before_cursor: int | None = None,
            after_cursor: int | None = None,
        ) -> dg.EventLogRecord | None:
            if key in self.latest and partition_key is not None and before_cursor is None:
                record = self.latest[key].get(partition_key)
                return record if record and record.storage_id > (after_cursor or 0) else None
            return instance.get_latest_data_version_record(key, is_source, partition_key, before_cursor, after_cursor)

        answering.fetch_materializations = fetch  # type: ignore[method-assign]
        answering.get_latest_data_version_record = last  # type: ignore[method-assign]
        return answering

    def why(self, key: dg.AssetKey, partition: str | None) -> str | None:
        """Return why a partition has to be materialized; None where it is up to date."""
        status = self.resolver.get_status(key, partition)
        if status == StaleStatus.MISSING:
            return "missing"
        if status == StaleStatus.STALE:
            causes = self.resolver.get_stale_causes(key, partition)
            return "; ".join(dict.fromkeys(map(_sentence, causes))) or "stale"
        if self.is_blocked(key, partition):
            return "failed a check"
        return None if self.intact(key, partition) else "its files have changed since they were written"

    def is_up_to_date(self, key: dg.AssetKey, partition: str | None) -> bool:
        return self.why(key, partition) is None

    def _listed(self, study: str) -> set[ObjectPath]:
        assert isinstance(self.root, ObjectPath)
        return tables.listed(self.root, study)

    def _intact(self, key: dg.AssetKey, partition: str | None) -> bool:
        node = self.graph.get(key)
        if not node.is_materializable:
            return True
        *study, asset = key.path
        where = as_dict(partition, node.partitions_def) if partition is not None else {}
        if not isinstance(self.root, Path):  # object stores: files are compared with their digests when fetched
            return tables.folder(self.root, "/".join(study), asset, where) / tables.DATA in self.listed("/".join(study))
        if not tables.intact(self.root, "/".join(study), asset, where):
            return False
        if not asset.endswith("_checkpoint"):
            return True
        return checkpoints.intact(self.root, tables.scan(self.root, "/".join(study), asset, [where]).collect())

    def _is_blocked(self, key: dg.AssetKey, partition: str | None) -> bool:
        here = PartitionKeyFilter(key=partition)
        for check in self.graph.get_check_keys_for_assets({key}):
            if check in self.said:
                if blocks_downstream(self.said[check].get(partition)):
                    return True
            elif self.graph.get(check).blocking:
                told = self.log.get_asset_check_execution_history(check, 1, None, _TOLD, here)
                if told and blocks_downstream(told[0].evaluation):
                    return True
        return False

    def _said(self, check: dg.AssetCheckKey) -> dict[str | None, dg.AssetCheckEvaluation | None]:
        """Return the last evaluation of a check on each partition.

        Evaluations that a killed run planned but did not make are ignored; the ones before them count.
        """
        latest: dict[str | None, dg.AssetCheckEvaluation | None] = {}
        cursor = None
        while page := self.log.get_asset_check_execution_history(check, _PAGE, cursor, _TOLD):
            for record in page:
                latest.setdefault(record.partition, record.evaluation)
            cursor = page[-1].id
        return latest


def _sentence(cause: StaleCause) -> str:
    """Return Dagster's reason, preceded by the table that it is about where that is another one."""
    other = cause.dependency_asset_key
    return cause.reason if other is None else f"{other.path[-1]} {cause.reason.removeprefix('has ')}"


def blocks_downstream(check: dg.AssetCheckEvaluation | None) -> bool:
    """Return whether the outcome of a check blocks the assets that read from the partition."""
    error = dg.AssetCheckSeverity.ERROR
    return check is not None and bool(check.blocking) and not check.passed and check.severity == error
