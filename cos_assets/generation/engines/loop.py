"""An event loop in a separate thread, so that callers with an event loop of their own (notebooks) can wait for it."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

from cos_assets.generation.types import Completion

_FLUSH_SECONDS = 0.1  # interval at which finished samples are yielded, approximately
Give = Callable[[list[Completion]], None]


class Stop(Exception):
    """Raised by the work when no more completions can be obtained."""


class Loop:
    """Runs a coroutine in a thread, and yields the completions that it passes on.

    Parameters
    ----------
    name : str
        The name of the thread.
    work : callable
        `work(give)` returns the coroutine, which calls `give` with lists of completions. It raises `Stop` when no more
        completions can be obtained.

    Examples
    --------
    >>> async def work(give):
    ...     give([Completion("p", "2 + 3?", 0, "5", "stop", 4, 2, None, 0.1)])
    >>> loop = Loop("example", work)
    >>> [completion.text for batch in loop.batches() for completion in batch]
    ['5']
    """

    def __init__(self, name: str, work: Callable[[Give], Coroutine[Any, Any, None]]) -> None:
        self._out: queue.SimpleQueue[list[Completion] | BaseException | None] = queue.SimpleQueue()
        self._work = work
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def batches(self) -> Iterator[list[Completion]]:
        """Yield completions in batches. Those that finished before a failure are yielded before it is raised.

        Raises
        ------
        ConnectionError
            If the work raises `Stop`. Any other exception of the work is raised unchanged.
        """
        done: list[Completion] = []
        until = time.monotonic() + _FLUSH_SECONDS
        while True:
            try:
                item = self._out.get(timeout=max(0.0, until - time.monotonic()) if done else None)
            except queue.Empty:
                item = []
            if isinstance(item, list):
                done += item
            if done and (not isinstance(item, list) or time.monotonic() >= until):
                yield done
                done, until = [], time.monotonic() + _FLUSH_SECONDS
            if isinstance(item, Stop):
                raise ConnectionError(str(item)) from None
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return

    def stop(self) -> None:
        """Cancel the work, and wait until the thread has ended."""
        self._ready.wait()
        with suppress(RuntimeError):  # the loop has already ended
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _run(self) -> None:
        async def main() -> None:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            self._ready.set()
            await self._work(self._out.put)

        try:
            asyncio.run(main())
        except BaseException as error:  # re-raised by `batches` in the caller's thread
            self._out.put(error)
        else:
            self._out.put(None)

    _loop: asyncio.AbstractEventLoop
    _task: Any
