"""Schedules with a simulated clock: the partitions that each night requests and leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._daemon.auto_run_reexecution import auto_run_reexecution
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon
from support.scheduled import NAME, Nights, attributes, definitions, names

from cos_assets import study
from cos_assets.assets.tiny import TinyModelsSpec, build_tiny_models
from cos_assets.orchestration import instance
from cos_assets.orchestration.graph import Graph, Unit, materialize
from cos_assets.orchestration.schedule import TOLD_TAG, check
from cos_assets.study import StudyError

BY_MODEL = {"samples", "verdicts", "sample_metrics", "judgements"}
NO_RETRY = {"dagster/max_retries": "0"}  # no daemon would run it again
WHOLE = {"problems", "budget_plan", "report"}


def of(model: str, *assets: str) -> set[str]:
    return {f"{asset} one|{model}" for asset in assets}


ALL = WHOLE.union(*(of(model, *BY_MODEL, "sft_set") for model in ("wc", "se")))
AFTER_SAMPLES = {name for name in ALL if name.split()[0] not in ("problems", "budget_plan", "samples")}


@pytest.fixture
def dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("COS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    instance.prepare()
    with instance.open_instance() as opened:
        yield opened


def make(
    found: dg.Definitions, dagster: dg.DagsterInstance, subset: AssetGraphSubset | None, tags: dict[str, str]
) -> set[str]:
    """Make a subset like a backfill, in the order of dependencies and without failed inputs; return what was made."""
    graph = Graph(found)
    units = [unit for unit in graph.units(graph.keys()) if subset and unit in set(subset.iterate_asset_partitions())]
    made: set[Unit] = set()
    for batch in graph.batches(units):
        outside = {key: {unit for unit in batch.reads[key] if unit[0] not in batch.assets} for key in batch.assets}
        ready = [key for key in batch.assets if not outside[key].intersection(units) - made]
        if not ready:
            continue
        result = found.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=dagster,
            asset_selection=ready,
            partition_key=batch.partition,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags=tags,
        )
        made |= {(e.asset_key, batch.partition) for e in result.get_asset_materialization_events() if e.asset_key}
    return {" ".join([key.path[-1], *([partition] if partition else [])]) for key, partition in made}


def ledger(home: Path) -> int:
    return sum(pl.read_parquet(file).height for file in home.glob("home/ledger/**/part-*.parquet"))


def test_each_night_requests_only_changed_partitions(
    tmp_path: Path, dagster: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = attributes(tmp_path)
    found, nights = definitions(given), Nights(dagster)

    first = nights.next(found)
    assert names(first) == ALL
    assert nights.tags["dagster/max_retries"] == "1"
    assert make(found, dagster, first, nights.tags) == ALL
    bought = ledger(tmp_path)
    assert bought == 12
    assert nights.next(found) is None

    # A table made again with equal content changes nothing, for the schedule and for `cos run`.
    again = AssetGraphSubset(non_partitioned_asset_keys={dg.AssetKey([NAME, "problems"])})
    assert make(found, dagster, again, {}) == {"problems"}
    assert nights.next(found) is None

    # Another grader: the graded assets and everything downstream are requested. Nothing is bought.
    monkeypatch.setattr("cos_assets.grading.answers.GRADER_VERSION", "another")
    found = definitions(given)
    graded = nights.next(found)
    assert names(graded) == AFTER_SAMPLES
    assert make(found, dagster, graded, nights.tags) == AFTER_SAMPLES
    assert ledger(tmp_path) == bought
    assert nights.next(found) is None

    # Other content upstream: everything downstream is requested.
    problems = tmp_path / "problems.jsonl"
    problems.write_text(problems.read_text().replace('"answer": "12"', '"answer": "13"'), encoding="utf-8")
    make(found, dagster, again, {})
    assert names(nights.next(found)) == ALL - {"problems"}


def only_wc(folder: Path) -> dict[str, Any]:
    given = attributes(folder)
    return {**given, "models": {"wc": given["models"]["wc"]}, "budgets": {"one": {"wc": 1}}}


def test_changes_made_while_the_schedule_is_off_are_requested(tmp_path: Path, dagster: dg.DagsterInstance) -> None:
    """Dagster's conditions for changes would miss them."""
    given = only_wc(tmp_path)
    found = definitions(given)
    graph = Graph(found)
    everything = AssetGraphSubset.from_asset_keys(graph.keys(), graph.graph)
    assert make(found, dagster, everything, {}) == WHOLE | of("wc", *BY_MODEL, "sft_set")
    changed = definitions({**given, "judge": {"samples": 3}})
    nights = Nights(dagster)
    assert names(nights.next(changed)) == {*of("wc", "judgements", "sft_set"), "report"}
    assert "timed/judgements 1 partition (one|wc): has a new code version\n" in nights.told
    assert "timed/sft_set 1 partition (one|wc): an input is requested at this tick\n" in nights.told
    assert "timed/samples 1 " not in nights.told


def test_a_failed_partition_is_left_until_its_inputs_change(tmp_path: Path, dagster: dg.DagsterInstance) -> None:
    given = attributes(tmp_path)
    found, nights = definitions(given), Nights(dagster)
    lost = tmp_path / "wc.jsonl"
    text = lost.read_text()
    lost.unlink()
    made = make(found, dagster, nights.next(found), nights.tags | NO_RETRY)
    assert made == ALL - of("wc", *BY_MODEL, "sft_set") - {"report"}

    assert nights.next(found) is None
    told = nights.told
    assert "timed/samples one|wc is skipped: run" in told
    assert "timed/verdicts one|wc waits for timed/samples one|wc" in told
    assert "timed/sft_set one|wc waits for timed/" in told
    assert "timed/report waits for" in told

    # The study changes: the failed partition and everything downstream are requested.
    changed = definitions({**given, "sampling": {"max_tokens": 300}})
    assert names(nights.next(changed)) >= of("wc", *BY_MODEL, "sft_set") | {"report"}

    # A user materializes it: everything downstream is requested.
    lost.write_text(text)
    graph = Graph(found)
    outcome = materialize(found, dagster, [dg.AssetKey([NAME, "samples"])], "one|wc")
    assert not outcome.failed
    rest = nights.next(found)
    assert names(rest) == of("wc", "verdicts", "sample_metrics", "judgements", "sft_set") | {"report"}
    assert make(found, dagster, rest, nights.tags) == names(rest)
    assert nights.next(found) is None
    assert not [batch.name for batch in graph.batches(graph.units(graph.keys())) if graph.stale(dagster, batch)]


def test_a_partition_blocked_by_a_check_is_left_until_it_passes(
    tmp_path: Path, dagster: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster itself treats it as materialized."""
    found, nights = definitions(only_wc(tmp_path)), Nights(dagster)
    with monkeypatch.context() as patch:
        patch.setattr("cos_assets.orchestration.checks.GRADER_ERRORS", -1.0)
        made = make(found, dagster, nights.next(found), nights.tags | NO_RETRY)
    assert made == {"problems", "budget_plan", *of("wc", "samples", "verdicts")}
    assert nights.next(found) is None
    assert "timed/verdicts one|wc is skipped: run" in nights.told
    assert "timed/judgements one|wc waits for timed/verdicts one|wc" in nights.told
    verdicts = dg.AssetKey([NAME, "verdicts"])
    assert not materialize(found, dagster, [verdicts], "one|wc").failed
    assert names(nights.next(found)) == of("wc", "sample_metrics", "judgements", "sft_set") | {"report"}


def test_a_failure_that_the_daemon_missed_is_reported_again(
    tmp_path: Path, dagster: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster's daemon reads a failure once, and skips it if the run's status is not yet written."""
    found, nights = definitions(only_wc(tmp_path)), Nights(dagster)
    (tmp_path / "wc.jsonl").unlink()
    make(found, dagster, nights.next(found), nights.tags)
    (failed,) = (run for run in dagster.get_runs() if not run.is_success)
    assert failed.is_complete_and_waiting_to_retry
    retried: list[str] = []
    monkeypatch.setattr(auto_run_reexecution, "retry_run", lambda run, _: retried.append(run.run_id))
    process: Any = SimpleNamespace(instance=dagster)
    consumer = EventLogConsumerDaemon()

    # Its first iteration starts at the end of the log: it has read the failure and done nothing.
    list(consumer.run_iteration(process))
    list(consumer.run_iteration(process))
    assert retried == []
    nights.next(found)
    list(consumer.run_iteration(process))
    assert retried == [failed.run_id]

    # Only once, in case the daemon skips it on purpose. The retry inherits its tags and may also be missed.
    nights.next(found)
    list(consumer.run_iteration(process))
    assert retried == [failed.run_id]
    dagster.add_run_tags(failed.run_id, {TOLD_TAG: "the run before"})
    nights.next(found)
    list(consumer.run_iteration(process))
    assert retried == [failed.run_id] * 2


def test_a_partition_that_failed_in_a_manual_run_is_requested(tmp_path: Path, dagster: dg.DagsterInstance) -> None:
    found, nights = definitions(attributes(tmp_path)), Nights(dagster)
    (tmp_path / "wc.jsonl").unlink()
    graph = Graph(found)
    make(found, dagster, AssetGraphSubset.from_asset_keys(graph.keys(), graph.graph), {})
    assert names(nights.next(found)) == of("wc", *BY_MODEL, "sft_set") | {"report"}


def test_a_partition_in_progress_is_not_requested(tmp_path: Path, dagster: dg.DagsterInstance) -> None:
    found, nights = definitions(attributes(tmp_path)), Nights(dagster)
    with pytest.MonkeyPatch.context() as patch:

        def look(*_: Any, **__: Any) -> Any:
            during.append(names(nights.next(found)))
            raise RuntimeError("seen enough")

        during: list[set[str]] = []
        patch.setattr("cos_assets.assets.samples.generate", look)
        first = AssetGraphSubset(
            non_partitioned_asset_keys={dg.AssetKey([NAME, name]) for name in ("problems", "budget_plan")}
        )
        made = make(found, dagster, first, {})
        assert made == {"problems", "budget_plan"}
        materialize(found, dagster, [dg.AssetKey([NAME, "samples"])], "one|wc")
    (asked,) = during
    assert asked == of("se", *BY_MODEL, "sft_set")


def test_a_partition_of_an_unfinished_backfill_is_not_requested(tmp_path: Path, dagster: dg.DagsterInstance) -> None:
    """Between the failure of a run and its retry, Dagster counts it and everything downstream as failed."""
    found, nights = definitions(attributes(tmp_path)), Nights(dagster)
    graph, first = Graph(found).graph, nights.next(found)
    assert first is not None
    asked: dict[str, Any] = {"backfill_id": "asked", "asset_graph_subset": first, "tags": {}, "backfill_timestamp": 0.0}
    asked |= dict.fromkeys(("title", "description", "run_config"))
    backfill = PartitionBackfill.from_asset_graph_subset(dynamic_partitions_store=dagster, **asked)
    data = backfill.get_asset_backfill_data(graph).with_failed_and_downstream_subset(first)
    backfill = backfill.with_asset_backfill_data(data, dagster, graph)
    dagster.add_backfill(backfill)
    assert nights.next(found) is None
    dagster.update_backfill(backfill.with_status(BulkActionStatus.COMPLETED_FAILED))
    assert names(nights.next(found)) == ALL


def checkpoints(name: str = "reader", **more: Any) -> dict[str, Any]:
    models = {role: {"checkpoint": {"study": "tiny", "target": role}} for role in ("wc", "se")}
    task = {"name": "arithmetic", "train": 4, "validation": 1, "test": 1}
    return {"name": name, "task": task, "models": models, "budgets": {"low": {"se": 1}}, "schedule": "@daily", **more}


def test_unscheduled_upstream_assets_are_made_by_the_downstream_schedule(dagster: dg.DagsterInstance) -> None:
    tiny = build_tiny_models(TinyModelsSpec(name="tiny"))
    found = definitions(checkpoints(), assets=tiny)
    sensor = found.get_repository_def().get_sensor_def("reader_schedule")
    filled = {key.to_user_string() for key in sensor.asset_selection.resolve(found.resolve_asset_graph())}
    assert {key for key in filled if not key.startswith("reader/")} == {"tiny/wc_checkpoint", "tiny/se_checkpoint"}
    assert {"reader/problems", "reader/report"} <= filled

    found = definitions(checkpoints(schedule=None), checkpoints("second"), assets=tiny)
    repository = found.get_repository_def()
    assert not repository.has_sensor_def("reader_schedule")
    (one,) = [spec for spec in found.resolve_all_asset_specs() if spec.key.path == ["reader", "samples"]]
    assert one.automation_condition is None


def test_each_of_two_schedules_requests_its_own_study(tmp_path: Path, dagster: dg.DagsterInstance) -> None:
    first = attributes(tmp_path) | {
        "targets": {"student": {"model": "./student"}},
        "finetune": {"steps": 1},
    }
    ref = {"checkpoint": {"study": NAME, "target": "student", "budget": "one", "source": "wc"}}
    second = attributes(tmp_path) | {"name": "second", "models": {"wc": ref}, "budgets": {"one": {"wc": 1}}}
    found = definitions(first, second)
    sensor = found.get_repository_def().get_sensor_def("second_schedule")
    assert {key.path[0] for key in sensor.asset_selection.resolve(found.resolve_asset_graph())} == {"second"}
    found = definitions({**first, "schedule": None}, second)
    sensor = found.get_repository_def().get_sensor_def("second_schedule")
    filled = {key.to_user_string() for key in sensor.asset_selection.resolve(found.resolve_asset_graph())}
    assert f"{NAME}/student_checkpoint" in filled
    assert f"{NAME}/report" not in filled

    # Only the partitions of the other study that are read are made.
    asked = Nights(dagster, "second").next(found)
    of_other = {unit for unit in asked.iterate_asset_partitions() if unit.asset_key.path[0] == NAME} if asked else set()
    assert {unit.partition_key for unit in of_other} == {None, "one|wc"}
    assert {unit.asset_key.path[-1] for unit in of_other} == {
        "problems", "budget_plan", "samples", "verdicts", "judgements", "sft_set", "student_checkpoint"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("0 25 * * *", "schedule: '0 25 * * *' is not a cron expression; expected five fields"),
        ({"cron": "daily"}, "schedule: 'daily' is not a cron expression"),
        ({"cron": "0 2 * * *", "timezone": "Mars/Base"}, "schedule.timezone: 'Mars/Base': is not a known time zone"),
        ({"cron": "0 2 * * *", "retries": -1}, "schedule.retries"),
        ({"timezone": "UTC"}, "schedule.cron: is missing"),
        ({"cron": "0 2 * * *", "retry": 2}, "schedule.retry"),
    ],
)
def test_an_invalid_schedule_is_refused_with_the_reason(tmp_path: Path, schedule: Any, message: str) -> None:
    with pytest.raises(StudyError) as error:
        check(study.parse(attributes(tmp_path, schedule=schedule), "defs.yaml"), "defs.yaml")
    (line,) = str(error.value).splitlines()
    assert line.startswith("defs.yaml: ")
    assert message in line
