"""Engine openai with concurrent requests, each of which is retried until it succeeds or its retries are used up."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from cos_assets.generation.engines.loop import Give, Stop
from cos_assets.generation.engines.openai.api import Api
from cos_assets.generation.engines.openai.rate_limit import Pool, Rate, Server
from cos_assets.generation.engines.openai.replies import (
    UNUSABLE,
    Job,
    Malformed,
    Reply,
    Streak,
    completions,
    failed,
    message_of,
    passing,
    retry_after,
    used,
)
from cos_assets.generation.types import Request, Sampling

_TRIES = 8  # attempts per request that fails; about a minute including waits
_THROTTLED_TRIES = 40  # attempts per request that is throttled; about twenty minutes
_BACKOFF = 0.5  # seconds, doubled by every attempt; the wait is a random part of it
_LONGEST_BACKOFF = 60.0
_LONGEST_REST = 600.0  # seconds; a server that asks for a longer wait ends the purchase
_HOPELESS = 8  # failed prompts in a row after which the purchase ends
_REFUSED = 32  # refused prompts after which the purchase ends, if none was answered
CHOICES = 128  # OpenAI's limit on n


class Online:
    """The requests of one stream, in one event loop."""

    def __init__(self, api: Api, sampling: Sampling, give: Give) -> None:
        self._api, self._sampling, self._give = api, sampling, give
        options = api.options
        self._pool = Pool([Server(url, api.client(url), options.concurrency) for url in options.urls])
        self._requests, self._tokens = Rate(options.requests_per_minute), Rate(options.tokens_per_minute)
        self._jobs: deque[Job] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._asking: set[asyncio.Task[None] | None] = set()  # tasks with a request that may still be answered
        self._end: Exception | None = None
        self._answered = 0
        self._hopeless: set[str] = set()  # prompts that failed after all retries, since the last answer
        self._refused: set[str] = set()
        self._streak = Streak()
        self._mean = float(sampling.max_tokens)  # estimated tokens of a completion

    async def all(self, requests: Sequence[Request]) -> None:
        """Get completions for all requests and pass them to `give`.

        Raises ValueError if the key or the model is refused, and Stop if no more completions can be obtained. Pending
        requests are awaited before an error is raised, because they have been paid for.
        """
        size = CHOICES if self._api.options.n else 1
        self._jobs.extend(
            Job(request, request.indices[at : at + size])
            for request in requests
            for at in range(0, len(request.indices), size)
        )
        workers = min(len(self._jobs), len(self._pool.servers) * self._api.options.concurrency)
        self._tasks = [asyncio.create_task(self._work()) for _ in range(workers)]
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for server in self._pool.servers:
                await server.client.close()
        if self._end is not None:
            raise self._end

    async def _work(self) -> None:
        while self._jobs and self._end is None:
            job = self._jobs.popleft()
            try:
                await self._finish(job)
            except asyncio.CancelledError:
                if self._end is not None and job.asked:  # it failed before and is not retried
                    self._give(failed(job, None, job.error))
                raise
            except Exception as error:
                self._stop(error)

    def _stop(self, error: Exception) -> None:
        """Send no more requests. Tasks that wait without a pending request are canceled."""
        if self._end is None:
            self._end = error
            self._jobs.clear()
            for task in self._tasks:
                if task not in self._asking and task is not asyncio.current_task():
                    task.cancel()

    async def _finish(self, job: Job) -> None:
        """Pass a job's completions to `give`; with an error if it failed after all retries."""
        from openai import APIStatusError
        from tenacity import AsyncRetrying, retry_if_exception

        retrying = AsyncRetrying(
            retry=retry_if_exception(passing),
            wait=lambda state: backoff(state.attempt_number),
            stop=lambda state: self._done_with(job),
            before_sleep=lambda state: self._book(job, state.outcome.exception() if state.outcome else None),
            reraise=True,
        )
        prompt = job.request.prompt
        try:
            reply: Reply = await retrying(self._try, job)
        except Exception as error:
            if isinstance(error, APIStatusError) and not passing(error):
                if not self._answered:
                    self._refused.add(prompt)
            elif passing(error):
                self._hopeless.add(prompt)
            else:
                raise
            self._give(failed(job, used(error), job.error))
            if self._streak.ended:
                raise Stop(self._api.unusable(job.last.url, job.error)) from None
            if len(self._refused) >= _REFUSED:
                raise Stop(f"{self._where()} refused every one of the first {_REFUSED} prompts: {job.error}") from None
            if len(self._hopeless) >= _HOPELESS:
                raise Stop(f"{self._where()}: {_HOPELESS} consecutive prompts got no answer: {job.error}") from None
            return
        self._answered += 1
        self._hopeless.clear()
        self._refused.clear()
        self._give(completions(job, reply, self._sampling, self._api.model.chat, self._api.clean))
        if self._end is None:  # the server ignores n, or returned a choice twice and lacks another
            rest = [index for at, index in enumerate(job.indices) if at not in reply.choices]
            self._jobs.extendleft(Job(job.request, (index,)) for index in reversed(rest))

    def _done_with(self, job: Job) -> bool:
        """Return whether a job that has just failed is given up."""
        spent = job.failed >= _TRIES or job.throttled >= _THROTTLED_TRIES or job.unusable >= UNUSABLE
        return spent or self._streak.ended or self._end is not None

    def _book(self, job: Job, error: BaseException | None) -> None:
        """Record an unusable reply of a job that is retried as a separate attempt, because it has been paid for."""
        if isinstance(error, Malformed) and error.usage is not None:
            self._give(failed(job, error.usage, job.error, again=True))
            job.asked = 0

    async def _try(self, job: Job) -> Reply:
        """Send a request once. On failure, the state of the server is updated before the error is raised."""
        from openai import APIConnectionError, APIStatusError

        api, choices, task = self._api, len(job.indices), asyncio.current_task()
        self._asking.discard(task)
        reckoned = len(job.request.prompt) / 4 + choices * self._mean
        await self._requests.take(1)
        await self._tokens.take(reckoned)
        async with self._pool.server(job.last) as server:
            job.last, started = server, time.monotonic()
            job.asked += 1
            self._asking.add(task)
            try:
                reply = await api.ask(server.client, server.url, job, self._sampling)
            except Exception as error:
                self._asking.discard(task)
                job.error = api.clean(message_of(error))
                if isinstance(error, APIStatusError):
                    self._tokens.correct(-reckoned)
                    self._note(server, job, error, started)
                elif isinstance(error, (APIConnectionError, TimeoutError, Malformed)):
                    if isinstance(error, APIConnectionError):
                        server.lost_connection(started)
                    job.failed += 1
                    if isinstance(error, Malformed) and error.usage is not None:
                        job.unusable += 1
                        self._streak.unusable(error)
                raise
            server.answered()
        self._streak.usable()
        prompt, completion, *_ = reply.usage
        if completion is not None:
            self._mean += (completion / len(reply.choices) - self._mean) / min(self._answered + 1, 100)
            self._tokens.correct((prompt or 0) + completion - reckoned)
        return reply

    def _note(self, server: Server, job: Job, error: Any, started: float) -> None:
        if fatal(error):
            raise ValueError(self._api.refusal(server.url, error)) from None
        wait = retry_after(error)
        if wait is not None and wait > _LONGEST_REST:
            raise Stop(f"engine: openai: {server.url} asks to wait for {wait:.0f} s; run again later") from None
        if error.status_code == 429:
            job.throttled += 1
            server.throttled(started, wait)
        else:
            job.failed += 1
            server.lives()
            server.rest(wait)

    def _where(self) -> str:
        return f"engine: openai: {', '.join(server.url for server in self._pool.servers)}"


def backoff(attempt: int) -> float:
    """Return the seconds to wait after the given attempt (counted from 1)."""
    return random.uniform(0.1, 1) * min(_LONGEST_BACKOFF, _BACKOFF * 2**attempt)


def fatal(error: Any) -> bool:
    """Return whether an HTTP error means that this key cannot get anything from this server."""
    return error.status_code in (401, 402, 403, 404) or error.code == "insufficient_quota"
