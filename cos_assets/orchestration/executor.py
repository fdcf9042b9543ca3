"""Batches on several processes at once: who is free takes the next batch whose needs are settled."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import dagster as dg

from cos_assets import progress
from cos_assets.orchestration import instance
from cos_assets.orchestration.graph import Batch, Graph, Outcome, Unit, materialize

PROGRESS_EVERY = 0.2  # seconds


class Watcher(Protocol):
    """Sees what happens; see `terminal` for the one that draws."""

    def started(self, batch: Batch, assets: list[dg.AssetKey]) -> None: ...
    def progress(self, batch: Batch, now: progress.Report) -> None: ...
    def finished(self, batch: Batch, outcome: Outcome) -> None: ...
    def skipped(self, batch: Batch, why: str) -> None: ...


@dataclass
class Summary:
    """What a whole run did, in partitions of assets."""

    made: int = 0
    fresh: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """"asset partition" -> reason."""
    seconds_by_asset: dict[str, float] = field(default_factory=dict)


def run(
    graph: Graph,
    dagster: dg.DagsterInstance,
    batches: Iterable[Batch],
    watcher: Watcher,
    jobs: int,
    again: Container[Unit] = (),
    stale: Container[str] | None = None,
) -> Summary:
    """Bring every batch up to date, and make the units `again` whether they are or not. `jobs` 1 works in this process;
    more are processes of their own. `stale` names the batches of which something is known to be stale; the others are
    looked at only if something that they read is made.

    A batch is skipped when something it reads failed; others go on.
    """
    waiting = {batch.name: batch for batch in batches}
    settled: set[str] = set()
    changed: set[str] = set()
    broken: set[Unit] = set()
    summary = Summary()
    pool = _Here(graph, dagster, watcher) if jobs == 1 else _Processes(jobs, watcher)

    def settle(batch: Batch, todo: list[dg.AssetKey], outcome: Outcome) -> None:
        settled.add(batch.name)
        changed.add(batch.name)
        summary.made += len(outcome.made)
        for key, reason in outcome.failed.items():
            broken.add((key, batch.partition))
            summary.failed[_title(key, batch.partition)] = reason
        watcher.finished(batch, outcome)

    with pool:
        while waiting or pool.busy:
            # What is missing or stale can only be known once everything before it is settled.
            for batch in [b for b in waiting.values() if b.needs <= settled]:
                if not pool.free:
                    break
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
                        summary.failed[_title(key, batch.partition)] = "skipped: what it reads failed"
                    watcher.skipped(
                        batch, f"{', '.join(key.path[-1] for key in lost)}: what they read failed, or failed a check"
                    )
                    todo = [key for key in todo if key not in lost]
                if not todo:
                    settled.add(batch.name)
                    continue
                watcher.started(batch, todo)
                pool.submit(batch, todo)
            if pool.busy:
                for batch, todo, outcome in pool.collect():
                    settle(batch, todo, outcome)
    return summary


def _reached(batch: Batch, todo: list[dg.AssetKey], broken: set[Unit]) -> list[dg.AssetKey]:
    """Those of `todo` that read, directly or not, from something broken."""
    lost: list[dg.AssetKey] = []
    for key in todo:
        mine = {(made, batch.partition) for made in lost}
        if batch.reads[key] & (broken | mine):
            lost.append(key)
    return lost


def _title(key: dg.AssetKey, partition: str | None) -> str:
    return key.to_user_string() + (f" {partition}" if partition else "")


class _Here:
    """Works in this process, one batch at a time."""

    def __init__(self, graph: Graph, dagster: dg.DagsterInstance, watcher: Watcher) -> None:
        self.graph, self.dagster, self.watcher = graph, dagster, watcher
        self.given: tuple[Batch, list[dg.AssetKey]] | None = None

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

    def submit(self, batch: Batch, todo: list[dg.AssetKey]) -> None:
        self.given = batch, todo

    def collect(self) -> list[tuple[Batch, list[dg.AssetKey], Outcome]]:
        assert self.given is not None
        (batch, todo), self.given = self.given, None
        with progress.shown_by(lambda now: self.watcher.progress(batch, now)):
            return [(batch, todo, materialize(self.graph.definitions, self.dagster, todo, batch.partition))]


class _Processes:
    """Works in processes that are started once, because loading torch takes longer than many a batch."""

    def __init__(self, jobs: int, watcher: Watcher) -> None:
        self.watcher = watcher
        self.workers = [_Worker() for _ in range(jobs)]

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

    def submit(self, batch: Batch, todo: list[dg.AssetKey]) -> None:
        self.free[0].submit(batch, todo)

    def collect(self) -> list[tuple[Batch, list[dg.AssetKey], Outcome]]:
        """What has come back, at least one piece of news."""
        outcomes = []
        by_pipe = {worker.pipe: worker for worker in self.busy}
        for pipe in wait(list(by_pipe)):
            worker = by_pipe[pipe]  # type: ignore[index]
            assert worker.given is not None
            batch, todo = worker.given
            try:
                kind, *news = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                # Killed, out of memory, crashed: its batch has failed, and a new process takes the next one.
                code = worker.stop()
                self.workers[self.workers.index(worker)] = _Worker()
                lost = dict.fromkeys(todo, f"the process that made it ended (exit code {code})")
                outcomes.append((batch, todo, Outcome((), lost, 0.0)))
                continue
            if kind == "progress":
                self.watcher.progress(batch, *news)
            else:
                worker.given = None
                outcomes.append((batch, todo, news[0]))
        return outcomes


class _Worker:
    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, os.getpid()), daemon=True)
        self.process.start()
        theirs.close()
        self.given: tuple[Batch, list[dg.AssetKey]] | None = None

    def submit(self, batch: Batch, todo: list[dg.AssetKey]) -> None:
        self.given = batch, todo
        self.pipe.send((todo, batch.partition))

    def stop(self) -> int | None:
        self.pipe.close()
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(timeout=5)
        return self.process.exitcode


def _work(pipe: Connection, parent: int) -> None:
    """The life of a worker: load the code location once, then one batch after the other until the pipe closes."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair; it ends its workers
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    definitions = instance.definitions()
    with instance.open_instance() as dagster, progress.shown_by(_throttled(pipe.send)):
        while True:
            try:
                todo, partition = pipe.recv()
            except EOFError:
                return
            pipe.send(("outcome", materialize(definitions, dagster, todo, partition)))


def _end_with(parent: int) -> None:
    """A worker must not go on buying for a parent that was killed."""
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
