"""Terminal output of `cos run`: a line for each finished batch, and a progress bar for each running one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from cos_assets.escape import for_terminal
from cos_assets.orchestration.graph import Batch, Outcome
from cos_assets.progress import Report, duration

_SPEED, _SPENDING = 100, 150
"""Minimum terminal widths, in columns, for showing the speed and the spending next to the progress bar."""


class Terminal:
    """A `Watcher` that writes to a rich console. Without a terminal (a pipe, a CI log) it draws no progress bars."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Progress(
            TextColumn("  {task.fields[batch]}"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}
        self.began: dict[str, float] = {}

    def __enter__(self) -> Terminal:
        self.bars.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.bars.stop()

    def started(self, batch: Batch, assets: list[dg.AssetKey]) -> None:
        self.began[batch.name] = time.monotonic()
        names = ", ".join(key.path[-1] for key in assets)
        self.tasks[batch.name] = self.bars.add_task(
            escape(_short(names)), batch=escape(_label(batch)), pace="", total=None
        )

    def progress(self, batch: Batch, now: Report) -> None:
        if batch.name in self.tasks:
            left = "" if now.seconds_left is None or now.done == now.total else f"{duration(now.seconds_left)} left"
            wide = self.console.width
            words = [
                left,
                *((now.speed, now.learned) if wide >= _SPEED else ()),
                now.spending if wide >= _SPENDING else "",
            ]
            self.bars.update(
                self.tasks[batch.name],
                description=escape(_short(now.what)),
                completed=now.done,
                total=now.total,
                pace=escape(" · ".join(filter(None, words))),
            )

    def finished(self, batch: Batch, outcome: Outcome) -> None:
        if batch.name in self.tasks:
            self.bars.remove_task(self.tasks.pop(batch.name))
        label, names = _label(batch), ", ".join(key.path[-1] for key in outcome.made)
        if names:
            self._line("[green]✓[/]", label, names, outcome.seconds)
        for key, reason in outcome.failed.items():
            self._line("[red]✗[/]", label, f"{key.path[-1]}: {reason}", outcome.seconds)
        for text in outcome.warned:
            self._line("[yellow]![/]", label, text)

    def skipped(self, batch: Batch, why: str) -> None:
        self._line("[yellow]–[/]", _label(batch), f"skipped {why}")

    def _line(self, mark: str, label: str, text: str, seconds: float | None = None) -> None:
        took = "" if seconds is None else f"{seconds:6.1f} s"
        line = f"{mark} {escape(label):<26} {took:<8}  {escape(for_terminal(text))}"
        self.console.print(line, highlight=False, soft_wrap=True)


def _label(batch: Batch) -> str:
    return batch.partition or batch.name


def _short(text: str, width: int = 36) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def due_lines(study: str, batches: Sequence[Batch], due: Mapping[str, Mapping[dg.AssetKey, str]]) -> Iterator[str]:
    """Return lines that say what has to be made, and why; then how many batches may follow from it."""
    for batch in batches:
        if batch.name in due:
            yield batch.name
            for key, reason in due[batch.name].items():
                yield f"  {key.path[-1]:<22} {reason}"
    follow, reached = 0, set(due)
    for batch in batches:
        if batch.name not in due and batch.needs & reached:
            reached.add(batch.name)
            follow += 1
    count = sum(map(len, due.values()))
    more = f"; {follow} more batches read from these and are made only if their content changes" if follow else ""
    yield f"{study}: {count} partitions to make{more}. Nothing was made."
