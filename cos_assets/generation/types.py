"""Data types of model calls: models, sampling parameters, requests and completions, and the engine protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

FinishReason = Literal["stop", "length", "error"]


def _equals(default: Any) -> Callable[[Any], bool]:
    """Return a test for a default value. Defaults are left out of dumps, so that ledger keys and data versions from
    before the parameter existed stay the same."""
    return lambda value: value == default


class Sampling(BaseModel):
    r"""Sampling parameters, with the names that vLLM uses.

    Attributes
    ----------
    temperature : float
        0 is greedy decoding.
    top_k, top_p, min_p : int or None, float, float
        Restrictions to the most probable tokens; None, 1.0 and 0.0 are no restriction. `min_p` keeps the tokens that
        are at least this share as probable as the most probable one.
    repetition_penalty : float
        The logits of tokens in the prompt or the text are divided by it if positive, else multiplied; 1.0 is off.
    presence_penalty, frequency_penalty : float
        Subtracted from the logits of tokens in the text: once, or once per occurrence; 0.0 is off.
    max_tokens : int
        Maximum number of generated tokens.
    stop : tuple of str
        Strings at which the text is cut. They are not part of the text.
    seed : int
        With the prompt and the sample index, it determines the random numbers of a sample.

    Raises
    ------
    pydantic.ValidationError
        If a value is out of range or a name is unknown.

    Examples
    --------
    >>> Sampling(temperature=1.0, stop=("\nQ:",)).model_dump(exclude_defaults=True)
    {'temperature': 1.0, 'stop': ('\nQ:',)}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(0.7, ge=0)
    top_k: int | None = Field(None, ge=1)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(512, ge=1)
    stop: tuple[str, ...] = ()
    seed: int = Field(0, ge=0)
    min_p: float = Field(0.0, ge=0, le=1, exclude_if=_equals(0.0))
    repetition_penalty: float = Field(1.0, gt=0, le=2, exclude_if=_equals(1.0))
    presence_penalty: float = Field(0.0, ge=-2, le=2, exclude_if=_equals(0.0))
    frequency_penalty: float = Field(0.0, ge=-2, le=2, exclude_if=_equals(0.0))


class Reasoning(BaseModel):
    """How a model reasons before it replies: the block `reasoning:` of a model.

    Attributes
    ----------
    mode : {"on", "off", "auto"}
        Whether the model reasons; `auto` leaves it to the model.
    budget : int, optional
        Maximum number of reasoning tokens, after which the model has to reply.
    effort : str, optional
        An effort that the model knows, such as `low`.
    keep : bool
        Whether the text of the reasoning is stored. Its tokens are counted in any case.

    Examples
    --------
    >>> Reasoning(budget=8192).identity
    {'budget': 8192}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["on", "off", "auto"] = "auto"
    budget: int | None = Field(None, ge=1)
    effort: str | None = Field(None, min_length=1)
    keep: bool = True

    @field_validator("mode", mode="before")
    @classmethod
    def _yaml(cls, given: Any) -> Any:
        # YAML reads on and off as booleans.
        return {True: "on", False: "off"}[given] if isinstance(given, bool) else given

    @model_validator(mode="after")
    def _off(self) -> Self:
        if self.mode == "off" and (self.budget or self.effort):
            raise ValueError(f"{'budget' if self.budget else 'effort'}: not allowed with mode: off")
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """What the samples depend on."""
        return self.model_dump(exclude_defaults=True, exclude={"keep"})


@dataclass(frozen=True)
class Chat:
    """The inputs of a chat template next to the prompt, which is the user's message.

    Attributes
    ----------
    system : str, optional
        The system message.
    kwargs : mapping
        Further arguments of the template, such as `enable_thinking` (`chat_template_kwargs:`).
    reasoning : Reasoning
        How the model reasons.

    Examples
    --------
    >>> Chat(kwargs={"enable_thinking": False}).system is None
    True
    """

    system: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    reasoning: Reasoning = field(default_factory=Reasoning)


@dataclass(frozen=True)
class Model:
    """A model that can be sampled. `model.resolve` creates it from a model id.

    Attributes
    ----------
    model_id : str
        A local folder, a hub id, or the name under which a server knows the model.
    fingerprint : str
        Identifies the model in the ledger, so that samples of different models are never mixed up. It is derived from
        the hash of the files for a local folder, and from id and revision for a hub model.
    engine : str
        The name of the engine (see `engines`).
    revision : str, optional
        The commit of a hub model, or the hash of a local folder.
    params : float, optional
        The number of parameters that a token passes through; None if it is unknown.
    chat : Chat, optional
        The chat template's inputs, if the prompt is sent as a user message; None for a model that continues the prompt.
    engine_options : dict
        The `engine_options:` of the study.
    adapter : str, optional
        The folder of a LoRA adapter with which its base model is this model. An engine loads it instead of `model_id`.

    Examples
    --------
    >>> Model("org/model", "model-1", "vllm", chat=Chat(system="Be brief.")).chat.system
    'Be brief.'
    """

    model_id: str
    fingerprint: str
    engine: str
    revision: str | None = None
    params: float | None = None
    chat: Chat | None = None
    engine_options: dict[str, Any] = field(default_factory=dict)
    adapter: str | None = None

    @property
    def source(self) -> str:
        """What an engine loads: the adapter, or the model."""
        return self.adapter or self.model_id


@dataclass(frozen=True)
class Request:
    r"""The missing sample indices of one prompt, requested together so that the prompt is processed once.

    Examples
    --------
    >>> Request("gsm8k/test/00000", "Q: 2 + 3?\nA:", (0, 1, 5)).indices
    (0, 1, 5)
    """

    problem_id: str
    prompt: str
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """One attempt at a sample: its text, finish reason and token counts.

    Attributes
    ----------
    problem_id, prompt, index : str, str, int
        The sample: a problem, its prompt and the sample index.
    text : str
        The reply without the prompt, reasoning, special tokens and stop strings; "" if the attempt failed.
    finish_reason : {"stop", "length", "error"}
        `length` is a text that was cut at the token limit, `error` a failed attempt.
    prompt_tokens, completion_tokens, cached_tokens : int or None
        Token counts; None if they are unknown, never estimated. `completion_tokens` are all generated tokens.
        `cached_tokens` are the prompt tokens that were not processed again.
    seconds : float
        The share of the engine's time.
    error : str, optional
        The reason of a failure, or a note.
    retries : int
        Number of retries within this attempt, after a lost connection or for a busy server.
    again : bool
        Whether this is a failed attempt that the engine retries: another completion of this index follows.
    reasoning : str, optional
        The text before the reply, without its markers; None if there is none, or if it is not kept.
    reasoning_tokens : int or None
        The number of the completion tokens that are reasoning; None if it is unknown.
    messages : str, optional
        The turns behind the prompt as a JSON list of messages, of an imported trace with several turns. `text` and
        `reasoning` are those of the last one.

    Examples
    --------
    >>> Completion("p", "2 + 3?", 0, "5", "stop", 4, 2, None, 0.1).cached_tokens is None
    True
    """

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
    again: bool = False
    reasoning: str | None = None
    reasoning_tokens: int | None = None
    messages: str | None = None


class Engine(Protocol):
    """A source of completions.

    An engine for which a small first batch of requests is expensive (a cluster or a batch service) sets the attribute
    `starts_cheaply` to false. An engine that loads a model in this process has two more methods: `load()`, and
    `serve(model) -> bool`, which switches to another model that needs no loading (see `loaded`). docs/extending.md has
    a complete example.
    """

    name: str

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """Yield completions in batches as they finish.

        Parameters
        ----------
        requests : sequence of Request
            Prompts and the sample indices to draw; may be empty.
        sampling : Sampling
            The sampling parameters of all requests.

        Yields
        ------
        list of Completion
            Batches of any size, in any order. Each requested index occurs once, preceded by any failed attempts at it
            that were paid for (`again`). Only an engine whose solutions exist already may omit an index.

        Raises
        ------
        ValueError
            If the model or an option is refused.
        ConnectionError
            If no more completions can be obtained. Those that were paid for are yielded before.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds: memory, connections, processes."""
        ...
