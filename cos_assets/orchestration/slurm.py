"""Run launcher for Slurm: each run of Dagster is a job of the cluster (docs/slurm.md).

    run_launcher:
      module: cos_assets.orchestration.slurm
      class: SlurmRunLauncher
      config:
        sbatch: [--partition=gpu, --gres=gpu:1, --time=24:00:00]
        output: /shared/logs        # default: logs/ in $DAGSTER_HOME

A run is a partition, or the assets of one partition that share a partitioning. The job runs `dagster api execute_run`
with the environment of the daemon, on a node that reaches the instance's storage, COS_HOME and this project's folder.
The launcher runs where `sbatch`, `scancel` and `squeue` are.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import dagster as dg

from cos_assets.orchestration.dagster_private import (
    CheckRunHealthResult,
    ConfigurableClass,
    ConfigurableClassData,
    ExecuteRunArgs,
    LaunchRunContext,
    RunLauncher,
    WorkerStatus,
)

JOB_TAG = "slurm/job_id"
"""Tag of a run: its Slurm job."""
_WAITING = ("PENDING", "CONFIGURING", "REQUEUED")
_ALIVE = (*_WAITING, "RUNNING", "COMPLETING", "SUSPENDED", "RESIZING", "STOPPED", "SIGNALING")
_POLL = 15.0  # seconds
_SECONDS = 60  # for a command of Slurm; a busy controller answers late


class SlurmRunLauncher(RunLauncher, ConfigurableClass):
    """Launches runs as Slurm jobs, cancels them with `scancel`, and reports jobs that ended to the run monitoring."""

    def __init__(
        self,
        sbatch: list[str] | None = None,
        output: str | None = None,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        self._options, self._output, self._inst_data = list(sbatch or []), output, inst_data
        self._watcher: threading.Thread | None = None
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {
            "sbatch": dg.Field([str], is_required=False, description="Options of sbatch."),
            "output": dg.Field(str, is_required=False, description="Folder for the output of the jobs."),
        }

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        return cls(inst_data=inst_data, **config_value)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Submit a run as a job. Raises RuntimeError with Slurm's message if it is refused."""
        run, origin = context.dagster_run, context.job_code_origin
        assert origin is not None  # a run that is launched has its code location
        arguments = ExecuteRunArgs(job_origin=origin, run_id=run.run_id, instance_ref=self._instance.get_ref())
        output = Path(self._output or Path(os.environ["DAGSTER_HOME"], "logs"))
        output.mkdir(parents=True, exist_ok=True)
        # exec: scancel signals the processes of the job, and the shell would be left.
        script = f"#!/bin/bash\nexec {shlex.join(_with_path(arguments.get_command_args(), origin.executable_path))}\n"
        name = f"--job-name=dagster-{run.run_id[:8]}"
        job = _slurm("sbatch", "--parsable", name, f"--output={output}/slurm-%j.out", *self._options, given=script)
        number = job.split(";")[0].strip()  # "id;cluster" with several clusters
        self._instance.add_run_tags(run.run_id, {JOB_TAG: number})
        self._instance.report_engine_event(f"Submitted Slurm job {number}, output in {output}", run, cls=type(self))
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()

    def _watch(self) -> None:
        """Mark runs as failed whose job ended before they began. Dagster's run monitoring only waits for these."""
        while True:
            time.sleep(_POLL)
            with suppress(Exception):  # the storage or Slurm may be away for a while
                for run in self._instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING])):
                    self._check_starting(run)

    def _check_starting(self, run: dg.DagsterRun) -> None:
        if (job := run.tags.get(JOB_TAG)) is None or (state := _state(job)) in _ALIVE:
            return
        now = self._instance.get_run_by_id(run.run_id)
        if now is not None and now.status == dg.DagsterRunStatus.STARTING:
            said = f"Slurm job {job} ended before the run began: {state or 'no longer known to Slurm'}"
            self._instance.report_run_failed(now, said)

    def terminate(self, run_id: str) -> bool:
        """Cancel the job of a run. Returns False if the run has no job or is over."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or JOB_TAG not in run.tags:
            return False
        self._instance.report_run_canceling(run)
        waiting = _state(run.tags[JOB_TAG]) in _WAITING
        _slurm("scancel", run.tags[JOB_TAG])
        if waiting:  # no process that could report it
            self._instance.report_run_canceled(run)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether the job of a run is waiting or running. Slurm forgets a job some minutes after its end."""
        job = run.tags.get(JOB_TAG)
        if job is None:
            return CheckRunHealthResult(WorkerStatus.UNKNOWN, "the run has no Slurm job")
        try:
            state = _state(job)
        except RuntimeError as error:  # for example a controller that restarts
            return CheckRunHealthResult(WorkerStatus.UNKNOWN, str(error))
        if state in _ALIVE:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if state == "COMPLETED":
            return CheckRunHealthResult(WorkerStatus.SUCCESS)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"Slurm job {job}: {state or 'no longer known to Slurm'}")

    def get_run_worker_debug_info(self, run: dg.DagsterRun, include_container_logs: bool | None = True) -> str | None:
        """Return the state of the job and the reason for which it waits."""
        job = run.tags.get(JOB_TAG)
        return job and f"Slurm job {job}: {_state(job, '%T (%r)') or 'no longer known'}"


def _with_path(command: Sequence[str], python: str | None) -> list[str]:
    """Return the command with the code server's Python, because a job's PATH may lack its environment."""
    if python and command[0] == "dagster":
        return [python, "-m", "dagster", *command[1:]]
    return list(command)


def _state(job: str, form: str = "%T") -> str:
    """Return the state of a job, such as RUNNING; "" if Slurm no longer knows it."""
    try:
        return _slurm("squeue", "--noheader", "--states=all", f"--jobs={job}", f"--format={form}").strip()
    except RuntimeError as error:
        if "Invalid job id" in str(error):
            return ""
        raise


def _slurm(*command: str, given: str | None = None) -> str:
    """Return the output of a command of Slurm. Raises RuntimeError with its message if it fails."""
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=_SECONDS)
    except FileNotFoundError:
        raise RuntimeError(f"{command[0]}: not found; SlurmRunLauncher runs where Slurm's commands are") from None
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{command[0]}: Slurm did not answer in {_SECONDS} seconds") from None
    if done.returncode:
        raise RuntimeError(re.sub(r"\s+", " ", f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}"))
    return done.stdout
