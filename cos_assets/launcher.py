"""Runs on this machine, watched: the run launcher that cos_assets/dagster.yaml names.

Dagster's default launcher cannot tell whether a run's process is alive once the code server that started it is gone: a
run that died with it (a reboot, the OOM killer, SIGKILL) would stand as started for ever, and hold its place in the
queue and its pool.
"""

from __future__ import annotations

import dagster as dg
import psutil
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus

PID_TAG = "cos/pid"
"""Of a run that `cos run` makes: the process that makes it."""


class LocalRunLauncher(dg.DefaultRunLauncher):
    """The default launcher, which also tells the daemon's run monitoring whose process is gone."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """A run is well as long as the process that last said it works on it is alive.

        One whose process never said who it is counts as well: nobody can tell.
        """
        pid, since = _process(self._instance, run)
        if pid is None or _alive(pid, since):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"its process (pid {pid}) is gone")


def _process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[int | None, float]:
    """The process that works on a run, and a time at which it did."""
    for entry in reversed(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)):
        metadata = entry.get_dagster_event().engine_event_data.metadata
        if "pid" in metadata:
            return int(str(metadata["pid"].value)), entry.timestamp
    return (int(run.tags[PID_TAG]), 0.0) if PID_TAG in run.tags else (None, 0.0)


def _alive(pid: int, since: float) -> bool:
    """A younger process of that number is another one."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and not (since and process.create_time() > since + 1)
    except psutil.NoSuchProcess:
        return False
