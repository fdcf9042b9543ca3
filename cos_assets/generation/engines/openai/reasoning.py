"""Requests for reasoning, whose fields differ between OpenAI-compatible servers.

A server's dialect is guessed from its address, and `engine_options.reasoning_dialect` overrides the guess. Replies are
read in every dialect, whatever the server (`generation/replies.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from cos_assets.generation.types import Reasoning

_HOSTS = {
    "api.openai.com": "openai",
    "openrouter.ai": "openrouter",
    "api.deepseek.com": "deepseek",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gemini",
    "aliyuncs.com": "dashscope",
}
_OLLAMA_PORT = 11434


def dialect_of(url: str) -> str:
    """Return the dialect of a server, guessed from its address.

    Examples
    --------
    >>> [dialect_of(url) for url in ("https://openrouter.ai/api/v1", "http://localhost:11434/v1", "http://node:8000/v1")]
    ['openrouter', 'ollama', 'vllm']
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.port == _OLLAMA_PORT:
        return "ollama"
    return next((name for end, name in _HOSTS.items() if host == end or host.endswith(f".{end}")), "vllm")


def fields(dialect: str, reasoning: Reasoning) -> dict[str, Any]:
    """Return the fields of a request that ask for the reasoning; none if nothing is asked for.

    Raises
    ------
    ValueError
        If the server cannot do what is asked for.

    Examples
    --------
    >>> fields("openrouter", Reasoning(budget=2000)), fields("openai", Reasoning(effort="low"))
    ({'reasoning': {'max_tokens': 2000}}, {'reasoning_effort': 'low'})
    """
    if not reasoning.identity:
        return {}
    return DIALECTS[dialect](reasoning)


def _vllm(asked: Reasoning) -> dict[str, Any]:
    found: dict[str, Any] = _effort(asked)
    if asked.mode != "auto":  # templates use either name, and ignore the other
        on = asked.mode == "on"
        found["chat_template_kwargs"] = {"enable_thinking": on, "thinking": on}
    return found | ({"thinking_token_budget": asked.budget} if asked.budget else {})


def _openai(asked: Reasoning) -> dict[str, Any]:
    _no_budget("openai", asked)
    return {"reasoning_effort": "none"} if asked.mode == "off" else _effort(asked)


def _openrouter(asked: Reasoning) -> dict[str, Any]:
    if asked.budget and asked.effort:
        raise ValueError("reasoning.effort: the server takes either budget or effort; leave one of them out")
    found: dict[str, Any] = {} if asked.mode == "auto" else {"enabled": asked.mode == "on"}
    found |= {"max_tokens": asked.budget} if asked.budget else {}
    return {"reasoning": found | ({"effort": asked.effort} if asked.effort else {})}


def _thinking(dialect: str) -> Callable[[Reasoning], dict[str, Any]]:
    def asks(asked: Reasoning) -> dict[str, Any]:
        if dialect == "deepseek":
            _no_budget(dialect, asked)
        elif asked.mode == "on" and not asked.budget:
            raise ValueError("reasoning.budget: is missing; the server needs one with mode: on")
        found: dict[str, Any] = {}
        if asked.mode != "auto" or asked.budget:
            found = {"thinking": {"type": "disabled" if asked.mode == "off" else "enabled"}}
            if asked.budget:
                found["thinking"]["budget_tokens"] = asked.budget
        return found | _effort(asked)

    return asks


def _gemini(asked: Reasoning) -> dict[str, Any]:
    config: dict[str, Any] = {"include_thoughts": True} if asked.keep and asked.mode != "off" else {}
    if asked.mode == "off" or asked.budget:
        config["thinking_budget"] = asked.budget or 0
    if asked.effort:
        config["thinking_level"] = asked.effort
    return {"extra_body": {"google": {"thinking_config": config}}}


def _dashscope(asked: Reasoning) -> dict[str, Any]:
    if asked.effort:
        raise ValueError("reasoning.effort: the server has no efforts; give budget instead")
    found: dict[str, Any] = {} if asked.mode == "auto" else {"enable_thinking": asked.mode == "on"}
    return found | ({"thinking_budget": asked.budget} if asked.budget else {})


def _ollama(asked: Reasoning) -> dict[str, Any]:
    _no_budget("ollama", asked)
    if asked.mode == "off":
        return {"reasoning_effort": "none"}
    return _effort(asked) or ({"reasoning_effort": "medium"} if asked.mode == "on" else {})


DIALECTS: Mapping[str, Callable[[Reasoning], dict[str, Any]]] = {
    "vllm": _vllm,  # and SGLang
    "openai": _openai,
    "openrouter": _openrouter,
    "deepseek": _thinking("deepseek"),
    "anthropic": _thinking("anthropic"),
    "gemini": _gemini,
    "dashscope": _dashscope,
    "ollama": _ollama,
}
"""The fields of a request by dialect."""


def _effort(asked: Reasoning) -> dict[str, Any]:
    return {"reasoning_effort": asked.effort} if asked.effort else {}


def _no_budget(dialect: str, asked: Reasoning) -> None:
    if asked.budget:
        raise ValueError(f"reasoning.budget: the server ({dialect}) has no budget; use effort, or lower max_tokens")
