"""Dagster's daemons, one iteration at a time: the code of `dagster dev` without its waits of half a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.controller import create_daemon_grpc_server_registry
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

LOG = logging.getLogger("daemons")


class Daemons:
    """The daemons for one instance and one code location with its own server."""

    def __init__(self, workspace: WorkspaceProcessContext) -> None:
        self.workspace, self.instance = workspace, workspace.instance
        self._queue, self._retries = QueuedRunCoordinatorDaemon(interval_seconds=1), EventLogConsumerDaemon()

    def look(self) -> None:
        """One iteration of each: backfills continue, failed runs are retried, dead runs are marked, queued runs are
        launched."""
        list(execute_backfill_iteration(self.workspace, LOG))
        # A daemon that reads a failure before the run's status is written misses it.
        # That is likely at these short intervals.
        if not self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]), limit=1):
            list(self._retries.run_iteration(self.workspace))
        list(execute_run_monitoring_iteration(self.workspace, LOG))
        list(self._queue.run_iteration(self.workspace))

    def until(self, done: Callable[[], bool], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, [(run.status, run.tags) for run in self.instance.get_runs()]
            self.look()
            time.sleep(0.2)

    def backfill(self, request: PartitionBackfill) -> BulkActionStatus:
        """Carry out a backfill to its end."""
        self.instance.add_backfill(request)

        def status() -> BulkActionStatus:
            found = self.instance.get_backfill(request.backfill_id)
            assert found is not None
            return found.status

        self.until(lambda: status() != BulkActionStatus.REQUESTED)
        return status()


@contextmanager
def daemons(instance: dg.DagsterInstance, file: Path) -> Iterator[Daemons]:
    """The daemons for the code location `defs` in `file`."""
    target = PythonFileTarget(str(file), "defs", working_directory=str(file.parent), location_name="cos")
    with create_daemon_grpc_server_registry(instance) as servers:
        with WorkspaceProcessContext(instance, target, grpc_server_registry=servers) as workspace:
            yield Daemons(workspace)
        servers.shutdown_all_processes()
        servers.wait_for_processes()  # a process that outlives the storage of its instance never ends
