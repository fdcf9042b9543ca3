"""Rate limits: adaptive concurrency per server, within the configured rates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

_LOST = 3  # lost connections in a row after which a server counts as dead
_REST = 5.0  # seconds until a dead server is used again
_LOOK = 0.5  # maximum seconds between checks of a waiting task, even without a notification


@dataclass
class Server:
    """One replica with at most `limit` concurrent requests.

    A 429 halves `limit`, and every `limit` successful replies raise it by one, up to `most`.
    """

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
        """Note that the server has responded, even if with an error."""
        self.lost, self.heard = 0, time.monotonic()

    def answered(self) -> None:
        self.lives()
        self.limit = min(self.most, self.limit + 1 / self.limit)

    def throttled(self, started: float, wait: float | None) -> None:
        """Note a 429 for a request sent at `started`.

        Requests sent before the last reduction of `limit` do not lower it again.
        """
        self.lives()
        if started >= self.shrunk:
            self.limit, self.shrunk = max(1.0, self.limit / 2), time.monotonic()
        self.rest(wait)

    def rest(self, wait: float | None) -> None:
        self.rests_until = max(self.rests_until, time.monotonic() + (wait or 0.0))

    def lost_connection(self, started: float) -> None:
        """Note a lost connection of a request sent at `started`. Ignored if the server has responded since."""
        if started < self.heard:
            return
        self.lost += 1
        if self.lost >= _LOST:
            self.lost = 0
            self.rest(_REST)


class Rate:
    """A rate limit per minute, spread evenly. `take` waits until the rate allows the amount. None is no limit."""

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
        """Correct the amount taken by `amount` (positive if more was used than was taken)."""
        if self._per_second is not None:
            self._free_at += amount / self._per_second


class Pool:
    """The replicas of one model. Requests are distributed over the available ones with free capacity."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = servers
        self._freed = asyncio.Condition()
        self._turn = 0

    @asynccontextmanager
    async def server(self, avoid: Server | None = None) -> AsyncIterator[Server]:
        """Wait for free capacity on a server and reserve it.

        `avoid` (the server that just failed) is used only if no other one is available.
        """
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
