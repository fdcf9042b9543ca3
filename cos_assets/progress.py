"""Progress of long work. The working code calls `report`; sinks decide what to do with the reports.

Nothing is shown by default. `cos run` draws bars, Dagster writes log lines and observations.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Report:
    """The progress of one piece of work, and what it has taken so far; None where that is unknown.

    `done` of `total` items are done. `seconds`, `tokens`, `flops` and `cost` count from the first report of the piece
    of work, when `before` items were done.
    """

    what: str
    done: int
    total: int
    tokens: int | None = None
    flops: float | None = None
    cost: float | None = None
    loss: float | None = None
    """The latest loss of a training."""
    seconds: float = 0.0
    before: int = 0
    piece: int = 0
    """The unique number of this piece of work."""

    @property
    def share(self) -> float:
        return self.done / max(self.total, 1)

    @property
    def tokens_per_second(self) -> float | None:
        return self.tokens / self.seconds if self.tokens and self.seconds else None

    @property
    def seconds_left(self) -> float | None:
        """Remaining seconds at the pace so far; None where nothing was done yet."""
        here = self.done - self.before
        return self.seconds * (self.total - self.done) / here if here > 0 else None

    def expected(self, spent: float) -> float:
        """Return the expected total of `spent` (FLOPs, cost or tokens), if the rest takes as much per item."""
        here = self.done - self.before
        return spent * (self.total - self.before) / here if here > 0 else spent

    @property
    def numbers(self) -> dict[str, float]:
        """The known values, under stable names."""
        known: dict[str, float | None] = {
            "done": self.done,
            "total": self.total,
            "progress": self.share,
            "seconds": self.seconds,
            "seconds_left": self.seconds_left,
            "tokens": self.tokens,
            "tokens_per_second": self.tokens_per_second,
            "loss": self.loss,
        }
        for name, spent in (("flops", self.flops), ("cost", self.cost)):
            known |= {name: spent, f"{name}_expected": None if spent is None else self.expected(spent)}
        return {name: value for name, value in known.items() if value is not None}

    @property
    def learned(self) -> str:
        """The latest loss, as text; empty where it is unknown."""
        return f"loss {self.loss:.4f}" if self.loss is not None else ""

    @property
    def speed(self) -> str:
        """Speed in tokens per second, as text; empty where it is unknown."""
        return f"{self.tokens_per_second:,.0f} tokens/s" if self.tokens_per_second else ""

    @property
    def spending(self) -> str:
        """Spend so far and expected total, as text; empty where they are unknown."""
        words = []
        for before, spent, unit in (("", self.flops, " FLOPs"), ("cost ", self.cost, "")):
            if spent:
                of = f" of about {self.expected(spent):.3g}" if self.done < self.total else ""
                words.append(f"{before}{spent:.3g}{of}{unit}")
        return ", ".join(words)

    def __str__(self) -> str:
        count = f"{self.what}: {self.done:,} of {self.total:,} ({self.share:.0%})"
        words = [count, self.speed, self.learned, self.spending]
        if self.seconds_left is not None and self.done < self.total:
            words.append(f"{duration(self.seconds_left)} left")
        return ", ".join(filter(None, words))


Sink = Callable[[Report], None]

_sinks: list[Sink] = []
_pieces = itertools.count(1)
_first: dict[str, tuple[Report, float]] = {}
"""Name -> the first report of the current piece of work with that name, and its time."""
_last: dict[str, int] = {}


def report(
    what: str,
    done: int,
    total: int,
    *,
    tokens: int | None = None,
    flops: float | None = None,
    cost: float | None = None,
    loss: float | None = None,
) -> None:
    """Send the progress of a piece of work to all sinks.

    `tokens`, `flops` and `cost` are totals over all that is done. `loss` is the latest loss of a training.
    A new piece of work begins with a new name, with `done` = 0, or where `done` is less than in the last report.
    """
    now = time.monotonic()
    if not done or done < _last.get(what, done + 1):
        _first[what] = Report(what, done, total, tokens, flops, cost, before=done, piece=next(_pieces)), now
    _last[what] = done
    first, began = _first[what]
    told = Report(
        what,
        done,
        total,
        None if tokens is None else tokens - (first.tokens or 0),
        None if flops is None else flops - (first.flops or 0.0),
        None if cost is None else cost - (first.cost or 0.0),
        loss,
        now - began,
        first.before,
        first.piece,
    )
    for sink in _sinks:
        sink(told)


def counted(what: str, items: Iterable[T], total: int, at_once: int = 1) -> Iterator[T]:
    """Yield the items, and report them as done when the consumer asks for the next one, every `at_once` items."""
    report(what, 0, total)
    for done, item in enumerate(items, 1):
        yield item
        if done % at_once == 0 or done == total:
            report(what, done, total)


@contextmanager
def shown_by(*sinks: Sink) -> Iterator[None]:
    """Send the reports made in this context to `sinks` as well."""
    before = list(_sinks)
    _sinks.extend(sinks)
    try:
        yield
    finally:
        _sinks[:] = before


def every(seconds: float, tell: Sink) -> Sink:
    """Return a sink that passes on at most one report per `seconds`, the first one after that time."""
    last = time.monotonic()

    def sink(now: Report) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            tell(now)

    return sink


def lines(write: Callable[[str], None], seconds: float = 10.0) -> Sink:
    """Return a sink that writes at most one line per `seconds`."""
    return every(seconds, lambda now: write(str(now)))


class Meter:
    """A sink that adds up the spend over all pieces of work."""

    def __init__(self) -> None:
        self.pieces: dict[int, Report] = {}

    def __call__(self, now: Report) -> None:
        self.pieces[now.piece] = now

    def spent(self) -> dict[str, float]:
        """Return the totals of tokens, flops and cost, each where it is known for any piece of work."""
        found: dict[str, float] = {}
        for name in ("tokens", "flops", "cost"):
            known = [value for report in self.pieces.values() if (value := getattr(report, name)) is not None]
            if known:
                found[name] = sum(known)
        return found


def duration(seconds: float) -> str:
    """Format a duration in its two largest units: 12 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Disable the bars that transformers draws when it loads or saves a model; progress is shown by the sinks."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
