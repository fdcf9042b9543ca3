"""A process is identified by more than its pid, and only on its own machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher.base import WorkerStatus

from cos_assets.orchestration import graph, instance, run_launcher
from cos_assets.orchestration.run_launcher import MACHINE_TAG, PROCESS_TAG
from cos_assets.storage import processes
from cos_assets.storage.processes import gone, identity, machine

STARTED = dg.DagsterRunStatus.STARTED


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COS_HOME", str(tmp_path))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return instance.prepare()


def test_a_process_is_gone_once_it_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    known = identity(child.pid)
    assert known is not None and not gone(known)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert gone(known)  # a zombie until its parent waits for it
    child.wait()
    assert gone(known)
    assert identity(child.pid) is None


def test_a_reused_pid_is_another_process() -> None:
    here, number, start = str(identity()).rsplit(" ", 2)
    assert not gone(f"{here} {number} {start}")
    assert gone(f"{here} {number} {int(start) - 1}")


@pytest.mark.parametrize("process", [None, "", "12", ["boot", "space", "12", "3"], "other-boot pid:[4026531836] 12 3"])
def test_a_process_of_unknown_state_is_not_gone(process: object) -> None:
    assert not gone(process)


@pytest.mark.parametrize("ending", ["", "x", "12", "x y", "12 y", "x 3", "12 3 4"])
def test_a_malformed_identity_of_this_machine_is_not_gone(ending: str) -> None:
    assert not gone(f"{machine()} {ending}")


def test_a_process_of_another_container_is_not_gone() -> None:
    boot, _, number, start = str(identity()).split()
    assert not gone(f"{boot} pid:[1] {number} {int(start) - 1}")


def test_no_process_is_gone_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = identity()
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    assert machine() is None and identity() is None
    assert not gone(known)


@pytest.mark.parametrize(
    ("process", "closed"),
    [("other-boot pid:[4026531836] 1 1", 0), ("{here} 999999999 1", 1), ("{mine}", 0), ("", 0)],
)
def test_runs_of_another_machine_are_not_closed(home: Path, process: str, closed: int) -> None:
    """Two machines share one instance: the second does not know the pid of the first machine's run."""
    process = process.format(here=machine(), mine=identity())
    with instance.open_instance() as dagster:
        run = dagster.create_run_for_job(empty.to_job(), tags={PROCESS_TAG: process}, status=STARTED)
        assert graph.close_orphans(dagster) == closed
        found = dagster.get_run_by_id(run.run_id)
        assert found is not None
        assert found.status == (dg.DagsterRunStatus.FAILURE if closed else STARTED)


def test_launched_runs_are_monitored_by_process_identity(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is set forward by an hour after the first check, and then the process ends."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with instance.open_instance() as dagster:
        watch = dagster.run_launcher
        assert isinstance(watch, run_launcher.LocalRunLauncher)

        def health(**tags: str) -> WorkerStatus:
            run = dagster.create_run_for_job(empty.to_job(), tags={MACHINE_TAG: str(machine()), **tags})
            dagster.report_engine_event("Started process.", run, pid_of(child.pid))
            looked = [watch.check_run_worker_health(current(run.run_id)).status]
            with monkeypatch.context() as clock:
                real = psutil.Process.create_time
                clock.setattr(psutil.Process, "create_time", lambda self: real(self) + 3600)
                looked.append(watch.check_run_worker_health(current(run.run_id)).status)
            (status,) = set(looked)
            ids.append(run.run_id)
            return status

        def current(run_id: str) -> dg.DagsterRun:
            run = dagster.get_run_by_id(run_id)
            assert run is not None
            return run

        ids: list[str] = []
        assert health() == WorkerStatus.RUNNING
        assert health(**{MACHINE_TAG: "other-boot pid:[4026531836]"}) == WorkerStatus.RUNNING
        child.kill()
        child.wait()
        here, elsewhere = (watch.check_run_worker_health(current(run_id)) for run_id in ids)
        assert (here.status, elsewhere.status) == (WorkerStatus.FAILED, WorkerStatus.RUNNING)
        assert here.msg == f"the run's process (pid {child.pid}) no longer exists"


def pid_of(pid: int) -> EngineEventData:
    return EngineEventData({"pid": str(pid)})


@dg.op
def nothing() -> None: ...


@dg.graph
def empty() -> None:
    nothing()
