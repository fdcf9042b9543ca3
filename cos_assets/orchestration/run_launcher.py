"""Run launcher for this machine with health checks of run processes. The instance's dagster.yaml names it.

Dagster's default launcher cannot tell whether a run's process is alive once the code server that started it is gone. A
run that died with it (a reboot, the OOM killer, SIGKILL) would be shown as started for ever, and hold its slots in the
queue and in its pool.
"""

from __future__ import annotations

import dagster as dg
import psutil

from cos_assets.orchestration.dagster_private import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from cos_assets.storage.processes import gone, identity, machine

PROCESS_TAG = "cos/process"
"""Tag of a run: the identity of its process (see `processes`)."""
MACHINE_TAG = "cos/machine"
"""Tag of a run that this launcher started: the machine of its process."""


class LocalRunLauncher(dg.DefaultRunLauncher):
    """The default launcher, which also reports runs whose process is gone to the daemon's run monitoring."""

    def launch_run(self, context: LaunchRunContext) -> None:
        if (here := machine()) is not None:
            self._instance.add_run_tags(context.dagster_run.run_id, {MACHINE_TAG: here})
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether the process that last reported to work on a run is alive.

        A run of another machine, or without a reported process, counts as healthy, because its state is unknown.
        """
        known = run.tags.get(PROCESS_TAG, "")
        if MACHINE_TAG in run.tags:
            if run.tags[MACHINE_TAG] != machine():
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            pid, since = _reported(self._instance, run)
            if pid is None:
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            if known.split()[-2:-1] != [str(pid)]:  # not checked since this process reported
                known = _identity(pid, since) or ""
                if not known:
                    return CheckRunHealthResult(WorkerStatus.FAILED, f"the run's process (pid {pid}) no longer exists")
                self._instance.add_run_tags(run.run_id, {PROCESS_TAG: known})
        if gone(known):
            pid = int(known.split()[-2])
            return CheckRunHealthResult(WorkerStatus.FAILED, f"the run's process (pid {pid}) no longer exists")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def _reported(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[int | None, float]:
    """Return the pid of the process that last reported to work on a run, and the time of the report."""
    for entry in reversed(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)):
        metadata = entry.get_dagster_event().engine_event_data.metadata
        if "pid" in metadata:
            return int(str(metadata["pid"].value)), entry.timestamp
    return None, 0.0


def _identity(pid: int, since: float) -> str | None:
    """Return the identity of the process that had this pid at the time `since`; None where it is gone, also where a
    younger process has its pid."""
    try:
        younger = psutil.Process(pid).create_time() > since + 1
    except psutil.NoSuchProcess:
        return None
    return None if younger else identity(pid)
