"""The models of a study: samplers, finetuning targets and judges (the blocks `models:`, `targets:` and `judge:`)."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

from cos_assets.budget.matching import Prices
from cos_assets.fields import Count, Name, Spec, Text, one_of, reject_bool
from cos_assets.generation import engines
from cos_assets.generation.model import template_kwargs
from cos_assets.generation.types import Chat, Reasoning, Sampling
from cos_assets.judging import methods
from cos_assets.training.settings import Finetune

# Per million tokens, in any currency. A value outside this range is probably a price per token or per month.
_LEAST_PRICE, _GREATEST_PRICE = 1e-3, 1e5
# Fields that are used only to match the budgets of samplers.
_FORMAT = ("system", "chat_template_kwargs", "reasoning")
_ASKING = {"system", "chat_template_kwargs", "reasoning", "sampling", "shots"}
_MEANS = ("tokens_per_second", "tokens_per_solution", "tokens_per_prompt")


EngineName = Annotated[str, AfterValidator(lambda name: one_of(name, engines.names()))]
MethodName = Annotated[str, AfterValidator(lambda name: one_of(name, methods.names()))]
TargetEngineName = Annotated[str, AfterValidator(lambda name: one_of(name, engines.names(recorded=False)))]


def _all(value: Any) -> Any:
    return None if value == "all" else value


class CheckpointRef(Spec):
    """A checkpoint of another study, or of TinyModels, which has neither budget nor source."""

    study: Name
    target: Name
    budget: Name | None = None
    source: Name | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> CheckpointRef:
        if (self.budget is None) != (self.source is None):
            raise ValueError("give both budget: and source:, or neither for a checkpoint of TinyModels")
        return self


class Price(Spec):
    """Prices per million tokens, with a date because prices change.

    `cached` is the price of input tokens that the server had in its cache; it defaults to the price of input.
    `batch_discount` is the share that a batch API deducts from every price: 0.5 for half the price.
    """

    input: float = Field(0.0, ge=0)
    cached: float | None = Field(None, ge=0)
    output: float = Field(gt=0)
    batch_discount: float = Field(0.0, ge=0, lt=1)
    currency: str = Field("USD", pattern="^[A-Z]{3}$")
    date: datetime.date

    @field_validator("input", "cached", "output")
    @classmethod
    def _per_million(cls, value: float | None) -> float | None:
        if value and value < _LEAST_PRICE:
            raise ValueError(
                f"is too small for a price per million tokens; allowed: 0, or at least {_LEAST_PRICE:g}."
                f" A price per token has to be multiplied by a million: {value * 1e6:g}"
            )
        if value and value > _GREATEST_PRICE:
            raise ValueError(f"is too large for a price per million tokens; allowed: at most {_GREATEST_PRICE:g}")
        return value

    @model_validator(mode="after")
    def _cache_is_no_dearer(self) -> Self:
        # A cap reserves the uncached cost of a prompt, so no cached price may exceed it.
        if self.cached is not None and self.cached > self.input:
            raise ValueError(
                f"cached: {self.cached:g} is more than input: {self.input:g}; allowed: at most the price of input"
            )
        return self

    def of(self, batch: bool) -> Prices:
        """Return the prices of tokens requested through a batch API if `batch`, else one by one."""
        left = 1 - self.batch_discount if batch else 1.0
        cached = None if self.cached is None else self.cached * left
        return Prices(self.input * left, self.output * left, cached)


def _unset(value: Any) -> bool:
    """Unset keys are left out of dumps, so that data versions from before the key existed stay the same."""
    return value is None


class SamplingKeys(Sampling):
    """The keys of `sampling:` that a model overrides."""

    model_config = ConfigDict(allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _elsewhere(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            if "shots" in given:
                raise ValueError("shots: is a key of the model, not of its sampling; move it up one level")
            if stray := [key for key in ("split", "unreadable", "seed") if key in given]:
                raise ValueError(f"{stray[0]}: is the same for all models; set it for the whole study")
        return given

    @property
    def given(self) -> dict[str, Any]:
        """The keys that are set, with their values."""
        return {key: getattr(self, key) for key in sorted(self.model_fields_set)}

    @model_serializer
    def _only_given(self) -> dict[str, Any]:
        return self.given


class PromptedSpec(Spec):
    """A model that is sampled: where it comes from, what serves it, and how it is prompted.

    `chat: true` sends the prompt as a user message in the tokenizer's chat template, for instruct models. `system` is
    the system message, `chat_template_kwargs` are further arguments of the template, and `reasoning` says whether and
    how long the model reasons before it replies. `sampling` overrides keys of the study's `sampling:` (for a target,
    those of `evaluation:`), and `shots` the number of few-shot examples.
    """

    model: Text | None = None
    checkpoint: CheckpointRef | None = None
    revision: str | None = None
    engine_options: dict[str, Any] = {}
    chat: bool = False
    system: Text | None = Field(None, exclude_if=_unset)
    chat_template_kwargs: dict[str, Any] | None = Field(None, exclude_if=_unset)
    reasoning: Reasoning | None = Field(None, exclude_if=_unset)
    sampling: SamplingKeys | None = Field(None, exclude_if=_unset)
    shots: Annotated[int, Field(ge=0), BeforeValidator(reject_bool)] | None = Field(None, exclude_if=_unset)

    @field_validator("chat_template_kwargs")
    @classmethod
    def _not_ours(cls, given: dict[str, Any] | None) -> Any:
        return given and template_kwargs(given)

    @model_validator(mode="after")
    def _needs_chat(self) -> Self:
        for key in ("system", "chat_template_kwargs", "reasoning"):
            if getattr(self, key) is not None and not self.chat:
                raise ValueError(f"{key}: is a part of the chat template, which needs chat: true")
        return self

    @property
    def chat_format(self) -> Chat | None:
        """The inputs of the chat template next to the prompt; None without `chat: true`."""
        if not self.chat:
            return None
        return Chat(self.system, self.chat_template_kwargs or {}, self.reasoning or Reasoning())

    @property
    def overrides(self) -> dict[str, Any]:
        """The sampling parameters that the model sets itself."""
        return self.sampling.given if self.sampling else {}


class ModelSpec(PromptedSpec):
    """A sampler: a hub id, a local folder, a checkpoint of another study, a model behind an OpenAI-compatible server
    or API (openai, with the name under which it is served), or solutions generated elsewhere (imported).

    `params` is the number of all parameters, `active_params` the number of those that a token passes through (in a
    mixture of experts). `match: gpu_seconds` uses `tokens_per_second` (generated tokens, on the hardware in
    question). `match_rule: measured` uses the means `tokens_per_solution` and `tokens_per_prompt`, for example from
    an earlier run. Of these three, the pilot measures those that are not stated.
    """

    params: float | None = Field(None, gt=0)
    active_params: float | None = Field(None, gt=0)
    tokens_per_second: float | None = Field(None, gt=0)
    tokens_per_solution: float | None = Field(None, gt=0)
    tokens_per_prompt: float | None = Field(None, gt=0)
    engine: EngineName = engines.AUTO
    price: Price | None = None
    path: Text | None = None
    columns: dict[str, str] | None = None
    where: dict[str, str | int | float | bool] | None = None
    tokenizer: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.check_origin()
        return self

    def check_origin(self) -> None:
        engine = engines.get(self.engine)
        if engine.recorded:
            if self.path is None or self.columns is None:
                raise ValueError(f"engine: {self.engine} needs path: and columns:")
            if self.checkpoint is not None:
                raise ValueError(f"engine: {self.engine} takes model: (a label) or nothing, not checkpoint:")
            if stray := sorted(self.model_fields_set & _ASKING):
                raise ValueError(f"{stray[0]}: engine: {self.engine} reads solutions that exist; leave it out")
        else:
            if not engine.local and self.revision:
                raise ValueError(f"engine: {self.engine} takes model: (the name that is served), not revision:")
            if (self.model is None) == (self.checkpoint is None):
                raise ValueError("give either model: (a hub id or a folder) or checkpoint: {study: ..., target: ...}")
            extra = [k for k in ("path", "columns", "where", "tokenizer") if getattr(self, k) is not None]
            if extra:
                raise ValueError(f"{', '.join(extra)}: allowed only with engine: imported")


class TargetSpec(PromptedSpec):
    """A model to finetune. An empty target means the sampler of the same name.

    `finetune` holds the settings of this target that differ from the study's `finetune:`.
    """

    engine: TargetEngineName = engines.AUTO
    finetune: Finetune | None = None

    @model_validator(mode="after")
    def _at_most_one_origin(self) -> TargetSpec:
        if self.model is not None and self.checkpoint is not None:
            raise ValueError("give model: or checkpoint:, not both")
        if self.revision and not engines.get(self.engine).local:
            raise ValueError(f"engine: {self.engine} takes model: (the name that is served), not revision:")
        if self.is_sampler and (stray := [key for key in _FORMAT if key in self.model_fields_set]):
            raise ValueError(f"{stray[0]}: a target without model: is the sampler of the same name; set it there")
        return self

    @property
    def is_sampler(self) -> bool:
        """Whether the target is the sampler of the same name."""
        return self.model is None and self.checkpoint is None


class Judge(ModelSpec):
    """A judge of the reasoning in a sample.

    This is the task's step checker (`method: steps`, the default), a model (`method: llm`, implied by `model:` or
    `checkpoint:`, with the other keys of a model), or a vote of other judges (`of:`). A model answers in JSON, with
    greedy decoding unless `temperature` is set.

    `reads` is what the judge sees of a solution: its reply, or both its reasoning and its reply.
    """

    method: MethodName | None = None
    of: list[Name] | None = Field(None, min_length=2)
    chat: bool = True
    temperature: float = Field(0.0, ge=0)
    max_tokens: Count = 1024
    reads: Literal["reply", "both"] = Field("reply", exclude_if=lambda value: value == "reply")

    @property
    def kind(self) -> str:
        """The name of the method."""
        return self.method or ("vote" if self.of else "llm" if self.model or self.checkpoint else "steps")

    @property
    def implementation(self) -> methods.Method:
        return methods.get(self.kind)

    def check_origin(self) -> None:
        if engines.get(self.engine).recorded:
            allowed = ", ".join(name for name in engines.names() if not engines.get(name).recorded)
            raise ValueError(f"engine: {self.engine} only reads stored solutions and cannot judge; allowed: {allowed}")
        if self.implementation.votes != (self.of is not None):
            raise ValueError("of: lists the judges that vote; give of: with method: vote, and only there")
        if stray := sorted(self.model_fields_set & {"path", "columns", "where", "tokenizer", "shots", *_MEANS}):
            raise ValueError(f"{stray[0]}: is a key of samplers, not of judges; leave it out")
        if self.implementation.asks_model:
            super().check_origin()
        elif stray := sorted(self.model_fields_set & (Judge.model_fields.keys() - {"method", "of", "reads"})):
            raise ValueError(f"{stray[0]}: allowed only with method: llm; the step checker and a vote call no model")


class JudgeSpec(Judge):
    """One judge, or several by name (`judges:`). The first one is used in the report and for `verification`.

    `samples` is the number of correct samples to judge for each model and budget, one of each problem before a second
    of any; "all" and null mean all of them. The default is 500, or all if no judge is a model. A judge that
    `verification` uses judges every sample that it verifies.

    `controls` is the number of reference solutions, and for each model and budget the number of samples with a wrong
    answer, that are judged to measure the judge's own errors; 0 for none.
    """

    samples: Annotated[Count | None, BeforeValidator(_all)] = None
    controls: Annotated[int, Field(ge=0), BeforeValidator(reject_bool)] = 50
    judges: dict[Name, Judge] | None = Field(None, min_length=1)

    def check_origin(self) -> None:
        if self.judges is None:
            return super().check_origin()
        if stray := sorted(self.model_fields_set - {"samples", "controls", "judges"}):
            raise ValueError(f"{stray[0]}: not allowed together with judges:; move it into a judge under judges:")

    @property
    def all(self) -> dict[str, Judge]:
        """All judges by name. A single judge is named after its method."""
        return self.judges or {self.kind: self}

    @property
    def first(self) -> str:
        return next(iter(self.all))

    @property
    def models(self) -> dict[str, Judge]:
        """The judges that are models, by name."""
        return {name: judge for name, judge in self.all.items() if judge.implementation.asks_model}

    @property
    def count(self) -> int | None:
        """The number of samples to judge. None means all."""
        if "samples" not in self.model_fields_set:
            return 500 if self.models else None
        return self.samples

    def behind(self, name: str) -> tuple[str, ...]:
        """Return the judges that a judge consists of: the members of a vote, then the judge itself."""
        return (*(self.all[name].of or ()), name)
