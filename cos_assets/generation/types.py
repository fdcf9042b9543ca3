"""Data types of model calls: models, sampling parameters, requests and completions, and the engine protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

FinishReason = Literal["stop", "length", "error"]


class Sampling(BaseModel):
    """Sampling parameters, with the names that vLLM uses. Temperature 0 is greedy decoding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(0.7, ge=0)
    top_k: int | None = Field(None, ge=1)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(512, ge=1)
    stop: tuple[str, ...] = ()
    seed: int = Field(0, ge=0)


@dataclass(frozen=True)
class Model:
    """A model that can be sampled: location of the weights, revision, and engine.

    `fingerprint` identifies the model in the ledger. It is derived from the hash of the files for a local folder, and
    from id and revision for a hub model, so that samples of different models are never mixed up.
    """

    model_id: str
    fingerprint: str
    engine: str
    revision: str | None = None
    params: float | None = None
    chat: bool = False
    """Whether the prompt is sent as one user message in the tokenizer's chat template."""
    engine_options: dict[str, Any] = field(default_factory=dict)

    @property
    def template(self) -> dict[str, Any]:
        """Further arguments of the chat template, such as `enable_thinking`."""
        return self.engine_options.get("chat_template_kwargs") or {}


@dataclass(frozen=True)
class Request:
    """The missing sample indices of one prompt, requested together so that the prompt is processed once."""

    problem_id: str
    prompt: str
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """One attempt at a sample: its text, finish reason and token counts. Unknown counts are None, never estimated."""

    problem_id: str
    prompt: str
    index: int
    text: str
    finish_reason: FinishReason
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    seconds: float
    error: str | None = None
    retries: int = 0
    """Number of retries within this attempt, after a lost connection or for a busy server."""
    again: bool = False
    """Whether this is a failed attempt that the engine retries: another completion of this index follows."""


class Engine(Protocol):
    """A source of completions.

    An engine for which a small first batch of requests is expensive (a cluster or a batch service) sets the attribute
    `starts_cheaply` to false.
    """

    name: str

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """Yield completions in batches as they finish.

        Each requested index occurs once, preceded by any failed attempts at it that were paid for (`again`).
        """
        ...

    def close(self) -> None: ...
