"""Parsing of replies from chat servers and from files of replies: texts, reasoning and finish reasons.

A finish reason is matched by the words in it, regardless of case and punctuation, so that `FinishReason.MAX_TOKENS`,
"max-tokens" and "max_tokens" are the same. The words come from OpenAI, Azure, vLLM, SGLang, TGI, llama.cpp, Ollama,
Anthropic and Bedrock, Gemini, Mistral, Cohere, DeepSeek, Together, watsonx and TensorRT-LLM.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from cos_assets.generation.types import FinishReason

_ENDINGS: tuple[tuple[FinishReason, re.Pattern[str]], ...] = (  # the first match wins
    (
        "error",
        re.compile(
            r"error|fail|malformed|filter|safety|recitation|blocklist|prohibited|spii|moderation|guardrail|sensitive"
            r"|toxic|refus|abort|cancel|interrupt|insufficient|overload|preempt|time"
        ),
    ),
    (
        "length",
        re.compile(
            r"length|max(imum)?(output|new|completion|context)?tokens?|tokenlimit|context(window|limit)|^limit"
            r"|incomplete|notfinished|truncat|numpredict|repetition"
        ),
    ),
    ("stop", re.compile(r"stop|eos|^end|^word|complete|finish|done|normal|pause")),
)
_NO_REASON = re.compile(r"(none|null|unspecified|tool.*|function.*)?")  # a tool call does not say how the text ended
_THOUGHT = re.compile(r"think|thought|reason", re.IGNORECASE)
_TEXT = ("text", "content", "refusal", "value", "parts", "message")
# Fields of a message with its reasoning. If a reply has several, they hold the same text.
_REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
_REASONING_TEXT = ("text", "thinking", "reasoning", "summary", "content", "value", "parts")
_SPEAKER = ("role", "from", "speaker")
_ASSISTANT = ("assistant", "gpt", "model", "ai", "bot", "chatbot", "chatgpt")


def known_ending(reason: Any) -> FinishReason | None:
    """Map a server's finish reason to ours.

    Parameters
    ----------
    reason : Any
        The value that the server sent: a string, or SGLang's mapping with `type`.

    Returns
    -------
    {"stop", "length", "error"} or None
        None if the reason is absent, unknown, or a tool call.

    Examples
    --------
    >>> [known_ending(reason) for reason in ("end_turn", "FinishReason.MAX_TOKENS", "content_filter", None)]
    ['stop', 'length', 'error', None]
    """
    if isinstance(reason, Mapping):  # SGLang's own API: {"type": "stop", "matched": 2}
        reason = reason.get("type")
    return next((ending for ending, words in _ENDINGS if words.search(_word(reason))), None)


def ending(reason: Any, text: bool, full: bool = False) -> tuple[FinishReason, str | None]:
    """Return the finish reason of a reply, and a note for the ledger.

    A reply with text is kept unless a filter or a fault cut it: without a known reason it counts as `stop`, or as
    `length` if it is full. A reply with neither text nor a known reason is an error.

    Parameters
    ----------
    reason : Any
        The finish reason that the server sent.
    text : bool
        Whether the reply has any text.
    full : bool
        Whether the reply reached the token limit.

    Returns
    -------
    tuple
        The finish reason ("stop", "length" or "error") and the note, or None if there is nothing to note.

    Examples
    --------
    >>> ending("stop", True), ending("odd", True), ending(None, False)
    (('stop', None), ('stop', "unknown finish reason 'odd'"), ('error', 'no text, finish reason None'))
    """
    found = known_ending(reason)
    if found is not None:
        return found, str(reason) if found == "error" else None
    if not text:
        return "error", f"no text, finish reason {reason!r}"
    note = None if _NO_REASON.fullmatch(_word(reason)) else f"unknown finish reason {reason!r}"
    return "length" if full else "stop", note


def _word(reason: Any) -> str:
    return re.sub(r"[^a-z]", "", str(reason).casefold()).removeprefix("finishreason")


def text_in(content: Any) -> str | None:
    """Return the text of a message's `content`: a string, a part, or a list of them, nested or not.

    Parts that hold reasoning are left out. Returns None if there is no text.

    Examples
    --------
    >>> text_in([{"type": "thinking", "text": "2 + 3"}, {"type": "text", "text": "It is 5."}])
    'It is 5.'
    """
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        if _is_reasoning(content):
            return ""
        return next((text for key in _TEXT if (text := text_in(content.get(key))) is not None), None)
    if isinstance(content, list):
        texts = [text for part in content if (text := text_in(part)) is not None]
        return "".join(texts) if texts or not content else None
    return None


def reasoning_in(message: Any) -> str | None:
    """Return the reasoning that a message holds next to its text; None if there is none.

    Parameters
    ----------
    message : Any
        A message as a mapping, or an object with the same attributes. Its field `reasoning_content`, `reasoning`,
        `thinking` or `reasoning_details` counts, else the parts of its content that hold reasoning.

    Examples
    --------
    >>> reasoning_in({"content": "5", "reasoning_content": "2 + 3"})
    '2 + 3'
    >>> reasoning_in({"content": [{"type": "thinking", "thinking": "2 + 3"}, {"type": "text", "text": "5"}]})
    '2 + 3'
    """
    get = message.get if isinstance(message, Mapping) else lambda name: getattr(message, name, None)
    for name in _REASONING:
        if text := _reasoning_text(get(name)):
            return text
    content = get("content")
    parts = content if isinstance(content, list) else [content]
    return "".join(_reasoning_text(part) for part in parts if isinstance(part, Mapping) and _is_reasoning(part)) or None


def _is_reasoning(part: Mapping[str, Any]) -> bool:
    return part.get("thought") is True or _THOUGHT.search(str(part.get("type"))) is not None


def _reasoning_text(value: Any) -> str:
    """Return the text of a field with reasoning: a string, a part, or a list of parts. Encrypted parts have none."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return next((text for name in _REASONING_TEXT if (text := _reasoning_text(value.get(name)))), "")
    return "".join(map(_reasoning_text, value)) if isinstance(value, list) else ""


def replies_in(cell: Any) -> Any:
    """Return the reply in a cell of a file.

    Parameters
    ----------
    cell : Any
        A text, a message, a conversation (a list of messages, of which the last assistant message counts), the parts of
        a message (which have a `type`), or a list of any of these, nested or not. Other values are returned unchanged.

    Returns
    -------
    str, None or list
        The text, None if there is none, or a flat list of these for several samples.

    Examples
    --------
    >>> replies_in([{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "5"}])
    '5'
    >>> replies_in(["5", {"content": "6"}])
    ['5', '6']
    """
    return _in_cell(cell, text_in, lambda one: one)


def reasonings_in(cell: Any) -> Any:
    """Return the reasoning in a cell of a file, in the form of `replies_in`; None where a message has none.

    Examples
    --------
    >>> reasonings_in([{"content": "5", "reasoning": "2 + 3"}, "6"])
    ['2 + 3', None]
    """
    return _in_cell(
        cell, lambda one: reasoning_in({"content": one} if isinstance(one, list) else one), lambda one: None
    )


def _in_cell(cell: Any, read: Callable[[Any], str | None], other: Callable[[Any], Any]) -> Any:
    """Apply `read` to the messages of a cell, and `other` to values that are not messages (see `replies_in`)."""
    if isinstance(cell, Mapping):
        return read(cell) if cell.keys() & {*_TEXT} else other(cell)
    if not isinstance(cell, list):
        return other(cell)
    if cell and all(isinstance(one, Mapping) for one in cell):
        if any(map(_speaker, cell)):
            said = [message for message in cell if _speaker(message) in _ASSISTANT]
            return read(said[-1]) if said else None
        if any("type" in one for one in cell):
            return read(cell)
    return flat([_in_cell(one, read, other) for one in cell])


def turns_in(cell: Any, where: str) -> list[dict[str, Any]]:
    """Return the messages behind the first user message, up to the last one of the assistant; none for null.

    Parameters
    ----------
    cell : Any
        A list of messages, or its JSON.
    where : str
        The beginning of error messages.

    Raises
    ------
    ValueError
        If the cell is not a list of messages, or no assistant replies to a user.

    Examples
    --------
    >>> turns_in([{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "5"}], "row 0")
    [{'role': 'assistant', 'content': '5'}]
    """
    messages = json.loads(cell) if isinstance(cell, str) else cell
    if cell is None:
        return []
    if not isinstance(messages, list) or not all(isinstance(one, Mapping) and "role" in one for one in messages):
        raise ValueError(f"{where}: {repr(cell)[:60]} is not a list of messages with role and content")
    roles = [one["role"] for one in messages]
    if "user" not in roles or "assistant" not in roles[roles.index("user") :]:
        raise ValueError(f"{where}: there is no user message with an assistant's reply; found {', '.join(roles)}")
    last = len(roles) - roles[::-1].index("assistant")
    return [
        {key: value for key, value in one.items() if value is not None}
        for one in messages[roles.index("user") + 1 : last]
    ]


def flat(nested: list[Any]) -> list[Any]:
    """Flatten nested lists, keeping the order of the items.

    Examples
    --------
    >>> flat([1, [2, [3]], []])
    [1, 2, 3]
    """
    return [item for one in nested for item in (flat(one) if isinstance(one, list) else [one])]


def _speaker(message: Mapping[str, Any]) -> str:
    return next((str(message[name]).lower() for name in _SPEAKER if name in message), "")
