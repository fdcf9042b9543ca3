"""Helpers shared by engines: seeds of samples, and post-processing of completions."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace

from cos_assets.generation.types import Completion, Request
from cos_assets.grading.reasoning import reply_start


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


def cut(text: str, stop: Sequence[str]) -> str:
    r"""Return the text before the first stop string. Stop strings in a reasoning block are ignored.

    Examples
    --------
    >>> cut("<think>Q: 2 + 3</think>5\nQ: 4 + 5?", ["Q:"])
    '<think>Q: 2 + 3</think>5\n'
    """
    return text[: stopped_at(text, stop)]


def stopped_at(text: str, stop: Sequence[str]) -> int:
    r"""Return the offset of the first stop string in the reply, or `len(text)` if there is none.

    Examples
    --------
    >>> stopped_at("5\nQ: 4 + 5?", ["Q:"]), stopped_at("5", ["Q:"])
    (2, 1)
    """
    start = reply_start(text) if stop else 0
    return min((at for s in stop if (at := text.find(s, start)) >= 0), default=len(text))


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
