"""Schedules of studies: at each cron tick, one backfill of all missing or stale partitions.

Dagster's declarative automation decides and its daemon launches, so the schedule is a sensor that can be switched on
and off in the UI, and each asset's Automation tab explains why a partition was selected or not.

Dagster's own conditions for changes (`any_deps_updated`, `code_version_changed`, `data_version_changed`) compare two
consecutive evaluations. They miss changes made while the sensor was off, and report an input that was materialized
again with equal content as a change. The conditions here therefore examine the current state, by the same rules as
`cos run`. They are code of this project, so the sensor is evaluated by the code location's server
(`use_user_code_server`).
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Set
from functools import cache, lru_cache
from typing import Any

import dagster as dg
from dagster import AutomationCondition as AC

from cos_assets.orchestration.dagster_private import (
    MAX_RETRIES_TAG,
    SENSOR_NAME_TAG,
    WILL_RETRY_TAG,
    AssetGraphSubset,
    AssetGraphView,
    AutomationContext,
    BaseAssetGraph,
    DagsterRun,
    EntitySubset,
    SensorExecutionData,
    StepEventStatus,
    copy,
    extract_data_version_from_entry,
    get_current_datetime,
    is_valid_cron_schedule,
)
from cos_assets.orchestration.dagster_private import AssetKeyPartitionKey as Unit
from cos_assets.orchestration.due import PartitionStatus
from cos_assets.study import StudySpec
from cos_assets.study.errors import StudyError

CODE_TAG = "cos/code"
"""Tag of a scheduled run: a hash of its code versions, so that failed partitions are retried after a code change."""

TOLD_TAG = "cos/told_again"
"""Tag of a run whose failure was reported a second time. The value is the run's id, because retries inherit tags."""
_NAMED = 5  # partitions that a line of the tick's log names
OVERLOOKED = datetime.timedelta(minutes=1)
"""Time after which Dagster's daemon, which polls every five seconds, has missed that a run is to be retried."""


def check(spec: StudySpec, where: str) -> None:
    """Raise StudyError for a schedule that Dagster would not accept. `where` is the file, for the message."""
    if spec.schedule is not None and not is_valid_cron_schedule(spec.schedule.cron):
        raise StudyError(
            f"{where}: schedule: {spec.schedule.cron!r} is not a cron expression; expected five fields (minute, hour,"
            ' day of month, month, day of week), for example "0 2 * * *"'
        )


def condition(spec: StudySpec) -> dg.AutomationCondition | None:
    """Return the condition under which partitions of a study are due; None for a study without a schedule."""
    if spec.schedule is None:
        return None
    tick = AC.cron_tick_passed(spec.schedule.cron, spec.schedule.timezone)
    due = (_MissingOrStale() & ~_Left(spec.name)) | _ReadsWhatIsMade()
    busy = (AC.in_progress() | _Planned()).with_label("in progress")
    waits = (AC.any_deps_match(busy) | _Waits()).with_label("waits for its inputs")
    return (tick & due.with_label("is due") & ~busy & ~waits).with_label("missing or stale")


def sensors(spec: StudySpec) -> list[dg.SensorDefinition]:
    """Return the schedule of a study, if it has one. It also fills its inputs from studies without a schedule."""
    found = condition(spec)
    if spec.schedule is None or found is None:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return [
            _Schedule(
                f"{spec.name}_schedule",
                target=_FilledBy(spec.name),
                run_tags={MAX_RETRIES_TAG: str(spec.schedule.retries)},
                default_condition=_Read(spec.name) & found,  # for assets without a schedule of their own
                use_user_code_server=True,
                description=f"Materializes missing and stale partitions of {spec.name} at `{spec.schedule.cron}`"
                f" ({spec.schedule.timezone}), with {spec.schedule.retries} retries.",
            )
        ]


class _Schedule(dg.AutomationConditionSensorDefinition):
    """Requests one backfill per tick.

    Dagster's sensor requests single runs where no asset has two partitions to make. These all start at once, even where
    they depend on each other.
    """

    def evaluate_tick(self, context: dg.SensorEvaluationContext) -> SensorExecutionData:
        _tell_again(context.instance, self.name)
        found = super().evaluate_tick(context)
        if not found.run_requests:
            return found
        assert context.repository_def is not None
        graph = context.repository_def.asset_graph
        units: set[Unit] = set()
        for request in found.run_requests:
            if request.asset_graph_subset is not None:
                units |= set(request.asset_graph_subset.iterate_asset_partitions())
            else:
                units |= {Unit(key, request.partition_key) for key in request.asset_selection or ()}
        tags = {**self.run_tags, CODE_TAG: _code(graph, self.name.removesuffix("_schedule"))}
        one = dg.RunRequest.for_asset_graph_subset(
            AssetGraphSubset.from_asset_partition_set(units, graph), tags={**tags, **DagsterRun.tags_for_sensor(self)}
        )
        return copy(found, run_requests=[one])

    def with_attributes(self, *, jobs: Any = None, metadata: Any = None) -> _Schedule:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)
            return _Schedule(
                self.name,
                target=self.asset_selection,
                run_tags=self.run_tags,
                default_condition=self.default_condition,
                use_user_code_server=True,
                description=self.description,
                metadata=self.metadata if metadata is None else metadata,
            )


def _tell_again(instance: dg.DagsterInstance, sensor: str) -> None:
    """Report again, once, the failures that Dagster's daemon missed.

    The daemon reads each failure once, and misses it if that happens before the run's status is written. The backfill
    would then wait for the retry for ever, and the schedule for the backfill. The failure is reported only one more
    time, because the daemon may decide not to retry the run, for example if its backfill was canceled.
    """
    waiting = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        tags={SENSOR_NAME_TAG: sensor, WILL_RETRY_TAG: "true"},
        updated_before=get_current_datetime() - OVERLOOKED,
    )
    for run in instance.get_runs(waiting, limit=100):
        if run.is_complete_and_waiting_to_retry and run.tags.get(TOLD_TAG) != run.run_id:
            instance.add_run_tags(run.run_id, {TOLD_TAG: run.run_id})
            instance.report_run_failed(run, "Dagster's daemon missed this failure, so it is reported once more.")


class _FilledBy(dg.AssetSelection):
    """A study's assets, and their upstream assets in studies without a schedule."""

    def __init__(self, study: str) -> None:
        self.study = study

    def resolve_inner(self, asset_graph: BaseAssetGraph, allow_missing: bool) -> Set[dg.AssetKey]:
        return {
            key
            for key in _with_ancestors(asset_graph, self.study)
            if (node := asset_graph.get(key)).is_materializable
            and (key.path[0] == self.study or node.automation_condition is None)
        }

    def resolve_checks_inner(self, asset_graph: BaseAssetGraph, allow_missing: bool) -> Set[dg.AssetCheckKey]:
        return set()  # checks are evaluated with their assets

    def to_selection_str(self) -> str:
        return f'group:"{self.study}"'


def _with_ancestors(graph: BaseAssetGraph, study: str) -> set[dg.AssetKey]:
    found = {key for key in graph.get_all_asset_keys() if key.path[0] == study}
    frontier = set(found)
    while frontier:
        frontier = {parent for key in frontier for parent in graph.get(key).parent_keys} - found
        found |= frontier
    return found


def _code(graph: BaseAssetGraph, study: str) -> str:
    """Return a hash of the code versions of a study's assets and of their ancestors."""
    versions = {key.to_user_string(): graph.get(key).code_version for key in _with_ancestors(graph, study)}
    return hashlib.sha256(json.dumps(versions, sort_keys=True).encode()).hexdigest()[:12]


class _State:
    """State of the partitions at one tick. Each value is queried once."""

    def __init__(self, view: AssetGraphView) -> None:
        self.instance, self.graph = view.instance, view.asset_graph
        self.backfills = view.get_inner_queryer_for_back_compat().get_active_backfill_datas
        self.status = PartitionStatus(view.instance, view.asset_graph, view)
        self.code = cache(lambda study: _code(view.asset_graph, study))
        self.read_by = cache(self._read_by)
        self.failed_run = cache(self._failed_run)
        self.planned = cache(self._planned)

    def parents(self, unit: Unit) -> Iterable[Unit]:
        return self.graph.get_parents_partitions(*unit).parent_partitions

    def _read_by(self, study: str) -> set[Unit]:
        """Return a study's partitions and all their ancestors, of any study."""
        found: set[Unit] = set()
        for key in self.graph.get_all_asset_keys():
            if key.path[0] == study:
                partitions = self.graph.get(key).partitions_def
                found |= {Unit(key, name) for name in (partitions.get_partition_keys() if partitions else [None])}
        frontier = found
        while frontier:
            frontier = {parent for unit in frontier for parent in self.parents(unit)} - found
            found |= frontier
        return found

    def _planned(self) -> set[Unit]:
        """Return the partitions that active backfills have not materialized yet."""
        left = (data.target_subset - data.materialized_subset for data in self.backfills())
        return {unit for subset in left for unit in subset.iterate_asset_partitions()}

    def version(self, unit: Unit, before: float | None = None) -> str | None:
        """Return the data version of a partition, now or before a time."""
        record = self._last(unit, before)
        found = extract_data_version_from_entry(record.event_log_entry) if record else None
        return found.value if found else None

    def _last(self, unit: Unit, before: float | None = None) -> dg.EventLogRecord | None:
        partitions = [unit.partition_key] if unit.partition_key else None
        wanted = dg.AssetRecordsFilter(unit.asset_key, asset_partitions=partitions, before_timestamp=before)
        return next(iter(self.instance.fetch_materializations(wanted, limit=1).records), None)

    def _failed_run(self, unit: Unit) -> dg.RunRecord | None:
        """Return the last run that was to make a partition, if it failed to make it or a check blocks the result.

        Returns None otherwise. A step that was not reached, because an upstream step failed, has not failed.
        """
        planned = self.instance.get_latest_planned_materialization_info(*unit)
        record = self.instance.get_run_record_by_id(planned.run_id) if planned else None
        if record is None or record.dagster_run.status != dg.DagsterRunStatus.FAILURE:
            return None
        step = "__".join(unit.asset_key.path)
        begun = self.instance.get_run_step_stats(record.dagster_run.run_id, [step])
        if not any(each.step_key == step and each.status != StepEventStatus.SKIPPED for each in begun):
            return None
        made = self._last(unit)
        by_it = made is not None and made.run_id == record.dagster_run.run_id
        return None if by_it and not self.status.is_blocked(*unit) else record


_state = lru_cache(maxsize=2)(_State)  # every tick has its own view


class _Rule(dg.AutomationCondition[dg.AssetKey]):
    """A condition that is evaluated for each partition separately."""

    label = ""

    @property
    def name(self) -> str:
        return self.label

    @property
    def requires_cursor(self) -> bool:
        return False

    @abstractmethod
    def holds(self, state: _State, context: AutomationContext[dg.AssetKey], unit: Unit) -> bool: ...

    def evaluate(self, context: AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        view = context.asset_graph_view
        state = _state(view)
        units = context.candidate_subset.expensively_compute_asset_partitions()
        found = {unit for unit in units if self.holds(state, context, unit)}
        return dg.AutomationResult(context, view.get_asset_subset_from_asset_partitions(context.key, found))


class _Read(_Rule):
    """Limits assets of other studies to the partitions that this study reads; the others would be bought needlessly."""

    def __init__(self, study: str) -> None:
        self.study = study
        self.label = f"read by {study}"

    def holds(self, state: _State, context: AutomationContext[dg.AssetKey], unit: Unit) -> bool:
        return unit in state.read_by(self.study)


class _MissingOrStale(_Rule):
    label = "missing, stale by content or code version, or stopped by a check"

    def evaluate(self, context: AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        status = _state(context.asset_graph_view).status
        if not context.candidate_subset.is_empty:
            status.prefetch([context.key], every_partition=True)
        found = super().evaluate(context)
        _log_reasons(context, found, lambda unit: status.why(*unit))
        return found

    def holds(self, state: _State, context: AutomationContext[dg.AssetKey], unit: Unit) -> bool:
        return not state.status.is_up_to_date(*unit)


class _Planned(_Rule):
    """Covers partitions of a backfill between the failure of a run and its retry: Dagster does not count these, or what
    reads them, as in progress."""

    label = "in an active backfill that has not materialized it yet"

    def holds(self, state: _State, context: AutomationContext[dg.AssetKey], unit: Unit) -> bool:
        return unit in state.planned()


class _ReadsWhatIsMade(_Rule):
    """Replaces `AC.will_be_requested`, which only covers what the same run can make: nothing across partitionings."""

    label = "an input is requested at this tick"

    def evaluate(self, context: AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        found, status = super().evaluate(context), _state(context.asset_graph_view).status
        _log_reasons(context, found, lambda unit: self.label if status.is_up_to_date(*unit) else None)
        return found

    def holds(self, state: _State, context: AutomationContext[dg.AssetKey], unit: Unit) -> bool:
        return any(_requested(context, parent) for parent in state.parents(unit))


class _Waits(_Rule):
    """Holds back partitions with inputs that are not up to date: they would be made twice, or in vain."""

    label = "an input is missing or stale, and is not requested at this tick"

    def holds(self, state: _State, context: AutomationContext[dg.AssetKey], unit: Unit) -> bool:
        for parent in state.parents(unit):
            if not state.status.is_up_to_date(*parent) and not _requested(context, parent):
                _log_line(context, f"{_title(unit)} waits for {_title(parent)}, which is not requested at this tick")
                return True
        return False


class _Left(_Rule):
    """Holds for a partition that failed in all its retries, until its code or its inputs change.

    Runs that a person launched have no `CODE_TAG`, so the schedule retries their failures.
    """

    label = "skipped: it failed, and neither its code nor its inputs have changed since"

    def __init__(self, study: str) -> None:
        self.study = study

    def holds(self, state: _State, context: AutomationContext[dg.AssetKey], unit: Unit) -> bool:
        record = state.failed_run(unit)
        tags = record.dagster_run.tags if record else {}
        if record is None or tags.get(CODE_TAG) != state.code(self.study):
            return False
        if any(state.version(parent) != state.version(parent, record.end_time) for parent in state.parents(unit)):
            return False
        _log_line(
            context,
            f"{_title(unit)} is skipped: run {record.dagster_run.run_id} failed, and neither its code nor its inputs"
            " have changed since; change one of them, or materialize the partition by hand",
        )
        return True


def _requested(context: AutomationContext[Any], unit: Unit) -> bool:
    asked: EntitySubset | None = context.request_subsets_by_key.get(unit.asset_key)
    if asked is None or asked.is_empty:
        return False
    return unit.partition_key is None or unit in asked.expensively_compute_asset_partitions()


def _log_line(context: AutomationContext[Any], line: str, level: int = logging.WARNING) -> None:
    """Write a line to the tick's log. `context.log` is a child logger whose lines do not appear there."""
    context._root_log.log(level, line)


def _log_reasons(
    context: AutomationContext[Any], found: dg.AutomationResult[dg.AssetKey], why: Callable[[Unit], str | None]
) -> None:
    """Write a line per reason to the tick's log, because the Automation tab shows no reasons per partition."""
    reasons: dict[str, list[str]] = {}
    for unit in sorted(found.true_subset.expensively_compute_asset_partitions()):
        if reason := why(unit):
            reasons.setdefault(reason, []).append(unit.partition_key or "")
    for reason, partitions in reasons.items():
        names = ", ".join(filter(None, partitions[:_NAMED])) + (", …" if len(partitions) > _NAMED else "")
        plural = "s" if len(partitions) > 1 else ""
        count = f" {len(partitions):,} partition{plural} ({names})" if names else ""
        _log_line(context, f"{context.key.to_user_string()}{count}: {reason}", logging.INFO)


def _title(unit: Unit) -> str:
    return unit.asset_key.to_user_string() + (f" {unit.partition_key}" if unit.partition_key else "")
