"""Runs as Slurm jobs, on a cluster of one machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from support import ROOT, slurm
from support.daemons import Daemons, daemons
from support.scheduled import Nights, attributes, definitions

from cos_assets.orchestration import graph, instance
from cos_assets.orchestration import slurm as launcher_module
from cos_assets.orchestration.slurm import JOB_TAG, SlurmRunLauncher, _state

LOCATION = f"""
import os, sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tests")!r})
import dagster as dg
from support.scheduled import attributes, definitions

@dg.asset(key_prefix="own")
def long(context: dg.AssetExecutionContext):
    Path(__file__).with_name("begun").write_text(str(os.getpid()))
    time.sleep(120)

defs = definitions(attributes(Path(__file__).parent), assets=[long])
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not slurm.available():
        if os.environ.get("CI"):
            pytest.fail("no Slurm: in CI these tests must run")
        pytest.skip("no Slurm here; install Debian's slurm-wlm and munge")
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as config, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(config))
        yield config


@pytest.fixture
def started(cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that writes the instance's dagster.yaml with options of sbatch."""

    def configure(*options: str) -> Path:
        home = tmp_path / "dagster"
        home.mkdir()
        settings = yaml.safe_load(instance.CONFIG.read_text(encoding="utf-8"))
        launcher = {"module": "cos_assets.orchestration.slurm", "class": "SlurmRunLauncher"}
        settings["run_launcher"] = launcher | {"config": {"sbatch": list(options)}}
        settings["run_monitoring"]["start_timeout_seconds"] = 604_800
        (home / "dagster.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        monkeypatch.setenv("COS_HOME", str(tmp_path / "home"))
        file = tmp_path / "location.py"
        file.write_text(LOCATION, encoding="utf-8")
        return file

    return configure


def submit(dagster: dg.DagsterInstance, daemon: Daemons, seconds: float = 120) -> str:
    """Launch the long asset through the queue, and return the run's id once it has a job."""
    subset = AssetGraphSubset(non_partitioned_asset_keys={dg.AssetKey(["own", "long"])})
    dagster.add_backfill(
        PartitionBackfill.from_asset_graph_subset("long", time.time(), {}, dagster, subset, None, None, None)
    )
    daemon.until(lambda: any(JOB_TAG in run.tags for run in dagster.get_runs()), seconds)
    return dagster.get_runs()[0].run_id


def status(dagster: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = dagster.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_backfill_runs_as_jobs(started: Callable[..., Path], tmp_path: Path) -> None:
    file = started("--cpus-per-task=1", "--time=10")
    found = definitions(attributes(tmp_path))
    with instance.open_instance() as dagster, daemons(dagster, file) as daemon:
        assert isinstance(dagster.run_launcher, SlurmRunLauncher)
        nights = Nights(dagster)
        subset = nights.next(found)
        assert subset is not None
        keys = set(graph.Graph(found).select("timed", "+samples"))
        subset = subset.filter_asset_keys(keys)
        request = PartitionBackfill.from_asset_graph_subset(
            "night", time.time(), nights.tags, dagster, subset, None, None, None
        )
        assert daemon.backfill(request) == BulkActionStatus.COMPLETED_SUCCESS
        runs = dagster.get_runs()
        jobs = [run.tags[JOB_TAG] for run in runs]
        assert len(set(jobs)) == len(runs) >= 3
        daemon.until(lambda: {_state(job) for job in jobs} == {"COMPLETED"})
        assert all((tmp_path / "dagster" / "logs" / f"slurm-{job}.out").is_file() for job in jobs)
        launcher = dagster.run_launcher
        assert launcher.check_run_worker_health(runs[0]).status.value == "SUCCESS"
    assert list((tmp_path / "home" / "timed" / "samples").rglob("data.parquet"))


def test_a_run_that_is_terminated_cancels_its_job(started: Callable[..., Path], tmp_path: Path) -> None:
    file = started()
    with instance.open_instance() as dagster, daemons(dagster, file) as daemon:
        run_id = submit(dagster, daemon)
        daemon.until((tmp_path / "begun").exists)
        job = dagster.get_run_by_id(run_id).tags[JOB_TAG]  # type: ignore[union-attr]
        assert dagster.run_launcher.check_run_worker_health(dagster.get_run_by_id(run_id)).status.value == "RUNNING"  # type: ignore[arg-type]
        assert dagster.run_launcher.terminate(run_id)
        daemon.until(lambda: status(dagster, run_id) == dg.DagsterRunStatus.CANCELED)
        daemon.until(lambda: _state(job) not in ("RUNNING", "COMPLETING"))
        assert _state(job) == "CANCELLED"
        assert not dagster.run_launcher.terminate(run_id)


def test_a_run_whose_job_is_gone_is_marked_as_failed(started: Callable[..., Path], tmp_path: Path) -> None:
    file = started()
    with instance.open_instance() as dagster, daemons(dagster, file) as daemon:
        run_id = submit(dagster, daemon)
        daemon.until((tmp_path / "begun").exists)
        job = dagster.get_run_by_id(run_id).tags[JOB_TAG]  # type: ignore[union-attr]
        os.kill(int((tmp_path / "begun").read_text()), signal.SIGKILL)
        daemon.until(lambda: status(dagster, run_id) == dg.DagsterRunStatus.FAILURE)
        events = dagster.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert f"Slurm job {job}: " in str(events[-1].get_dagster_event().message)


def test_a_waiting_job_is_healthy_and_can_be_terminated(started: Callable[..., Path]) -> None:
    file = started("--hold")
    with instance.open_instance() as dagster, daemons(dagster, file) as daemon:
        run_id = submit(dagster, daemon)
        daemon.look()
        run = dagster.get_run_by_id(run_id)
        assert run is not None
        assert run.status == dg.DagsterRunStatus.STARTING
        assert dagster.run_launcher.check_run_worker_health(run).status.value == "RUNNING"
        assert "PENDING (JobHeldUser)" in str(dagster.run_launcher.get_run_worker_debug_info(run))
        assert dagster.run_launcher.terminate(run_id)
        assert status(dagster, run_id) == dg.DagsterRunStatus.CANCELED
        assert _state(run.tags[JOB_TAG]) == "CANCELLED"


def test_a_refused_job_fails_the_run_with_slurms_message(started: Callable[..., Path]) -> None:
    file = started("--partition=nowhere")
    with instance.open_instance() as dagster, daemons(dagster, file) as daemon:
        with pytest.raises(AssertionError):  # it never gets a job
            submit(dagster, daemon, 10)
        (run,) = dagster.get_runs()
        assert run.status == dg.DagsterRunStatus.FAILURE
        said = "\n".join(map(str, dagster.all_logs(run.run_id)))
        assert "invalid partition specified: nowhere" in said


def test_a_job_that_ends_before_the_run_begins_fails_the_run(
    started: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher_module, "_POLL", 0.5)
    monkeypatch.setattr(launcher_module, "_with_path", lambda command, python: ["no-such-python"])
    file = started()
    with instance.open_instance() as dagster, daemons(dagster, file) as daemon:
        run_id = submit(dagster, daemon)
        daemon.until(lambda: status(dagster, run_id) == dg.DagsterRunStatus.FAILURE)
        events = dagster.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert "ended before the run began: FAILED" in str(events[-1].get_dagster_event().message)


def test_a_missing_command_and_an_unknown_job_are_named(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _state("424242") == ""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RuntimeError, match="squeue: not found; SlurmRunLauncher runs where Slurm's commands are"):
        _state("1")
