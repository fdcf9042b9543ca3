"""Execution of batches in several processes: a free process takes the next batch whose needs are settled."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import dagster as dg

from cos_assets import progress
from cos_assets.generation.compute import JOBS
from cos_assets.orchestration import instance
from cos_assets.orchestration.graph import Batch, Graph, Outcome, Unit, materialize

PROGRESS_EVERY = 0.2  # seconds
_AGAIN = "its process was killed, probably because memory ran out; it runs again when nothing else does"


class Watcher(Protocol):
    """Receives the events of a run; `terminal` has the implementation that draws progress bars."""

    def started(self, batch: Batch, assets: list[dg.AssetKey]) -> None: ...
    def progress(self, batch: Batch, now: progress.Report) -> None: ...
    def finished(self, batch: Batch, outcome: Outcome) -> None: ...
    def skipped(self, batch: Batch, why: str) -> None: ...


@dataclass
class Summary:
    """Result of a whole run, counted in partitions of assets."""

    made: int = 0
    fresh: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """"asset partition" -> reason."""


def run(
    graph: Graph,
    dagster: dg.DagsterInstance,
    batches: Iterable[Batch],
    watcher: Watcher,
    jobs: int,
    again: Container[Unit] = (),
    stale: Container[str] | None = None,
    log: Path | None = None,
) -> Summary:
    """Bring every batch up to date, and materialize the units in `again` even where they are.

    The batches run in `jobs` worker processes, whose output is appended to `log`; without a log and with one job, they
    run in this process. `stale` names the batches known to contain something stale; the others are examined only if a
    batch they read from ran. Assets are skipped when something they read failed; the others run. A batch whose worker
    was killed, as happens when memory runs out, runs once more with nothing beside it.
    """
    waiting = {batch.name: batch for batch in batches}
    alone: set[str] = set()
    settled: set[str] = set()
    changed: set[str] = set()
    broken: set[Unit] = set()
    summary = Summary()
    pool = _Here(graph, dagster, watcher) if jobs == 1 and log is None else _Processes(jobs, watcher, log)

    def settle(batch: Batch, todo: list[dg.AssetKey], outcome: Outcome) -> None:
        if outcome.killed and jobs > 1 and batch.name not in alone:
            alone.add(batch.name)
            waiting[batch.name] = batch
            watcher.finished(batch, Outcome((), {}, 0.0, warned=(_AGAIN,)))
            return
        alone.discard(batch.name)
        settled.add(batch.name)
        changed.add(batch.name)
        summary.made += len(outcome.made)
        for key, reason in outcome.failed.items():
            broken.add((key, batch.partition))
            summary.failed[_title(key, batch.partition)] = reason
        watcher.finished(batch, outcome)

    with pool:
        while waiting or pool.busy:
            # What is missing or stale is only known once everything upstream is settled.
            for batch in pool.in_order([b for b in waiting.values() if b.needs <= settled]):
                if not pool.free:
                    break
                if alone and (batch.name not in alone or pool.busy):
                    continue
                del waiting[batch.name]
                if stale is not None and batch.name not in stale and not batch.needs & changed:
                    settled.add(batch.name)
                    summary.fresh += len(batch.assets)
                    continue
                todo = graph.stale(dagster, batch, again)
                summary.fresh += len(batch.assets) - len(todo)
                read = {unit for key in todo for unit in batch.reads[key] if unit[0] not in todo}
                lost = _reached(batch, todo, broken | graph.stopped(dagster, read))
                if lost:
                    for key in lost:
                        broken.add((key, batch.partition))
                        summary.failed[_title(key, batch.partition)] = "skipped: an input failed"
                    names = ", ".join(key.path[-1] for key in lost)
                    watcher.skipped(batch, f"{names}: an input failed, or failed a check that stops")
                    todo = [key for key in todo if key not in lost]
                if not todo:
                    alone.discard(batch.name)
                    settled.add(batch.name)
                    continue
                if batch.name in alone:
                    pool.renew()
                watcher.started(batch, todo)
                pool.submit(batch, todo)
            if pool.busy:
                for batch, todo, outcome in pool.collect():
                    settle(batch, todo, outcome)
    return summary


def _reached(batch: Batch, todo: list[dg.AssetKey], broken: set[Unit]) -> list[dg.AssetKey]:
    """Return the assets of `todo` that read, directly or indirectly, from something broken."""
    lost: list[dg.AssetKey] = []
    for key in todo:
        mine = {(made, batch.partition) for made in lost}
        if batch.reads[key] & (broken | mine):
            lost.append(key)
    return lost


def _title(key: dg.AssetKey, partition: str | None) -> str:
    return key.to_user_string() + (f" {partition}" if partition else "")


class _Here:
    """Runs batches in this process, one at a time."""

    def __init__(self, graph: Graph, dagster: dg.DagsterInstance, watcher: Watcher) -> None:
        self.graph, self.dagster, self.watcher = graph, dagster, watcher
        self.given: tuple[Batch, list[dg.AssetKey]] | None = None
        self.model = ""

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def free(self) -> bool:
        return self.given is None

    @property
    def busy(self) -> bool:
        return self.given is not None

    def in_order(self, batches: list[Batch]) -> list[Batch]:
        """Return the batches whose model is loaded first."""
        return sorted(batches, key=lambda batch: batch.model != self.model)

    def renew(self) -> None:
        """Free the memory of the models that idle workers keep. Nothing to do: there are no workers."""

    def submit(self, batch: Batch, todo: list[dg.AssetKey]) -> None:
        self.given, self.model = (batch, todo), batch.model

    def collect(self) -> list[tuple[Batch, list[dg.AssetKey], Outcome]]:
        assert self.given is not None
        (batch, todo), self.given = self.given, None
        with progress.shown_by(lambda now: self.watcher.progress(batch, now)):
            return [(batch, todo, materialize(self.graph.definitions, self.dagster, todo, batch.partition))]


class _Processes:
    """Runs batches in worker processes. They are started once, because loading torch takes longer than many batches."""

    def __init__(self, jobs: int, watcher: Watcher, log: Path | None) -> None:
        self.watcher, self.jobs, self.log = watcher, jobs, log
        self.workers = [_Worker(jobs, log) for _ in range(jobs)]

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.stop()

    @property
    def free(self) -> list[_Worker]:
        return [worker for worker in self.workers if worker.given is None]

    @property
    def busy(self) -> list[_Worker]:
        return [worker for worker in self.workers if worker.given is not None]

    def in_order(self, batches: list[Batch]) -> list[Batch]:
        """Return the batches whose model a free worker has loaded first."""
        models = {worker.model for worker in self.free}
        return sorted(batches, key=lambda batch: batch.model not in models)

    def renew(self) -> None:
        """Free the memory of the models that idle workers keep, by replacing the workers."""
        for worker in self.free:
            worker.stop()
            self.workers[self.workers.index(worker)] = _Worker(self.jobs, self.log)

    def submit(self, batch: Batch, todo: list[dg.AssetKey]) -> None:
        min(self.free, key=lambda worker: worker.model != batch.model).submit(batch, todo)

    def collect(self) -> list[tuple[Batch, list[dg.AssetKey], Outcome]]:
        """Wait for at least one message of the workers; return the outcomes of finished batches, forward progress."""
        outcomes = []
        by_pipe = {worker.pipe: worker for worker in self.busy}
        for pipe in wait(list(by_pipe)):
            worker = by_pipe[pipe]  # type: ignore[index]
            assert worker.given is not None
            batch, todo = worker.given
            try:
                kind, *news = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                # The worker was killed, ran out of memory or crashed: a new process replaces it.
                code = worker.stop()
                self.workers[self.workers.index(worker)] = _Worker(self.jobs, self.log)
                killed = code == -signal.SIGKILL
                how = "was killed, probably because memory ran out" if killed else f"died (exit code {code})"
                output = f"; its output is in {self.log}" if self.log else ""
                lost = dict.fromkeys(todo, f"the worker process {how}{output}")
                outcomes.append((batch, todo, Outcome((), lost, 0.0, killed=killed)))
                continue
            if kind == "progress":
                self.watcher.progress(batch, *news)
            else:
                worker.given = None
                outcomes.append((batch, todo, news[0]))
        return outcomes


class _Worker:
    def __init__(self, jobs: int, log: Path | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, os.getpid(), jobs, log), daemon=True)
        self.process.start()
        theirs.close()
        self.given: tuple[Batch, list[dg.AssetKey]] | None = None
        self.model = ""

    def submit(self, batch: Batch, todo: list[dg.AssetKey]) -> None:
        self.given, self.model = (batch, todo), batch.model
        self.pipe.send((todo, batch.partition))

    def stop(self) -> int | None:
        self.pipe.close()
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(timeout=5)
        return self.process.exitcode


def _work(pipe: Connection, parent: int, jobs: int, log: Path | None) -> None:
    """Main function of a worker: load the code location once, then run batches until the pipe closes."""
    import signal

    if log is not None:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)  # libraries and their processes write to the descriptors, not to sys.stdout
        os.dup2(output, 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and stops its workers
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of libraries; models set their own threads (`compute`)
    os.environ.setdefault(JOBS, str(jobs))
    definitions = instance.definitions()
    with instance.open_instance() as dagster, progress.shown_by(_throttled(pipe.send)):
        while True:
            try:
                todo, partition = pipe.recv()
            except EOFError:
                return
            pipe.send(("outcome", materialize(definitions, dagster, todo, partition)))


def _end_with(parent: int) -> None:
    """End this worker when its parent is gone, so that it does not keep buying for a killed run."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _throttled(send: Callable[[Any], None]) -> progress.Sink:
    last = (0, 0.0)

    def sink(now: progress.Report) -> None:
        nonlocal last
        time_now = time.monotonic()
        if now.piece != last[0] or now.done == now.total or time_now - last[1] > PROGRESS_EVERY:
            last = (now.piece, time_now)
            send(("progress", now))

    return sink
