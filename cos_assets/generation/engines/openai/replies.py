"""Parsing of replies, token counts and errors of OpenAI-compatible servers, including common deviations."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from cos_assets.generation.completions import cut, kept, storable
from cos_assets.generation.replies import ending, known_ending, reasoning_in, text_in
from cos_assets.generation.types import Chat, Completion, Request, Sampling
from cos_assets.grading.reasoning import split

UNUSABLE = 3  # consecutive unusable replies of one kind that end a purchase; also the limit per request


class Usage(NamedTuple):
    """A server's token counts of a reply, for all choices together. None means unknown."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    reasoning: int | None = None

    def share(self, parts: int) -> list[Usage]:
        """Split the counts into equal whole parts; the first ones get the remainder."""
        return [Usage(*each) for each in zip(*(_shares(count, parts) for count in self), strict=True)]


_MESSAGE = ("message", "detail", "error", "errors", "error_message", "title", "code")


class Malformed(Exception):
    """A reply that does not follow the API. `kind` is the kind of deviation, and `detail` what the reply contains.

    `usage` is None if apparently no model answered; such a reply is treated as a transmission error.
    """

    def __init__(self, kind: str, detail: str | None = None, usage: Usage | None = None) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind, self.usage = kind, usage


class Streak:
    """Counts consecutive unusable replies of the same kind."""

    def __init__(self) -> None:
        self._kind, self._count = "", 0

    def usable(self) -> None:
        self._count = 0

    def unusable(self, error: Malformed) -> None:
        self._count = self._count + 1 if error.kind == self._kind else 1
        self._kind = error.kind

    @property
    def ended(self) -> bool:
        return self._count >= UNUSABLE


@dataclass
class Job:
    """One request over HTTP: the sample indices that it requests, and its state."""

    request: Request
    indices: tuple[int, ...]
    asked: int = 0
    failed: int = 0
    unusable: int = 0
    throttled: int = 0
    last: Any = None
    error: str = ""


class Reply(NamedTuple):
    choices: dict[int, Any]
    """The choices by their position among the requested indices."""
    usage: Usage


def completions(
    job: Job, reply: Reply, sampling: Sampling, chat: Chat | None, clean: Callable[[str], str]
) -> list[Completion]:
    """Return a job's samples, as many as the reply holds. The counts are split into equal whole parts.

    A server without a parser for the reasoning sends it inside the text. Its tags mark it; the first tag may be in the
    prompt. If both tags are missing because the text was cut off, the text of a model with `reasoning: {mode: on}` is
    reasoning.
    """
    found = []
    for (at, choice), usage in zip(reply.choices.items(), reply.usage.share(len(reply.choices)), strict=True):
        whole, beside = text_of(choice) or "", reasoning_in(getattr(choice, "message", None))
        full = usage.completion is not None and usage.completion >= sampling.max_tokens
        finish, note = ending(getattr(choice, "finish_reason", None), bool(whole), full)
        on = chat is not None and chat.reasoning.mode == "on"
        within, text = split(whole, inside=on and beside is None and finish == "length")
        thought = beside if within is None or beside is not None else within
        reply_text = cut(text, sampling.stop)  # servers support few stop strings, or none
        if len(reply_text) < len(text) and finish != "error":
            finish = "stop"
        found.append(
            Completion(
                problem_id=job.request.problem_id,
                prompt=job.request.prompt,
                index=job.indices[at],
                text=storable(reply_text),
                finish_reason=finish,
                prompt_tokens=usage.prompt,
                completion_tokens=usage.completion,
                cached_tokens=usage.cached,
                seconds=0.0,
                error=note and clean(note),
                retries=max(0, job.asked - 1),
                reasoning=kept(None if thought is None else storable(thought), chat),
                reasoning_tokens=usage.reasoning,
            )
        )
    return found


def failed(job: Job, usage: Usage, reason: str, again: bool = False) -> list[Completion]:
    """Return error completions for an attempt at a job. `again` says that another attempt follows."""
    request, retries = job.request, max(0, job.asked - 1)
    return [
        Completion(
            request.problem_id,
            request.prompt,
            index,
            "",
            "error",
            *counts[:3],
            0.0,
            reason,
            retries,
            again,
            reasoning_tokens=counts.reasoning,
        )
        for index, counts in zip(job.indices, usage.share(len(job.indices)), strict=True)
    ]


def used(error: BaseException) -> Usage:
    """Return the usage of a failed attempt: zero for a refused prompt, unknown for a lost request that may have run."""
    if isinstance(error, Malformed) and error.usage is not None:
        return error.usage
    return Usage() if passing(error) else Usage(0, 0, 0, 0)


def passing(error: BaseException) -> bool:
    """Return whether the same request may succeed later."""
    from openai import APIConnectionError, APIStatusError

    if isinstance(error, APIStatusError):
        return error.status_code in (408, 409, 429) or error.status_code >= 500
    return isinstance(error, (APIConnectionError, TimeoutError, Malformed))


def retry_after(error: Any) -> float | None:
    """Return the seconds to wait according to Retry-After (seconds or a date), or None."""
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
    """Return the message of an error, without the client's wrapping."""
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    if isinstance(error, APIStatusError):
        return f"HTTP {error.status_code}: {said_in(error.body) or error.message}"
    if isinstance(error, (TimeoutError, APITimeoutError)):
        return "no reply in time (engine_options.timeout)"
    if isinstance(error, APIConnectionError):
        return f"connection lost or refused: {error.__cause__ or error}"
    return str(error)


def said_in(body: Any) -> str | None:
    """Return the message in an error body: OpenAI's form, FastAPI's `detail` (text or list of {loc, msg}), or text."""
    if isinstance(body, str):
        return body.strip() or None
    if isinstance(body, list):
        return "; ".join(filter(None, map(said_in, body))) or None
    if isinstance(body, Mapping):
        if isinstance(body.get("msg"), str):
            place = ".".join(map(str, body.get("loc") or ()))
            return f"{place}: {body['msg']}" if place else body["msg"]
        return next((said for key in _MESSAGE if (said := said_in(body.get(key)))), None)
    return None


def read_reply(reply: Any, asked: int) -> Reply:
    """Return the choices and counts of a reply. Raises Malformed if it has no usable choice."""
    usage = _usage(getattr(reply, "usage", None))
    given = getattr(reply, "choices", None)
    if not isinstance(given, list) or not given:
        said = said_in(getattr(reply, "error", None))
        raise Malformed("a reply without choices", said, usage if any(usage) else None)
    places = {at: choice for at, choice in _places(given, asked).items() if _usable(choice)}
    if not places:
        raise Malformed("a choice without text", str(_plain(given[0])), usage)
    return Reply(places, usage)


def _usage(given: Any) -> Usage:
    """Return the counts. `completion` includes the reasoning, which some servers count separately."""
    prompt = _count(given, "prompt_tokens", "input_tokens")
    completion = _count(given, "completion_tokens", "output_tokens")
    details = getattr(given, "completion_tokens_details", None) or getattr(given, "output_tokens_details", None)
    reasoning = _count(details, "reasoning_tokens")
    if reasoning is None:
        reasoning = _count(given, "reasoning_tokens")
    if prompt is not None and completion is not None and reasoning:
        apart = _count(given, "total_tokens") == prompt + completion + reasoning
        completion += reasoning if apart else 0
    cached = _count(getattr(given, "prompt_tokens_details", None), "cached_tokens")
    return Usage(prompt, completion, cached, reasoning)


def _places(choices: list[Any], asked: int) -> dict[int, Any]:
    """Return choices by index, sorted and without duplicates, or by position if the server does not number them."""
    numbers = [getattr(choice, "index", None) for choice in choices]
    known = all(isinstance(number, int) and 0 <= number < asked for number in numbers)
    if not known or len(set(numbers)) == 1:
        return dict(enumerate(choices[:asked]))
    found: dict[Any, Any] = {}
    for number, choice in zip(numbers, choices, strict=True):
        found.setdefault(number, choice)
    return dict(sorted(found.items()))


def text_of(choice: Any) -> str | None:
    """Return the text of a choice, or the refusal in its place; None if it has neither.

    Reasoning beside the text is left out (see `reasoning_in`). A message without content counts as empty; some
    servers send one beside the text of a completion.
    """
    message = getattr(choice, "message", None)
    if message is None:
        return text_in(getattr(choice, "text", None))
    content = getattr(message, "content", None)
    text = "" if content is None else text_in(content)
    return text or text_in(getattr(message, "refusal", None)) or text_in(getattr(choice, "text", None)) or text


def _usable(choice: Any) -> bool:
    """Return whether a choice is usable: it has text, or an empty text with a known finish reason."""
    text = text_of(choice)
    return bool(text) or (text is not None and known_ending(getattr(choice, "finish_reason", None)) is not None)


def _plain(value: Any) -> Any:
    return value.to_dict(warnings=False) if hasattr(value, "to_dict") else value


def _count(of: Any, *names: str) -> int | None:
    found = (getattr(of, name, None) for name in names)
    return next((value for value in found if isinstance(value, int) and value >= 0), None)


def _shares(total: int | None, parts: int) -> list[int | None]:
    """Split `total` into equal whole parts; the first ones get the remainder."""
    if total is None:
        return [None] * parts
    return [total // parts + (at < total % parts) for at in range(parts)]
