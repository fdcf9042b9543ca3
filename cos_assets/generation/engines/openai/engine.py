"""Engine openai: requests over HTTP to any OpenAI-compatible server or API.

    engine: openai
    model: meta-llama/Llama-3.1-8B-Instruct   # the name under which it is served
    engine_options:
      base_url: [http://a:8000/v1, http://b:8000/v1]  # one, or replicas; default OPENAI_BASE_URL, else OpenAI's own
      api_key_env: OPENAI_API_KEY             # environment variable with the key, which is never written to a file
      api: chat                               # or completions; default chat if the model has chat: true
      concurrency: 64                         # maximum concurrent requests per server; 429 lowers it temporarily
      timeout: 600                            # seconds per request
      requests_per_minute: 500                # for all servers together
      tokens_per_minute: 200000
      n: false                                # true: one request for all missing samples of a prompt
      batch: false                            # true: use the Batch API, at its price and speed; see `batch`
      extra_body: {top_k: -1}                 # additional fields of the request; null omits a field

Each sample is one request, with a seed from (seed, prompt, sample index) and the token counts that the server returns.
The seed has 31 bits, which every server accepts; engine vllm's seed has more. Whether the same seed reproduces a sample
depends on the server. If it does not, the sample index is only a label. With `n: true` it is always only a label, and
the server's token counts of the request are split into equal whole parts (the first samples get the remainder). Then
the sum is right, but the counts of single samples are not.

A 429 lowers the concurrency, and Retry-After is honored. Status 429, server errors, timeouts and lost connections are
retried. A request that still fails gives a completion with an error, which the next run retries. So does a prompt that
the server refuses, and a reply that a content filter cut. A refusal in words is a normal reply. Behavior without
`top_k` depends on the server: vLLM uses the model's generation_config unless given {top_k: -1}.

Contents in parts and the finish reasons of other servers are understood (`generation/replies.py`). A reply with text is
kept unless a filter or a fault cut it; an unknown finish reason is noted in the ledger's column `error`. Reasoning that
a server returns beside the text or in separate parts is included in the counts but not in the text. To keep it, serve
without a reasoning parser. At most four stop strings are sent, and all of them are applied to the returned text;
`extra_body: {stop: null}` sends none.

An unusable reply (one without choices, or with neither text nor a known finish reason) is recorded with its tokens as a
failed attempt. The sample is requested again at most twice. Three unusable replies of one kind in a row end the
purchase.

If a purchase ends for this reason, because the key is refused, or because no server answers any more, pending requests
are awaited and their completions are yielded before the error is raised, because they have been paid for.
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
    """Sends requests over HTTP, many at once, from a separate thread.

    Parameters
    ----------
    model : Model
        The name under which the model is served. The module's docstring lists its `engine_options`.

    Raises
    ------
    ValueError
        If an engine option is wrong, or if no key is set for a server that needs one.
    """

    name = "openai"

    def __init__(self, model: Model) -> None:
        self.api = Api(model)
        self.starts_cheaply = not self.api.options.batch  # a batch of any size may take a day
        self._loop: Loop | None = None

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """Yield completions in the order in which they finish (see `Engine.stream`).

        Raises
        ------
        ValueError
            If the key or the model is refused.
        ConnectionError
            If no more completions can be obtained, for example because no server answers any more.
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
        """Cancel pending requests."""
        if self._loop is not None:
            self._loop.stop()
            self._loop = None
