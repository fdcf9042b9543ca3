"""Requests to an OpenAI-compatible API, and messages for its refusals."""

from __future__ import annotations

import asyncio
from typing import Any

from cos_assets.generation.completions import sample_seed, storable
from cos_assets.generation.engines.openai.limits import TooLarge, http_client
from cos_assets.generation.engines.openai.options import Options, api_of, body_of
from cos_assets.generation.engines.openai.reasoning import fields
from cos_assets.generation.engines.openai.redaction import redact
from cos_assets.generation.engines.openai.replies import UNUSABLE, Job, Malformed, Reply, Usage, message_of, read_reply
from cos_assets.generation.types import Model, Reasoning, Sampling

_SEEDS = 2**31  # some servers refuse larger seeds; Vertex takes signed 32 bits
_OPTIONAL = ("min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")  # sent if they are used
_STOPS = 4  # OpenAI refuses more; all stop strings are also applied to the returned text


class Api:
    """A model behind an API: its options, its key, and the kind of API (`kind`: chat or completions)."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.options = Options.read(model.engine_options)
        self.kind = api_of(self.options, model.chat is not None)
        self.secret = self.options.key()

    def clean(self, text: str) -> str:
        """Return an error's text in one line of at most 300 characters, without the key, which some servers echo."""
        if self.secret:
            text = redact(text, self.secret)
        return " ".join(storable(text).split())[:300]

    def client(self, url: str) -> Any:
        """Create a client. A client belongs to one event loop, hence to one stream."""
        from openai import AsyncOpenAI, Timeout

        timeout = Timeout(self.options.timeout, connect=min(10.0, self.options.timeout))
        key = self.secret or "none"
        return AsyncOpenAI(api_key=key, base_url=url, timeout=timeout, max_retries=0, http_client=http_client())

    def body(self, job: Job, sampling: Sampling, url: str) -> dict[str, Any]:
        """Return the fields of a request to a server other than the model and the prompt."""
        greedy = sampling.temperature == 0
        dialect, reasoning = self.options.dialect(url), self.model.chat.reasoning if self.model.chat else Reasoning()
        asked = fields(dialect, reasoning)
        # OpenAI's reasoning models refuse max_tokens.
        most = "max_completion_tokens" if reasoning.identity and dialect == "openai" else "max_tokens"
        ours: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": 1.0 if greedy else sampling.top_p,
            most: sampling.max_tokens,
        }
        if not greedy:
            ours["seed"] = sample_seed(sampling.seed, job.request.prompt, job.indices[0]) % _SEEDS
            if sampling.top_k is not None:
                ours["top_k"] = sampling.top_k
        ours |= {name: getattr(sampling, name) for name in _OPTIONAL if name in sampling.model_dump()}
        if sampling.stop:
            ours["stop"] = list(sampling.stop[:_STOPS])
        if len(job.indices) > 1:
            ours["n"] = len(job.indices)
        extra = body_of(self.options, self.model.chat)
        template = asked.pop("chat_template_kwargs", {}) | (extra.get("chat_template_kwargs") or {})
        whole = {**asked, **extra, **({"chat_template_kwargs": template} if template else {}), **ours}
        return {key: value for key, value in whole.items() if extra.get(key, 0) is not None}

    def prompt(self, job: Job) -> dict[str, Any]:
        """Return the fields of a request for the model and the prompt."""
        text = job.request.prompt
        if self.kind != "chat":
            return {"model": self.model.model_id, "prompt": text}
        system = self.model.chat.system if self.model.chat else None
        messages = [{"role": "system", "content": system}] if system else []
        return {"model": self.model.model_id, "messages": [*messages, {"role": "user", "content": text}]}

    async def ask(self, client: Any, url: str, job: Job, sampling: Sampling) -> Reply:
        from openai import APIResponseValidationError

        api = client.chat.completions if self.kind == "chat" else client.completions
        try:
            async with asyncio.timeout(self.options.timeout):  # the client's own timeout restarts with every byte
                reply = await api.create(**self.prompt(job), extra_body=self.body(job, sampling, url))
        except (ValueError, RecursionError, APIResponseValidationError) as error:  # no JSON, cut, or nested too deep
            raise Malformed(f"a reply that is not JSON: {error}") from None
        except TooLarge as error:
            raise Malformed(str(error), usage=Usage()) from None
        return read_reply(reply, len(job.indices))

    def unusable(self, url: str, error: str) -> str:
        """Return the message for a purchase that ends after unusable replies, with what to check."""
        return (
            f"engine: openai: {url}: {UNUSABLE} consecutive replies are unusable: {error}. Their cost is recorded."
            " Check engine_options.api (chat or completions), engine_options.extra_body, and the server's chat template"
            " and parsers (of reasoning, of tools)"
        )

    def refusal(self, url: str, error: Any) -> str:
        """Return the message for a server that refuses the key or the model, with what to fix."""
        variable = self.options.api_key_env
        where = f"engine: openai: {url} (HTTP {error.status_code})"
        if error.status_code in (401, 403):
            key = f"the environment variable {variable}"
            state = f"does not accept the key in {key}" if self.secret else f"needs a key, and {key} is not set"
            return f"{where} {state}; set {variable} to a key for this server"
        said = self.clean(message_of(error))
        return (
            f"{where} does not serve the model {self.model.model_id!r} with the key in {variable}: {said};"
            " check model:, engine_options.base_url and the account"
        )
