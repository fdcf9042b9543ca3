"""Any OpenAI-compatible server or API, asked over HTTP.

    engine: openai
    model: meta-llama/Llama-3.1-8B-Instruct   # the name under which it is served
    engine_options:
      base_url: [http://a:8000/v1, http://b:8000/v1]  # one, or replicas; default OPENAI_BASE_URL, else OpenAI's own
      api_key_env: OPENAI_API_KEY             # the environment variable that holds the key; the key stands in no file
      api: chat                               # or completions; default chat where the model says chat: true
      concurrency: 64                         # requests at once on each server, at most; 429 shrinks it for a while
      timeout: 600                            # seconds for a request
      requests_per_minute: 500                # all servers together
      tokens_per_minute: 200000
      n: false                                # true: one request for all missing samples of a prompt
      batch: false                            # true: by the Batch API, at its price and pace; see openai_batch
      extra_body: {top_k: -1}                 # what else the server takes; null leaves out what this engine sends

A sample is one request, with a seed from (seed, prompt, sample index), and the counts that the server gives for it. The
seed has 31 bits, which every server takes; engine vllm's has more. Whether a seed repeats a sample is up to the server:
a sample index is otherwise only a label. With `n: true` it is always only a label, and the tokens that the server
counts for the request are booked in equal whole parts (the first samples have the remainder), so that the sum is right
and one sample's count is not.

429 shrinks the concurrency, Retry-After is honoured, and like server errors, timeouts and lost connections it is tried
again. What fails to the end is a completion with an error, which the next run tries again; so is a prompt that the
server refuses and a reply that a content filter cut. A refusal in words is an answer. What a server does without
`top_k` is its own affair: vLLM goes by the model's generation_config unless told {top_k: -1}.

Contents in parts and the finish reasons of other servers are read (`generation/replies.py`). A reply with text is kept
unless a filter or a fault cut it; an unknown reason is noted in the ledger's column `error`. Reasoning that a server
hands back beside the text, or in parts of its own, is in the counts, not in the text: serve without a reasoning parser
to keep it. At most four stop strings are sent, and all of them end the text here; `extra_body: {stop: null}` sends
none.

An unusable reply (without choices, or without text and a reason for that) is booked with its tokens as a failed
attempt, and the sample is asked for again, twice at most. Three unusable replies of one kind in a row end the purchase.

When it ends in this way, or because the key is refused or no server answers any more, what is under way is waited for
and handed over before that is raised: it has been paid for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any

from cos_assets.generation.completions import sample_seed, share, storable
from cos_assets.generation.engines.loop import Loop
from cos_assets.generation.engines.openai_batch import Batches
from cos_assets.generation.engines.openai_bounds import TooLarge, http_client
from cos_assets.generation.engines.openai_online import Online
from cos_assets.generation.engines.openai_options import Options, api_of
from cos_assets.generation.engines.openai_replies import (
    UNUSABLE,
    Job,
    Malformed,
    Reply,
    Usage,
    message_of,
    read_reply,
)
from cos_assets.generation.types import Completion, Model, Request, Sampling
from cos_assets.texts import without

_SEEDS = 2**31  # servers refuse larger ones, as Vertex, which takes signed 32 bits
_STOPS = 4  # OpenAI refuses more; all of them are applied to the text, too
_MISSING = (
    "engine: openai needs the packages openai and tenacity, which are not both installed here;"
    " install them with `pip install -e '.[openai]'`"
)


class OpenAIEngine:
    """Asks over HTTP, many requests at once, from a thread of its own."""

    name = "openai"

    def __init__(self, model: Model) -> None:
        self.model = model
        self.options = Options.read(model.engine_options)
        self.starts_cheaply = not self.options.batch  # a batch may take a day, whatever its size
        self.api = api_of(self.options, model.chat)
        self.secret = self.options.key()
        self._loop: Loop | None = None

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """Completions in the order in which they finish.

        Raises ValueError when the key or the model is refused, ConnectionError when no server answers any more.
        """
        if not requests:
            return
        self.close()
        since = time.perf_counter()
        way = Batches if self.options.batch else Online
        loop = self._loop = Loop("engine-openai", lambda give: way(self, sampling, give).all(requests))
        try:
            for done in loop.batches():
                yield share(done, since)
                since = time.perf_counter()
        finally:
            loop.stop()

    def close(self) -> None:
        """Cut off what still runs."""
        if self._loop is not None:
            self._loop.stop()
            self._loop = None

    def clean(self, text: str) -> str:
        """An error's text in one line, without the key: some servers send it back."""
        if self.secret:
            text = without(text, self.secret)
        return " ".join(storable(text).split())[:300]

    def client(self, url: str) -> Any:
        """A client belongs to one event loop, hence to one stream."""
        from openai import AsyncOpenAI, Timeout

        timeout = Timeout(self.options.timeout, connect=min(10.0, self.options.timeout))
        key = self.secret or "none"
        return AsyncOpenAI(api_key=key, base_url=url, timeout=timeout, max_retries=0, http_client=http_client())

    def body(self, job: Job, sampling: Sampling) -> dict[str, Any]:
        """What is sent beside the model and the prompt."""
        greedy = sampling.temperature == 0
        ours: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": 1.0 if greedy else sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        if not greedy:
            ours["seed"] = sample_seed(sampling.seed, job.request.prompt, job.indices[0]) % _SEEDS
            if sampling.top_k is not None:
                ours["top_k"] = sampling.top_k
        if sampling.stop:
            ours["stop"] = list(sampling.stop[:_STOPS])
        if len(job.indices) > 1:
            ours["n"] = len(job.indices)
        extra = self.options.extra_body
        return {key: value for key, value in {**extra, **ours}.items() if extra.get(key, 0) is not None}

    def prompt(self, job: Job) -> dict[str, Any]:
        """The model and the prompt, as the API has them."""
        text = job.request.prompt
        said = {"messages": [{"role": "user", "content": text}]} if self.api == "chat" else {"prompt": text}
        return {"model": self.model.model_id, **said}

    async def ask(self, client: Any, job: Job, sampling: Sampling) -> Reply:
        from openai import APIResponseValidationError

        api = client.chat.completions if self.api == "chat" else client.completions
        try:
            async with asyncio.timeout(self.options.timeout):  # the client's own starts anew with every byte
                reply = await api.create(**self.prompt(job), extra_body=self.body(job, sampling))
        except (ValueError, RecursionError, APIResponseValidationError) as error:  # no JSON, cut, or nested too deep
            raise Malformed(f"a reply that is no JSON: {error}") from None
        except TooLarge as error:
            raise Malformed(str(error), usage=Usage()) from None
        return read_reply(reply, len(job.indices))

    def unusable(self, url: str, error: str) -> str:
        """Why a purchase ends after unusable replies, and what to check."""
        return (
            f"engine: openai: {url}: {UNUSABLE} replies in a row are unusable: {error}; what they cost is booked. Check"
            " engine_options.api (chat or completions), engine_options.extra_body, and the server's chat template and"
            " parsers (of reasoning, of tools)"
        )

    def refusal(self, url: str, error: Any) -> str:
        """Why nothing can be had from a server, for who has to mend it."""
        variable = self.options.api_key_env
        where = f"engine: openai: {url} (HTTP {error.status_code})"
        if error.status_code in (401, 403):
            state = f"the key in the environment variable {variable}" if self.secret else f"no key: {variable} is unset"
            return f"{where} does not accept {state}; set {variable} to a key for this server"
        said = self.clean(message_of(error))
        return (
            f"{where} does not serve the model {self.model.model_id!r} with the key in {variable}: {said};"
            " check model:, engine_options.base_url and the account"
        )


def open_engine(model: Model) -> OpenAIEngine:
    """An engine over `model.engine_options`. Raises ValueError that names the option at fault, ModuleNotFoundError with
    the extra to install."""
    from importlib.util import find_spec

    for package in ("openai", "tenacity"):
        if find_spec(package) is None:
            raise ModuleNotFoundError(_MISSING, name=package)
    return OpenAIEngine(model)


def check(model: Model) -> None:
    """Look, without buying anything, whether `model` can be had: a key is set, a server answers and lists the model.

    Raises ValueError or ConnectionError in one line that names what to mend. Of several servers one that is well will
    do, as it will for the run. A server that lists no models, or only now has no time, is not refused.
    """
    from cos_assets.generation.engines.openai_check import look

    look(open_engine(model))
