"""What engines share: the seed of a sample, and what is done to completions before they are handed over."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace

from cos_assets.generation.types import Completion, Request
from cos_assets.grading.reasoning import reply_start


def sample_seed(seed: int, prompt: str, index: int) -> int:
    """The seed of one sample, in [0, 2**56): the same whichever samples are bought beside it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}/{prompt}".encode()).digest()[:7])


def cut(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop string. What stands in a reasoning block stops nothing."""
    return text[: stopped_at(text, stop)]


def stopped_at(text: str, stop: Sequence[str]) -> int:
    """The offset of the first stop string in the reply, `len(text)` where there is none."""
    start = reply_start(text) if stop else 0
    return min((at for s in stop if (at := text.find(s, start)) >= 0), default=len(text))


def refused(request: Request, index: int, tokens: int, reason: str) -> Completion:
    """A request that was refused before any work was done on it."""
    return Completion(request.problem_id, request.prompt, index, "", "error", tokens, 0, 0, 0.0, reason.strip())


def share(done: list[Completion], since: float) -> list[Completion]:
    """The batch with the time since `since` shared out evenly, in seconds."""
    seconds = (time.perf_counter() - since) / len(done)
    return [replace(completion, seconds=seconds) for completion in done]


def storable(text: str) -> str:
    """Half a character (a lone surrogate, as JSON of text that was cut between bytes has it) fits in no UTF-8 and so in
    no table: it becomes U+FFFD, which is what decoders make of it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
