"""Engine openai: any OpenAI-compatible server or API.

The docstring of `engine` explains behavior and options. `online` and `batch` implement the two ways to send requests,
both with `api`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from cos_assets.generation.engines import Descriptor
from cos_assets.generation.engines.openai.options import OPENAI, Options, api_of, identity
from cos_assets.generation.engines.openai.reasoning import fields
from cos_assets.generation.types import Chat, Engine, Model

_LACKING = ("top_k", "min_p", "repetition_penalty")
_MISSING = (
    "engine: openai needs the packages openai and tenacity, which are not both installed here;"
    " install them with `pip install -e '.[openai]'`"
)


class _Descriptor(Descriptor):
    local = gpu = False
    origin = "called over HTTP (engine: openai)"

    def validate(self, model_id: str, chat: Chat | None, options: Mapping[str, Any]) -> None:
        identity(model_id, chat, options)
        if chat is not None:
            read = Options.read(options)
            for dialect in {read.dialect(url) for url in read.urls}:
                fields(dialect, chat.reasoning)

    def fingerprint(self, model_id: str, chat: Chat | None, options: Mapping[str, Any]) -> str:
        """Return a name that depends on the model's name, the API and the extra body, but not on the server."""
        digest = hashlib.sha256(json.dumps(identity(model_id, chat, options), sort_keys=True).encode()).hexdigest()
        return f"{re.sub(r'[^A-Za-z0-9._-]', '-', model_id.split('/')[-1])}-{digest[:16]}"

    def discounted(self, options: Mapping[str, Any]) -> bool:
        return bool(options.get("batch"))

    def json_options(self, chat: Chat | None, options: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
        """Add `response_format` for the chat API. `extra_body: {response_format: null}` turns it off."""
        if api_of(Options.read(options), chat is not None) != "chat":
            return options
        return {**options, "extra_body": {"response_format": schema, **(options.get("extra_body") or {})}}

    def unsupported(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return what OpenAI's own API lacks and `extra_body` does not omit. Other servers have it."""
        read = Options.read(options)
        if OPENAI not in [url.rstrip("/") for url in read.urls]:
            return ()
        return tuple(name for name in _LACKING if read.extra_body.get(name, 0) is not None)

    def preflight(self, model: Model) -> None:
        """Check that a key is set, and that a server answers and lists the model.

        Of several servers, one that answers suffices, as it does for the run. A server that does not list models, or
        that is only busy, passes.
        """
        from cos_assets.generation.engines.openai.api import Api
        from cos_assets.generation.engines.openai.preflight import preflight

        self._require()
        preflight(Api(model))

    def open(self, model: Model) -> Engine:
        from cos_assets.generation.engines.openai.engine import OpenAIEngine

        self._require()
        return OpenAIEngine(model)

    def _require(self) -> None:
        from importlib.util import find_spec

        for package in ("openai", "tenacity"):
            if find_spec(package) is None:
                raise ModuleNotFoundError(_MISSING, name=package)


ENGINE = _Descriptor()
