"""What passes through the door: requests in, completions out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

FinishReason = Literal["stop", "length", "error"]


class Sampling(BaseModel):
    """Sampling parameters, in vLLM's words. Temperature 0 is greedy decoding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(0.7, ge=0)
    top_k: int | None = Field(None, ge=1)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(512, ge=1)
    stop: tuple[str, ...] = ()
    seed: int = Field(0, ge=0)


@dataclass(frozen=True)
class Model:
    """One model as it is sampled: where its weights are, which revision, and what serves it.

    `fingerprint` names the model in the ledger. For a local folder it is the hash of its files, for a hub
    model its id and revision, so that samples of one are never taken for samples of another.
    """

    model_id: str
    fingerprint: str
    engine: str
    revision: str | None = None
    params: float | None = None
    chat: bool = False
    """The prompt is one message of a user, in the tokenizer's chat template."""
    engine_options: dict[str, Any] = field(default_factory=dict)

    @property
    def template(self) -> dict[str, Any]:
        """What the chat template is given besides the message, such as `enable_thinking`."""
        return self.engine_options.get("chat_template_kwargs") or {}


@dataclass(frozen=True)
class Request:
    """The sample indices still to buy for one prompt, asked together so that the prompt is run once."""

    problem_id: str
    prompt: str
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """One attempt: what came back, why it ended, and what it used. Unknown counts are None, never guessed."""

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
    """How often it was asked again within this attempt, over a lost connection or a busy server."""
    again: bool = False
    """A failed attempt after which the engine asks again: another completion of this index follows."""


class Engine(Protocol):
    """An engine for which a few requests first cost much more, a cluster or a batch service, has an attribute
    `starts_cheaply` that is false."""

    name: str

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """Yield completions as they finish, in batches: each requested index once, and failed attempts at it that were
        paid for before that (`again`)."""
        ...

    def close(self) -> None: ...
