"""Schema of `engine_options:` for `engine: openai`. The docstring of the module `engine` explains the options."""

from __future__ import annotations

import os
import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from cos_assets.fields import Count, EngineOptions, Text
from cos_assets.generation.engines.openai.reasoning import DIALECTS, dialect_of
from cos_assets.generation.types import Chat

OPENAI = "https://api.openai.com/v1"
_KEY = "OPENAI_API_KEY"
_SENT = ("temperature", "top_p", "max_tokens", "seed")
_OWN = ("model", "messages", "prompt", "n", "stop", "stream", "echo", "best_of", "suffix", "tools")

_BATCH = ("poll_seconds", "completion_window", "batch_size", "batch_megabytes")
_ONLINE = ("concurrency", "requests_per_minute", "tokens_per_minute")


class Options(EngineOptions):
    """`engine_options:` of a model with `engine: openai`."""

    base_url: Text | list[Text] | None = None
    api_key_env: Text = _KEY
    api: Literal["chat", "completions"] | None = None
    concurrency: Count = Field(64, le=1000)
    timeout: float = Field(600, gt=0)
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)
    n: bool = False
    batch: bool = False
    poll_seconds: float = Field(60, gt=0)
    completion_window: Text = "24h"
    batch_size: Count = Field(50_000, le=50_000)
    batch_megabytes: float = Field(200, gt=0, le=200)
    extra_body: dict[str, Any] = {}
    reasoning_dialect: str | None = None

    @field_validator("base_url")
    @classmethod
    def _urls(cls, given: Any) -> Any:
        if given == []:
            raise ValueError("is an empty list; give one URL or a list of URLs")
        for url in [given] if isinstance(given, str) else given or []:
            _check(url)
        return given

    @field_validator("api_key_env")
    @classmethod
    def _no_key(cls, given: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", given):  # the value is not shown, because it may be the key
            raise ValueError("is not the name of an environment variable; give the name of the variable with the key")
        return given

    @field_validator("reasoning_dialect")
    @classmethod
    def _known(cls, given: str | None) -> str | None:
        if given is not None and given not in DIALECTS:
            raise ValueError(f"{given!r} is not known; allowed: {', '.join(DIALECTS)}")
        return given

    @field_validator("extra_body")
    @classmethod
    def _not_ours(cls, given: dict[str, Any]) -> dict[str, Any]:
        for key, value in given.items():
            if key in _OWN and not (key == "stop" and value is None):
                raise ValueError(f"{key} is set by the engine; leave it out")
            if key in _SENT and value is not None:
                raise ValueError(f"{key} belongs under sampling:; allowed here: null, which omits it from requests")
        return given

    @model_validator(mode="after")
    def _one_url_once(self) -> Options:
        urls = [self.base_url] if isinstance(self.base_url, str) else self.base_url or []
        if len({url.rstrip("/") for url in urls}) < len(urls):
            raise ValueError("base_url: a server is listed twice; list each server once")
        return self

    @model_validator(mode="after")
    def _one_way(self) -> Options:
        if self.batch and isinstance(self.base_url, list) and len(self.base_url) > 1:
            raise ValueError("batch: batch: true works with one server only; give one base_url")
        if stray := sorted(self.model_fields_set & set(_BATCH if not self.batch else _ONLINE)):
            raise ValueError(f"{stray[0]}: allowed only {'without' if self.batch else 'with'} batch: true")
        return self

    @property
    def urls(self) -> list[str]:
        urls = self.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI
        if not self.base_url:
            _check(str(urls), "OPENAI_BASE_URL: ")
        return [urls] if isinstance(urls, str) else urls

    def dialect(self, url: str) -> str:
        """Return the dialect in which a server is asked for reasoning."""
        return self.reasoning_dialect or dialect_of(url)

    def key(self) -> str | None:
        """Return the key, or None if none is set and none is needed (mostly for self-hosted servers)."""
        urls = self.urls
        if key := os.environ.get(self.api_key_env):
            return key
        if "api_key_env" in self.model_fields_set or OPENAI in [url.rstrip("/") for url in urls]:
            raise ValueError(
                f"engine_options.api_key_env: the environment variable {self.api_key_env} is not set;"
                f" set it to a key for {', '.join(urls)}"
            )
        return None


def _check(url: str, where: str = "") -> None:
    parts = urlsplit(url)
    if "@" in url or parts.query:  # URLs appear in messages
        raise ValueError(f"{where}contains a user name, a password or a query; give the key with api_key_env:")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{where}{url!r} is not an http(s) URL; expected for example http://localhost:8000/v1")


def identity(model_id: str, chat: Chat | None, options: Any) -> list[Any]:
    """Return what the samples of a served model depend on: its name, the API and the extra body, but not the server.

    The system message and the reasoning are a part of the fingerprint of every engine.

    Raises
    ------
    ValueError
        If an option is wrong.

    Examples
    --------
    >>> identity("org/model", Chat(), {"concurrency": 8, "extra_body": {"top_k": -1}})
    ['org/model', 'chat', {'top_k': -1}]
    """
    read = Options.read(options)
    return [model_id, api_of(read, chat is not None), body_of(read, chat)]


def body_of(options: Options, chat: Chat | None) -> dict[str, Any]:
    """Return the additional fields of requests: the extra body and the arguments of the chat template.

    Raises
    ------
    ValueError
        If the arguments of the chat template are given in both.

    Examples
    --------
    >>> body_of(Options(), Chat(kwargs={"enable_thinking": False}))
    {'chat_template_kwargs': {'enable_thinking': False}}
    """
    if chat is None or not chat.kwargs:
        return options.extra_body
    if "chat_template_kwargs" in options.extra_body:
        raise ValueError("engine_options.extra_body: chat_template_kwargs is given twice; leave it out here")
    return {**options.extra_body, "chat_template_kwargs": dict(chat.kwargs)}


def api_of(options: Options, chat: bool) -> str:
    """Return the API to use: "chat" or "completions".

    Raises
    ------
    ValueError
        If `chat` and the options choose completions, which send a prompt without a chat template.

    Examples
    --------
    >>> api_of(Options(), chat=False), api_of(Options(), chat=True)
    ('completions', 'chat')
    """
    if chat and options.api == "completions":
        raise ValueError("engine_options.api: completions does not support chat: true; leave one of them out")
    return options.api or ("chat" if chat else "completions")
