"""Runs on this machine, watched: the run launcher that cos_assets/dagster.yaml names.

Dagster's default launcher cannot tell whether a run's process is alive once the code server that started it is gone: a
run that died with it (a reboot, the OOM killer, SIGKILL) would stand as started for ever, and hold its place in the
queue and its pool.
"""

from __future__ import annotations

import dagster as dg
import psutil

from cos_assets.orchestration.dagster_private import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from cos_assets.storage.processes import gone, identity, machine

PROCESS_TAG = "cos/process"
"""Of a run: the process that makes it (see `processes`)."""
MACHINE_TAG = "cos/machine"
"""Of a run that this launcher started: the machine on which its process runs."""


class LocalRunLauncher(dg.DefaultRunLauncher):
    """The default launcher, which also tells the daemon's run monitoring whose process is gone."""

    def launch_run(self, context: LaunchRunContext) -> None:
        if (here := machine()) is not None:
            self._instance.add_run_tags(context.dagster_run.run_id, {MACHINE_TAG: here})
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """A run is well as long as the process that last said it works on it is alive.

        One of another machine, or whose process never said who it is, counts as well: nobody can tell.
        """
        known = run.tags.get(PROCESS_TAG, "")
        if MACHINE_TAG in run.tags:
            if run.tags[MACHINE_TAG] != machine():
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            pid, since = _reported(self._instance, run)
            if pid is None:
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            if known.split()[-2:-1] != [str(pid)]:  # not looked at since it said so
                known = _identity(pid, since) or ""
                if not known:
                    return CheckRunHealthResult(WorkerStatus.FAILED, f"its process (pid {pid}) is gone")
                self._instance.add_run_tags(run.run_id, {PROCESS_TAG: known})
        if gone(known):
            return CheckRunHealthResult(WorkerStatus.FAILED, f"its process (pid {known.split()[-2]}) is gone")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def _reported(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[int | None, float]:
    """The number of the process that last said it works on a run, and when."""
    for entry in reversed(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)):
        metadata = entry.get_dagster_event().engine_event_data.metadata
        if "pid" in metadata:
            return int(str(metadata["pid"].value)), entry.timestamp
    return None, 0.0


def _identity(pid: int, since: float) -> str | None:
    """Of the process that had this number at a time; None where it is gone, and a younger one has its number."""
    try:
        younger = psutil.Process(pid).create_time() > since + 1
    except psutil.NoSuchProcess:
        return None
    return None if younger else identity(pid)
