"""How far long work has come. Whoever works calls `report`; whoever watches decides what becomes of it.

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
    """What is being done, how much of it is done and out of how much, and what this took; None is unknown.

    `seconds`, `tokens`, `flops` and `cost` count from the first report of a piece of work, when `before` was done.
    """

    what: str
    done: int
    total: int
    tokens: int | None = None
    flops: float | None = None
    cost: float | None = None
    seconds: float = 0.0
    before: int = 0
    piece: int = 0
    """A number of this piece of work alone."""

    @property
    def share(self) -> float:
        return self.done / max(self.total, 1)

    @property
    def tokens_per_second(self) -> float | None:
        return self.tokens / self.seconds if self.tokens and self.seconds else None

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None where there is none yet."""
        here = self.done - self.before
        return self.seconds * (self.total - self.done) / here if here > 0 else None

    def expected(self, spent: float) -> float:
        """What the whole takes if the rest is like what is done: of FLOPs, cost or tokens."""
        here = self.done - self.before
        return spent * (self.total - self.before) / here if here > 0 else spent

    @property
    def numbers(self) -> dict[str, float]:
        """What is known, under names that stay."""
        known: dict[str, float | None] = {
            "done": self.done,
            "total": self.total,
            "progress": self.share,
            "seconds": self.seconds,
            "seconds_left": self.seconds_left,
            "tokens": self.tokens,
            "tokens_per_second": self.tokens_per_second,
        }
        for name, spent in (("flops", self.flops), ("cost", self.cost)):
            known |= {name: spent, f"{name}_expected": None if spent is None else self.expected(spent)}
        return {name: value for name, value in known.items() if value is not None}

    @property
    def speed(self) -> str:
        """In tokens; empty where that is not known."""
        return f"{self.tokens_per_second:,.0f} tokens/s" if self.tokens_per_second else ""

    @property
    def spending(self) -> str:
        """What was spent, and of how much; empty where that is not known."""
        words = []
        for unit, spent in (("FLOPs", self.flops), ("currency", self.cost)):
            if spent:
                of = f" of about {self.expected(spent):.3g}" if self.done < self.total else ""
                words.append(f"{spent:.3g}{of} {unit}")
        return ", ".join(words)

    def __str__(self) -> str:
        words = [f"{self.what}: {self.done:,} of {self.total:,} ({self.share:.0%})", self.speed, self.spending]
        if self.seconds_left is not None and self.done < self.total:
            words.append(f"{duration(self.seconds_left)} left")
        return ", ".join(filter(None, words))


Sink = Callable[[Report], None]

_sinks: list[Sink] = []
_pieces = itertools.count(1)
_first: dict[str, tuple[Report, float]] = {}
"""The first report of the piece of work that has a name, and when it came."""
_last: dict[str, int] = {}


def report(
    what: str,
    done: int,
    total: int,
    *,
    tokens: int | None = None,
    flops: float | None = None,
    cost: float | None = None,
) -> None:
    """`tokens`, `flops` and `cost` are what all took that is done. A new piece of work begins with a new name, with
    nothing done, or where less is done than was."""
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
        now - began,
        first.before,
        first.piece,
    )
    for sink in _sinks:
        sink(told)


def counted(what: str, items: Iterable[T], total: int, at_once: int = 1) -> Iterator[T]:
    """The items; when the taker comes back for the next one, so many are reported as done."""
    report(what, 0, total)
    for done, item in enumerate(items, 1):
        yield item
        if done % at_once == 0 or done == total:
            report(what, done, total)


@contextmanager
def shown_by(*sinks: Sink) -> Iterator[None]:
    """Send the reports made inside to `sinks` too."""
    before = list(_sinks)
    _sinks.extend(sinks)
    try:
        yield
    finally:
        _sinks[:] = before


def every(seconds: float, tell: Sink) -> Sink:
    """A sink that passes on at most one report in `seconds`, the first of them not before that."""
    last = time.monotonic()

    def sink(now: Report) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            tell(now)

    return sink


def lines(write: Callable[[str], None], seconds: float = 10.0) -> Sink:
    """A sink that writes at most one line in `seconds`."""
    return every(seconds, lambda now: write(str(now)))


class Meter:
    """A sink that adds up what was spent."""

    def __init__(self) -> None:
        self.pieces: dict[int, Report] = {}

    def __call__(self, now: Report) -> None:
        self.pieces[now.piece] = now

    def spent(self) -> dict[str, float]:
        """tokens, flops, cost: each where it is known of anything."""
        found: dict[str, float] = {}
        for name in ("tokens", "flops", "cost"):
            known = [value for report in self.pieces.values() if (value := getattr(report, name)) is not None]
            if known:
                found[name] = sum(known)
        return found


def duration(seconds: float) -> str:
    """In the two units that a reader thinks in: 12 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Loading and saving a model draws bars of its own; progress is reported in another way here."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
