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

import time
from collections.abc import Iterator, Sequence

from cos_assets.generation.completions import share
from cos_assets.generation.engines.loop import Loop
from cos_assets.generation.engines.openai.api import Api
from cos_assets.generation.engines.openai.batch import Batches
from cos_assets.generation.engines.openai.online import Online
from cos_assets.generation.types import Completion, Model, Request, Sampling


class OpenAIEngine:
    """Asks over HTTP, many requests at once, from a thread of its own."""

    name = "openai"

    def __init__(self, model: Model) -> None:
        self.api = Api(model)
        self.starts_cheaply = not self.api.options.batch  # a batch may take a day, whatever its size
        self._loop: Loop | None = None

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """Completions in the order in which they finish.

        Raises ValueError when the key or the model is refused, ConnectionError when no server answers any more.
        """
        if not requests:
            return
        self.close()
        since = time.perf_counter()
        way = Batches if self.api.options.batch else Online
        loop = self._loop = Loop("engine-openai", lambda give: way(self.api, sampling, give).all(requests))
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
