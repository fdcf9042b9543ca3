"""Engine openai with the Batch API: uploads files of requests and downloads results within a day, at another price.

    engine_options:
      batch: true
      poll_seconds: 60          # interval between status checks of a batch
      completion_window: 24h    # completion window that is requested from the server
      batch_size: 50000         # maximum requests in a batch
      batch_megabytes: 200      # maximum size of its file

No state of pending batches is kept on this machine. The metadata of a batch holds the ledger's name of model and
sampling parameters, and the range of prompt hashes in the batch. After a kill, the next run finds the batch on the
server, waits for it and takes the samples that it needs. Samples that the batch may contain are not sent again
meanwhile. Runs with the same model and sampling parameters and a key of the same project share batches.

A request that failed or expired is sent again in another batch; a refused one is not. Unusable replies are recorded as
without `batch`. From batches of earlier runs only successful samples are taken, because their failures may have been
recorded already. A batch continues on the server when its run is stopped.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from cos_assets.generation.engines.loop import Give, Stop
from cos_assets.generation.engines.openai.api import Api
from cos_assets.generation.engines.openai.calls import call, listed
from cos_assets.generation.engines.openai.online import CHOICES, fatal
from cos_assets.generation.engines.openai.replies import (
    Job,
    Malformed,
    Streak,
    Usage,
    completions,
    failed,
    message_of,
    passing,
    read_reply,
    said_in,
)
from cos_assets.generation.ledger import parameters_hash, prompt_hash
from cos_assets.generation.types import Request, Sampling

_OURS = "cos_assets"  # the metadata's key
_ENDED = ("completed", "expired", "cancelled", "failed")
_READS = 3  # attempts to read a file that has invalid JSON lines
_ROUNDS = 3  # maximum number of batches in which a request is sent
_LIMIT = "token_limit_exceeded"  # error code: this account has too many enqueued tokens

Sample = tuple[str, int]  # the prompt's hash, the index


@dataclass(frozen=True)
class _Batch:
    first: str
    last: str
    samples: frozenset[Sample] | None
    """None for a batch of an earlier run."""

    def may_hold(self, sample: Sample) -> bool:
        return self.first <= sample[0] <= self.last if self.samples is None else sample in self.samples


class _Error(NamedTuple):
    """Why a batch returned no sample."""

    again: bool
    """Whether the same request may succeed later."""
    said: str
    usage: Usage | None = None
    """Token counts if a model answered nevertheless."""


class Batches:
    """The requests of one stream, in one event loop."""

    def __init__(self, api: Api, sampling: Sampling, give: Give) -> None:
        self._api, self._sampling, self._give = api, sampling, give
        self._url = api.options.urls[0]
        self._client = api.client(self._url)
        self._name = f"{api.model.fingerprint}/{parameters_hash(sampling)}"
        self._wanted: dict[Sample, Request] = {}
        self._running: dict[str, _Batch] = {}
        self._sent: Counter[Sample] = Counter()
        self._booked: Counter[Sample] = Counter()  # attempts that have been passed to `give`
        self._errors: dict[Sample, _Error] = {}
        self._streak = Streak()
        self._unusable = ""
        self._refused = ""
        self._answered = 0
        self._size = api.options.batch_size
        self._room: int | None = None  # batches that may be added; None until the token limit was reached

    async def all(self, requests: Sequence[Request]) -> None:
        """Get completions for all requests and pass them to `give`.

        Raises ValueError if the key or the server cannot be used, and Stop if no more completions can be obtained.
        """
        from openai import NotFoundError

        self._wanted = {(prompt_hash(request.prompt), i): request for request in requests for i in request.indices}
        try:
            await self._take_up()
            while self._wanted:
                await self._submit()
                await asyncio.sleep(self._api.options.poll_seconds)
                await self._look()
                if self._unusable:
                    raise Stop(self._api.unusable(self._url, self._unusable))
        except NotFoundError as error:
            said = self._api.clean(message_of(error))
            raise ValueError(f"engine_options.batch: {self._url}: {said}; expected a server with a Batch API") from None
        finally:
            await self._client.close()
        if self._refused and not self._answered:
            raise Stop(f"engine: openai: {self._url} refused every request of the batch: {self._refused}")

    async def _take_up(self) -> None:
        """Find batches of earlier runs: collect those that have ended, and wait for the others."""
        for made in await self._call(self._list):
            said = made.metadata or {}
            batch = _Batch(said.get("first", ""), said.get("last", "~"), None)
            if said.get(_OURS) != self._name or not any(map(batch.may_hold, self._wanted)):
                continue
            if made.status in _ENDED:
                await self._collect(made, batch)
            else:
                self._running[made.id] = batch

    async def _list(self) -> list[Any]:
        return await listed(self._client.batches.list(limit=100))

    async def _submit(self) -> None:
        """Send the wanted samples that are in no running batch."""
        under_way = list(self._running.values())
        free = sorted(sample for sample in self._wanted if not any(batch.may_hold(sample) for batch in under_way))
        if self._room is not None and not under_way:
            self._room = max(1, self._room)
        for jobs, lines in self._files(free):
            if self._room is not None:
                if not self._room:
                    return
                self._room -= 1
            samples = frozenset((prompt_hash(job.request.prompt), i) for job in jobs for i in job.indices)
            first, last = min(samples)[0], max(samples)[0]
            content = (f"{self._name.replace('/', '-')}.jsonl", b"".join(lines))
            file = await self._call(partial(self._client.files.create, file=content, purpose="batch"))
            made = await self._create(file.id, {_OURS: self._name, "first": first, "last": last})
            self._sent.update(samples)
            self._running[made.id] = _Batch(first, last, samples)

    async def _create(self, file: str, metadata: dict[str, str]) -> Any:
        sent = False

        async def create() -> Any:
            nonlocal sent
            if sent:  # the response was lost, but the batch may have been created
                for batch in await self._list():
                    if batch.input_file_id == file:
                        return batch
            sent = True
            return await self._client.batches.create(
                input_file_id=file,
                endpoint=self._endpoint,
                completion_window=self._api.options.completion_window,
                metadata=metadata,
            )

        return await self._call(create)

    async def _look(self) -> None:
        """Check the status of every running batch, and collect those that have ended."""
        for name in list(self._running):
            made = await self._call(partial(self._client.batches.retrieve, name))
            if made.status not in _ENDED:
                continue
            batch = self._running.pop(name)
            if made.status == "failed":
                self._failed(made, batch)
            else:
                if self._room is not None:
                    self._room += 1
                await self._collect(made, batch)

    def _failed(self, made: Any, batch: _Batch) -> None:
        """Handle a batch that was refused as a whole, so that none of it was run."""
        if batch.samples is None:
            return
        errors = (made.errors and made.errors.data) or []
        said = self._api.clean("; ".join(str(error.message) for error in errors)) or "without a reason"
        if any(error.code == _LIMIT for error in errors):
            self._sent.subtract(batch.samples)
            self._room = self._room or 0
            if not self._running:  # this batch alone exceeds the limit
                self._size = len(batch.samples) // 2
                if not self._size:
                    raise Stop(f"engine: openai: {self._url}: a single request exceeds the limit of a batch: {said}")
        elif max(self._sent[sample] for sample in batch.samples) >= _ROUNDS:
            raise Stop(f"engine: openai: {self._url}: the batch {made.id} failed: {said}")

    async def _collect(self, made: Any, batch: _Batch) -> None:
        """Collect the results of a batch. Missing samples are sent again unless refused or sent too often."""
        for file in (made.output_file_id, made.error_file_id):
            if file:
                await self._read(file, found=batch.samples is None)
        lost = _Error(True, f"the batch is {made.status}, without an answer")
        for sample in batch.samples or ():
            if sample in self._wanted:
                self._fail(sample, self._errors.get(sample, lost))
        self._errors = {}

    def _fail(self, sample: Sample, error: _Error) -> None:
        """Record what was paid for a failed sample, and give the sample up unless it is sent again."""
        again = error.again and self._sent[sample] < _ROUNDS
        if again and error.usage is None:
            return
        request = self._wanted[sample] if again else self._wanted.pop(sample)
        self._refused = self._refused or ("" if error.again else error.said)
        usage = error.usage or (Usage() if error.again else Usage(0, 0, 0, 0))
        self._give(failed(self._job(request, sample[0], (sample[1],)), usage, error.said, again))
        self._booked[sample] = self._sent[sample]

    def _job(self, request: Request, key: str, indices: tuple[int, ...]) -> Job:
        first = (key, indices[0])
        return Job(request, indices, max(1, self._sent[first] - self._booked[first]))

    async def _read(self, file: str, found: bool) -> None:
        from openai import NotFoundError

        reads = 0

        async def read() -> None:
            nonlocal reads
            reads += 1
            content = (await self._client.files.content(file)).content
            lines = [line for line in content.split(b"\n") if line.strip()]  # not splitlines: text may contain U+2028
            if sum(self._take(line, found) for line in lines) < len(lines) and reads < _READS:
                raise Malformed("a line that is not JSON")  # if the line stays invalid, its samples are sent again

        with suppress(NotFoundError):  # the server no longer keeps the file
            await self._call(read)

    def _take(self, line: bytes, found: bool) -> bool:
        """Process the wanted samples of a line. Returns whether the line is readable.

        Samples that were taken are no longer wanted, so a line that is read again has no effect.
        """
        try:
            said = json.loads(line)
            match = re.fullmatch(r"([0-9a-f]{32})-(\d+)-(\d+)", said["custom_id"])
            response = said.get("response") or {}
            status, body, error = response.get("status_code"), response.get("body"), said.get("error")
        except (ValueError, TypeError, KeyError, AttributeError):
            return False
        if match is None:
            return True
        key, first, count = match[1], int(match[2]), int(match[3])
        wanted = [sample for i in range(first, first + count) if (sample := (key, i)) in self._wanted]
        if not wanted:
            return True
        if status == 200 and isinstance(body, dict):
            job = self._job(self._wanted[wanted[0]], key, tuple(range(first, first + count)))
            try:
                self._answer(job, key, body, found)
                self._streak.usable()
            except Malformed as problem:
                self._malformed(job, key, problem, found)
            return True
        text = said_in(error) or said_in(body) or "a request of the batch failed"
        again = not isinstance(status, int) or status < 400 or status in (408, 409, 429) or status >= 500
        text = self._api.clean(f"HTTP {status}: {text}" if status else text)
        self._errors |= dict.fromkeys(wanted, _Error(again, text))
        return True

    def _malformed(self, job: Job, key: str, problem: Malformed, found: bool) -> None:
        if (key, job.indices[0]) in self._errors:  # the line was read before
            return
        said = self._api.clean(str(problem))
        if problem.usage is None or found:  # the run that sent a found batch has recorded it
            self._errors |= {(key, index): _Error(True, said) for index in job.indices}
            return
        for index, usage in zip(job.indices, problem.usage.share(len(job.indices)), strict=True):
            self._errors[key, index] = _Error(True, said, usage)
        self._streak.unusable(problem)
        if self._streak.ended:
            self._unusable = said

    def _answer(self, job: Job, key: str, body: dict[str, Any], found: bool) -> None:
        from openai.types import Completion
        from openai.types.chat import ChatCompletion

        kind = ChatCompletion if self._api.kind == "chat" else Completion
        reply = read_reply(kind.construct(**body), len(job.indices))
        given = [
            sample
            for sample in completions(job, reply, self._sampling, self._api.model.chat, self._api.clean)
            if (key, sample.index) in self._wanted and not (found and sample.finish_reason == "error")
        ]
        for sample in given:
            del self._wanted[key, sample.index]
        self._answered += 1
        self._give(given)

    async def _call(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Call the server, and retry errors that may be temporary."""
        from openai import APIStatusError

        try:
            return await call(ask)
        except Exception as error:
            said = self._api.clean(message_of(error))
            if isinstance(error, APIStatusError) and error.status_code == 404:
                raise
            if isinstance(error, APIStatusError) and fatal(error):
                raise ValueError(self._api.refusal(self._url, error)) from None
            if isinstance(error, APIStatusError) or passing(error):
                raise Stop(
                    f"engine: openai: {self._url}: {said}; the server continues running batches, and the next run"
                    " collects them"
                ) from None
            raise

    @property
    def _endpoint(self) -> str:
        return "/v1/chat/completions" if self._api.kind == "chat" else "/v1/completions"

    def _files(self, samples: Sequence[Sample]) -> Iterator[tuple[list[Job], list[bytes]]]:
        """Yield the requests of one batch after another, and their lines, within the size limits."""
        jobs: list[Job] = []
        lines: list[bytes] = []
        size, most = 0, self._api.options.batch_megabytes * 1e6
        for job in self._jobs(samples):
            line = self._line(job)
            if jobs and (len(jobs) >= self._size or size + len(line) > most):
                yield jobs, lines
                jobs, lines, size = [], [], 0
            jobs.append(job)
            lines.append(line)
            size += len(line)
        if jobs:
            yield jobs, lines

    def _jobs(self, samples: Iterable[Sample]) -> Iterator[Job]:
        """Yield one request per sample or, with `n: true`, per run of consecutive samples of a prompt."""
        most = CHOICES if self._api.options.n else 1
        indices: list[int] = []
        prompt = ""
        for key, index in samples:
            if indices and (key != prompt or index != indices[-1] + 1 or len(indices) >= most):
                yield Job(self._wanted[prompt, indices[0]], tuple(indices))
                indices = []
            prompt = key
            indices.append(index)
        if indices:
            yield Job(self._wanted[prompt, indices[0]], tuple(indices))

    def _line(self, job: Job) -> bytes:
        name = f"{prompt_hash(job.request.prompt)}-{job.indices[0]}-{len(job.indices)}"
        body = self._api.prompt(job) | self._api.body(job, self._sampling, self._url)
        request = {"custom_id": name, "method": "POST", "url": self._endpoint, "body": body}
        return json.dumps(request).encode() + b"\n"
