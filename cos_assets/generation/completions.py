"""Helpers shared by engines: seeds of samples, and post-processing of completions."""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from cos_assets.generation.tokens import decode
from cos_assets.generation.types import Chat, Completion, Request
from cos_assets.grading.reasoning import split


def sample_seed(seed: int, prompt: str, index: int) -> int:
    """Return the seed of one sample, in [0, 2**56). It does not depend on the other samples of a request.

    Parameters
    ----------
    seed : int
        The seed of the sampling parameters.
    prompt : str
        The prompt.
    index : int
        The sample index.

    Examples
    --------
    >>> sample_seed(0, "2 + 3?", 0), sample_seed(0, "2 + 3?", 1)
    (26157552660112684, 71805730566907866)
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}/{prompt}".encode()).digest()[:7])


def cut(text: str, stop: Sequence[str], inside: bool = False) -> str:
    r"""Return the text before the first stop string. Stop strings in the reasoning are ignored.

    Examples
    --------
    >>> cut("<think>Q: 2 + 3</think>5\nQ: 4 + 5?", ["Q:"])
    '<think>Q: 2 + 3</think>5\n'
    """
    return text[: stopped_at(text, stop, inside)]


def stopped_at(text: str, stop: Sequence[str], inside: bool = False) -> int:
    r"""Return the offset of the first stop string in the reply, or `len(text)` if there is none.

    `inside` says that the text starts in the reasoning (see `reasoning.split`).

    Examples
    --------
    >>> stopped_at("5\nQ: 4 + 5?", ["Q:"]), stopped_at("5", ["Q:"])
    (2, 1)
    """
    start = len(text) - len(split(text, inside)[1]) if stop else 0
    return min((at for s in stop if (at := text.find(s, start)) >= 0), default=len(text))


def kept(reasoning: str | None, chat: Chat | None) -> str | None:
    """Return the reasoning if it is to be stored, else None.

    Examples
    --------
    >>> from cos_assets.generation.types import Reasoning
    >>> kept("2 + 3", None), kept("2 + 3", Chat(reasoning=Reasoning(keep=False)))
    ('2 + 3', None)
    """
    return reasoning if chat is None or chat.reasoning.keep else None


class Text(NamedTuple):
    """The generated text of a completion in parts (see `Completion`)."""

    reasoning: str | None
    reply: str
    reasoning_tokens: int


def text_of(tokenizer: Any, ids: Sequence[int], stop: Sequence[str], chat: Chat | None, inside: bool) -> Text:
    """Decode generated tokens, and split the text into reasoning and reply. The reasoning tokens include the tags.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        The tokenizer of the model.
    ids : sequence of int
        The generated tokens, with or without EOS.
    stop : sequence of str
        Strings at which the reply is cut.
    chat : Chat, optional
        The chat format of the model.
    inside : bool
        Whether the prompt ended inside the reasoning (see `prompts.opens_reasoning`).

    Examples
    --------
    >>> from cos_assets.generation.tokens import completion_ids
    >>> from cos_assets.tiny.tokenizer import bpe_tokenizer
    >>> tokenizer = bpe_tokenizer([], 259)
    >>> text_of(tokenizer, completion_ids(tokenizer, "2 + 3</think>5", ended=False), (), None, inside=True)
    Text(reasoning='2 + 3', reply='5', reasoning_tokens=13)
    """
    text = decode(tokenizer, ids)
    reasoning, reply = split(text, inside)
    if reasoning is None:
        return Text(None, cut(text, stop), 0)
    start, tokens = len(text) - len(reply), len(ids)
    if reply:
        tokens = bisect_left(range(len(ids)), start, key=lambda count: len(decode(tokenizer, ids[:count])))
    return Text(kept(reasoning, chat), cut(text, stop, inside)[start:], tokens)


def refused(request: Request, index: int, tokens: int, reason: str) -> Completion:
    r"""Return the error completion of a sample whose prompt was refused before any token was generated.

    Parameters
    ----------
    request : Request
        The request of the sample.
    index : int
        The sample index.
    tokens : int
        The number of tokens of the prompt.
    reason : str
        The reason, for the ledger.

    Examples
    --------
    >>> one = refused(Request("p", "2 + 3?", (0,)), 0, 4, "too long\n")
    >>> one.finish_reason, one.error, one.completion_tokens
    ('error', 'too long', 0)
    """
    return Completion(request.problem_id, request.prompt, index, "", "error", tokens, 0, 0, 0.0, reason.strip())


def share(done: list[Completion], since: float) -> list[Completion]:
    """Set `seconds` of each completion to an equal share of the time since `since`.

    Parameters
    ----------
    done : list of Completion
        At least one completion.
    since : float
        A reading of `time.perf_counter`.

    Examples
    --------
    >>> request = Request("p", "2 + 3?", (0, 1))
    >>> first, second = share([refused(request, index, 4, "too long") for index in (0, 1)], time.perf_counter())
    >>> first.seconds == second.seconds
    True
    """
    seconds = (time.perf_counter() - since) / len(done)
    return [replace(completion, seconds=seconds) for completion in done]


def storable(text: str) -> str:
    r"""Replace lone surrogates by U+FFFD, as decoders do, so that the text can be encoded as UTF-8.

    JSON of text that was cut between bytes can contain a lone surrogate, which a table cannot store.

    Examples
    --------
    >>> storable("5 \ud83d") == "5 \ufffd"
    True
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
