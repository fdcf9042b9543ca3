"""Helpers shared by engines: seeds of samples, and post-processing of completions."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace

from cos_assets.generation.types import Completion, Request
from cos_assets.grading.reasoning import reply_start


def sample_seed(seed: int, prompt: str, index: int) -> int:
    """Return the seed of one sample, in [0, 2**56). It does not depend on the other samples of a request."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}/{prompt}".encode()).digest()[:7])


def cut(text: str, stop: Sequence[str]) -> str:
    """Return the text before the first stop string. Stop strings in a reasoning block are ignored."""
    return text[: stopped_at(text, stop)]


def stopped_at(text: str, stop: Sequence[str]) -> int:
    """Return the offset of the first stop string in the reply, or `len(text)` if there is none."""
    start = reply_start(text) if stop else 0
    return min((at for s in stop if (at := text.find(s, start)) >= 0), default=len(text))


def refused(request: Request, index: int, tokens: int, reason: str) -> Completion:
    """Return the error completion of a sample whose prompt was refused before any token was generated."""
    return Completion(request.problem_id, request.prompt, index, "", "error", tokens, 0, 0, 0.0, reason.strip())


def share(done: list[Completion], since: float) -> list[Completion]:
    """Set `seconds` of each completion to an equal share of the time since `since`."""
    seconds = (time.perf_counter() - since) / len(done)
    return [replace(completion, seconds=seconds) for completion in done]


def storable(text: str) -> str:
    """Replace lone surrogates by U+FFFD, as decoders do, so that the text can be encoded as UTF-8.

    JSON of text that was cut between bytes can contain a lone surrogate, which a table cannot store.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
