"""How fast servers are asked: as many requests at once as they bear, within the rates that were agreed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

_LOST = 3  # lost connections in a row after which a server counts as dead
_REST = 5.0  # seconds until a dead server is tried again
_LOOK = 0.5  # seconds after which who waits looks again, whatever it was told


@dataclass
class Server:
    """One replica. `limit` requests at once: 429 halves it, success lets it grow by one for each `limit` replies."""

    url: str
    client: Any
    most: int
    limit: float = field(init=False)
    running: int = 0
    rests_until: float = 0.0
    lost: int = 0
    turn: int = 0
    shrunk: float = 0.0
    heard: float = 0.0

    def __post_init__(self) -> None:
        self.limit = self.most

    def lives(self) -> None:
        """It has said something, be it an error."""
        self.lost, self.heard = 0, time.monotonic()

    def answered(self) -> None:
        self.lives()
        self.limit = min(self.most, self.limit + 1 / self.limit)

    def throttled(self, started: float, wait: float | None) -> None:
        """A 429 to a request of `started`. Those sent before the last one was noticed say nothing new."""
        self.lives()
        if started >= self.shrunk:
            self.limit, self.shrunk = max(1.0, self.limit / 2), time.monotonic()
        self.rest(wait)

    def rest(self, wait: float | None) -> None:
        self.rests_until = max(self.rests_until, time.monotonic() + (wait or 0.0))

    def lost_connection(self, started: float) -> None:
        """A request of `started` was lost. If others have been answered since, that says nothing of the server."""
        if started < self.heard:
            return
        self.lost += 1
        if self.lost >= _LOST:
            self.lost = 0
            self.rest(_REST)


class Rate:
    """At most so much a minute, spread evenly: what is taken too early is waited for."""

    def __init__(self, per_minute: float | None) -> None:
        self._per_second = per_minute / 60 if per_minute else None
        self._free_at = 0.0

    async def take(self, amount: float) -> None:
        if self._per_second is None:
            return
        now = time.monotonic()
        starts = max(now, self._free_at)
        self._free_at = starts + amount / self._per_second
        await asyncio.sleep(starts - now)

    def correct(self, amount: float) -> None:
        """`amount` more (less where negative) than was taken has been used."""
        if self._per_second is not None:
            self._free_at += amount / self._per_second


class Pool:
    """The replicas of one model. Requests go round among those that are well and have room."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = servers
        self._freed = asyncio.Condition()
        self._turn = 0

    @asynccontextmanager
    async def server(self, avoid: Server | None = None) -> AsyncIterator[Server]:
        """Room on a server, when there is some; not on `avoid` (the one that just failed) where another is well."""
        chosen = await self._wait(avoid)
        try:
            yield chosen
        finally:
            chosen.running -= 1
            async with self._freed:
                self._freed.notify(2)  # the limit may have grown

    async def _wait(self, avoid: Server | None) -> Server:
        while True:
            now = time.monotonic()
            well = [s for s in self.servers if s.rests_until <= now]
            well = [s for s in well if s is not avoid] or well
            if room := [s for s in well if s.running < int(s.limit)]:
                chosen = min(room, key=lambda s: (s.running, s.turn))
                self._turn += 1
                chosen.turn = self._turn
                chosen.running += 1
                return chosen
            wait = _LOOK if well else min(_LOOK, min(s.rests_until for s in self.servers) - now)
            try:
                async with asyncio.timeout(wait), self._freed:
                    await self._freed.wait()
            except TimeoutError:
                pass
