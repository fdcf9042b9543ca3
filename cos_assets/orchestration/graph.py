"""The asset graph as batches: which partitions to materialize, and in which order.

A *batch* is what one Dagster run materializes: the assets of one partition that share their partitioning, or one asset
without partitions. Batches wait for the batches they read from. Each is examined only when its turn comes, so an asset
that was materialized again with equal content does not cause its downstream assets to be made.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Container, Iterable
from dataclasses import dataclass, field

import dagster as dg

from cos_assets.orchestration.checks import sentence
from cos_assets.orchestration.dagster_private import LoadingContextForTest
from cos_assets.orchestration.due import PartitionStatus, blocks_downstream
from cos_assets.orchestration.partitions import dimensions
from cos_assets.orchestration.run_launcher import PROCESS_TAG
from cos_assets.storage.processes import gone, identity

_PLAIN = re.compile(r"""(?<![\w/:"'])[A-Za-z_]\w*(?![\w/:"'(])""")  # a plain name: not part of a key, no attribute
Unit = tuple[dg.AssetKey, str | None]
"""One partition of an asset; None where it has no partitions."""


@dataclass
class Batch:
    name: str
    partition: str | None
    assets: list[dg.AssetKey]
    """In dependency order."""
    needs: set[str] = field(default_factory=set)
    """Names of the batches that must be settled first."""
    reads: dict[dg.AssetKey, set[Unit]] = field(default_factory=dict)
    """The units that each asset reads directly."""

    @property
    def model(self) -> str:
        """What the batch's process keeps loaded: batches that sample the same model share it, over all budgets."""
        return f"{self.name.rpartition(' ')[0]} {(self.partition or '').rpartition('|')[2]}"


@dataclass(frozen=True)
class Outcome:
    """Result of a batch: the assets made, and the reasons of those that failed."""

    made: tuple[dg.AssetKey, ...]
    failed: dict[dg.AssetKey, str]
    seconds: float
    run_id: str = ""
    warned: tuple[str, ...] = ()
    """Failed checks that block nothing, one line each."""
    killed: bool = False
    """Whether the system killed the process that made it."""


class Graph:
    """The asset graph of a code location, in terms of units and batches."""

    def __init__(self, definitions: dg.Definitions) -> None:
        self.definitions = definitions
        self.graph = definitions.resolve_asset_graph()
        # Excludes people's labels, which no run makes.
        self._made = [key for key in self.graph.toposorted_asset_keys if self.graph.get(key).is_materializable]

    def studies(self) -> list[str]:
        return sorted({key.path[0] for key in self.graph.get_all_asset_keys()})

    def keys(self, study: str | None = None) -> list[dg.AssetKey]:
        """Return the materializable assets of a study, or of all studies, in dependency order."""
        return [key for key in self._made if study is None or key.path[0] == study]

    def with_ancestors(self, keys: Iterable[dg.AssetKey]) -> list[dg.AssetKey]:
        wanted = set(keys)
        for key in reversed(self.graph.toposorted_asset_keys):
            if key in wanted:
                wanted |= set(self.graph.get(key).parent_keys)
        return [key for key in self._made if key in wanted]

    def select(self, study: str, selection: str) -> list[dg.AssetKey]:
        """Return the assets that a comma-separated list of selections names, in Dagster's syntax.

        Examples are `+report` and `verdicts or samples+`. A plain name means the asset of `study` with that name.
        Raises ValueError for a selection that Dagster cannot parse or resolve.
        """
        found: set[dg.AssetKey] = set()
        own = {key.path[-1] for key in self.keys(study)}

        def whole(word: re.Match[str]) -> str:
            return f'key:"{study}/{word[0]}"' if word[0] in own else word[0]

        for part in selection.split(","):
            name = part.strip()
            try:
                found |= set(dg.AssetSelection.from_string(_PLAIN.sub(whole, name)).resolve(self.graph))
            except Exception as error:  # the selection's parser and resolver raise several kinds
                allowed = ", ".join(key.path[-1] for key in self.keys(study))
                raise ValueError(f"--select {name!r}: {str(error).splitlines()[0]}; assets: {allowed}") from None
        return [key for key in self._made if key in found]

    def units(self, keys: Iterable[dg.AssetKey]) -> list[Unit]:
        """Return every partition of the assets, in the order of `keys`."""
        units: list[Unit] = []
        for key in keys:
            partitions = self.graph.get(key).partitions_def
            names = partitions.get_partition_keys() if partitions else [None]
            units += [(key, name) for name in names]
        return units

    def parents(self, unit: Unit) -> set[Unit]:
        found = self.graph.get_parents_partitions(*unit).parent_partitions
        return {(parent.asset_key, parent.partition_key) for parent in found}

    def reads_any(self, unit: Unit, of: set[Unit]) -> bool:
        """Return whether a unit reads, directly or indirectly, from one of the units `of`."""
        seen, frontier = {unit}, {unit}
        while frontier:
            frontier = {parent for one in frontier for parent in self.parents(one)} - seen
            if frontier & of:
                return True
            seen |= frontier
        return False

    def batches(self, units: Iterable[Unit]) -> list[Batch]:
        """Group the units into batches, with what each reads and needs."""
        batches: dict[str, Batch] = {}
        home: dict[Unit, str] = {}
        for key, partition in units:
            name = self._batch_name(key, partition)
            home[key, partition] = name
            batches.setdefault(name, Batch(name, partition, [])).assets.append(key)
        for unit, name in home.items():
            reads = batches[name].reads[unit[0]] = self.parents(unit)
            batches[name].needs |= {home[parent] for parent in reads if parent in home} - {name}
        return list(batches.values())

    def due(
        self, instance: dg.DagsterInstance, batches: Collection[Batch], again: Container[Unit] = ()
    ) -> dict[str, dict[dg.AssetKey, str]]:
        """Return {batch: {asset: reason}} of what has to be made; batches that are up to date are left out."""
        status = self._status(instance)
        status.prefetch({key for batch in batches for key in self._looked_at(batch)}, every_partition=True)
        found = {batch.name: self._due(status, batch, again) for batch in batches}
        return {name: keys for name, keys in found.items() if keys}

    def stale(self, instance: dg.DagsterInstance, batch: Batch, again: Container[Unit] = ()) -> list[dg.AssetKey]:
        """Return the batch's assets that are not up to date or in `again`, and those that read from these."""
        status = self._status(instance)
        status.prefetch(self._looked_at(batch))
        return list(self._due(status, batch, again))

    def _looked_at(self, batch: Batch) -> set[dg.AssetKey]:
        return {key for asset in batch.assets for key in (asset, *self.graph.get(asset).parent_keys)}

    @staticmethod
    def _due(status: PartitionStatus, batch: Batch, again: Container[Unit]) -> dict[dg.AssetKey, str]:
        todo: dict[dg.AssetKey, str] = {}
        for key in batch.assets:
            new = [made.path[-1] for made in todo if (made, batch.partition) in batch.reads[key]]
            reason = "requested by --again" if (key, batch.partition) in again else status.why(key, batch.partition)
            if reason := reason or (f"reads {', '.join(new)}" if new else None):
                todo[key] = reason
        return todo

    def stopped(self, instance: dg.DagsterInstance, units: Iterable[Unit]) -> set[Unit]:
        """Return the units that failed a blocking check, so that nothing may read them."""
        status = self._status(instance)
        return {unit for unit in units if status.is_blocked(*unit)}

    def _status(self, instance: dg.DagsterInstance) -> PartitionStatus:
        return PartitionStatus(instance, self.graph, LoadingContextForTest(instance))

    def _batch_name(self, key: dg.AssetKey, partition: str | None) -> str:
        if partition is None:
            return key.to_user_string()
        partitions = self.graph.get(key).partitions_def
        assert partitions is not None
        return f"{key.path[0]} {'|'.join(dimensions(partitions))} {partition}"


def materialize(
    definitions: dg.Definitions, instance: dg.DagsterInstance, assets: list[dg.AssetKey], partition: str | None
) -> Outcome:
    """Run Dagster in this process. A failed asset does not stop the assets that do not read from it."""
    started = time.perf_counter()
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance,
        asset_selection=assets,
        partition_key=partition,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},  # the UI has the log
        tags={PROCESS_TAG: identity() or ""},
    )
    materialized = [e.asset_key for e in result.get_asset_materialization_events() if e.asset_key is not None]
    failed = {key: "not reached: an input failed" for key in assets if key not in materialized}
    by_step = {"__".join(key.path): key for key in assets}
    for event in result.filter_events(lambda e: e.is_step_failure):
        error = event.step_failure_data.error
        if error is not None and error.cls_name == "DagsterExecutionInterruptedError":
            raise KeyboardInterrupt  # Dagster has caught it and would continue
        while error is not None and error.cause is not None:
            error = error.cause
        key = by_step.get(event.step_key or "")
        if key is not None and error is not None:
            failed[key] = error.message.strip()
    warned = []
    for check in result.get_asset_check_evaluations():
        values = {name: value.value for name, value in check.metadata.items()}
        if blocks_downstream(check) and check.asset_key in materialized:
            failed[check.asset_key] = f"made, but a failed check blocks its use: {sentence(check.check_name, values)}"
        elif not check.passed and check.asset_key not in failed:
            warned.append(f"{check.asset_key.path[-1]}: {sentence(check.check_name, values)}")
    made = tuple(key for key in materialized if key not in failed)
    return Outcome(made, failed, time.perf_counter() - started, result.run_id, tuple(warned))


def close_orphans(instance: dg.DagsterInstance) -> int:
    """Mark the runs of killed `cos run` processes as failed, so that the UI does not show them as running for ever.

    Runs of other machines and containers, which may share the instance, are left alone. Returns the number of runs.
    """
    count = 0
    active = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.NOT_STARTED]
    for run in instance.get_runs(dg.RunsFilter(statuses=active)):
        if gone(run.tags.get(PROCESS_TAG)):
            instance.report_run_failed(run, "The process that executed this run no longer exists.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            count += 1
    return count
