"""What OpenAI-compatible servers say: replies, counts and errors, in the dialects that are about."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from cos_assets.generation.completions import storable
from cos_assets.generation.types import Completion, FinishReason, Request

_FINISH: dict[str | None, FinishReason] = {
    "stop": "stop",
    "eos": "stop",  # as other servers spell it
    "eos_token": "stop",
    "length": "length",
}


class Malformed(Exception):
    """A reply that is not what the API says."""


@dataclass
class Job:
    """One request over HTTP: the sample indices it asks for, and what became of it so far."""

    request: Request
    indices: tuple[int, ...]
    asked: int = 0
    failed: int = 0
    throttled: int = 0
    last: Any = None
    error: str = ""


class Reply(NamedTuple):
    choices: dict[int, Any]
    """By their place among the indices that were asked for."""
    prompt: int | None
    completion: int | None
    cached: int | None


def completions(job: Job, reply: Reply, clean: Callable[[str], str]) -> list[Completion]:
    """A job's samples, as many as the reply holds. The counts are shared out in equal whole parts."""
    counts = [shares(n, len(reply.choices)) for n in (reply.prompt, reply.completion, reply.cached)]
    found = []
    for (at, choice), prompt, completion, cached in zip(reply.choices.items(), *counts, strict=True):
        finish = _FINISH.get(getattr(choice, "finish_reason", None), "error")
        found.append(
            Completion(
                problem_id=job.request.problem_id,
                prompt=job.request.prompt,
                index=job.indices[at],
                text=storable(text_of(choice)),
                finish_reason=finish,
                prompt_tokens=prompt,
                completion_tokens=completion,
                cached_tokens=cached,
                seconds=0.0,
                error=clean(str(getattr(choice, "finish_reason", None))) if finish == "error" else None,
                retries=max(0, job.asked - 1),
            )
        )
    return found


def failed(job: Job, used: int | None, reason: str) -> list[Completion]:
    """A job whose samples could not be had."""
    request, retries = job.request, max(0, job.asked - 1)
    return [
        Completion(request.problem_id, request.prompt, index, "", "error", used, used, used, 0.0, reason, retries)
        for index in job.indices
    ]


def passing(error: BaseException) -> bool:
    """Can the same request do better later?"""
    from openai import APIConnectionError, APIStatusError

    if isinstance(error, APIStatusError):
        return error.status_code in (408, 409, 429) or error.status_code >= 500
    return isinstance(error, (APIConnectionError, TimeoutError, Malformed))


def retry_after(error: Any) -> float | None:
    """Seconds that the server asks to wait: Retry-After as seconds or as a date."""
    from email.utils import parsedate_to_datetime

    value = error.response.headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def message_of(error: BaseException) -> str:
    """What an error says, without the client's wrapping."""
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    if isinstance(error, APIStatusError):
        body: Any = error.body
        said = body.get("message") if isinstance(body, dict) else None
        return f"HTTP {error.status_code}: {said or error.message}"
    if isinstance(error, (TimeoutError, APITimeoutError)):
        return "no reply in time (engine_options.timeout)"
    if isinstance(error, APIConnectionError):
        return f"connection lost or refused: {error.__cause__ or error}"
    return str(error)


def read_reply(reply: Any, api: str, asked: int) -> Reply:
    """Choices and counts of a reply. A cut or mangled one raises Malformed: it is asked for again."""
    given = getattr(reply, "choices", None)
    if not isinstance(given, list) or not given:
        raise Malformed("a reply without choices")
    places = {at: choice for at, choice in _places(given, asked).items() if _readable(choice, api)}
    if not places:
        raise Malformed("a choice without text")
    usage = getattr(reply, "usage", None)
    details = getattr(usage, "prompt_tokens_details", None)
    return Reply(
        places,
        _count(getattr(usage, "prompt_tokens", None)),
        _count(getattr(usage, "completion_tokens", None)),
        _count(getattr(details, "cached_tokens", None)),
    )


def _places(choices: list[Any], asked: int) -> dict[int, Any]:
    """Choices by their number, in order and each once; as they stand where the server does not number them."""
    numbers = [getattr(choice, "index", None) for choice in choices]
    known = all(isinstance(number, int) and 0 <= number < asked for number in numbers)
    if not known or len(set(numbers)) == 1:
        return dict(enumerate(choices[:asked]))
    found: dict[Any, Any] = {}
    for number, choice in zip(numbers, choices, strict=True):
        found.setdefault(number, choice)
    return dict(sorted(found.items()))


def _readable(choice: Any, api: str) -> bool:
    return (api != "chat" or getattr(choice, "message", None) is not None) and isinstance(text_of(choice), str)


def text_of(choice: Any) -> Any:
    message = getattr(choice, "message", None)
    if message is None:
        return getattr(choice, "text", None)
    return getattr(message, "content", None) or getattr(message, "refusal", None) or ""


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def shares(total: int | None, parts: int) -> list[int | None]:
    """`total` in equal whole parts; the first ones have the remainder."""
    if total is None:
        return [None] * parts
    return [total // parts + (at < total % parts) for at in range(parts)]
