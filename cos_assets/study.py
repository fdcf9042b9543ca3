"""The study spec: one YAML file is the whole interface of an experiment.

`parse` turns the YAML's attributes into a `StudySpec` or raises `StudyError`, whose message has one line per
mistake: the key, the value, and what is allowed.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from cos_assets import tasks
from cos_assets.budget import Match, Prices
from cos_assets.generation.types import Sampling
from cos_assets.mistakes import StudyError, check, disagreements
from cos_assets.mistakes import check_duplicates as check_duplicates
from cos_assets.spec import Count, Name, Spec, StudyName, Text, no_truth
from cos_assets.training.scoring import EvaluationSpec
from cos_assets.training.settings import Finetune
from cos_assets.training.sft_sets import SourceSpec
from cos_assets.training.verification import Verification

# Per million tokens, in any currency: outside of these somebody gave the price of one token, or of a month.
_LEAST_PRICE, _GREATEST_PRICE = 1e-3, 1e5
# What only says how a sampler's budget is matched.
_MEANS = ("tokens_per_second", "tokens_per_solution", "tokens_per_prompt")


def _all(value: Any) -> Any:
    return None if value == "all" else value


class CheckpointRef(Spec):
    """A model made by another study (or by TinyModels, which has neither budget nor source)."""

    study: Name
    target: Name
    budget: Name | None = None
    source: Name | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> CheckpointRef:
        if (self.budget is None) != (self.source is None):
            raise ValueError("budget and source go together: give both, or neither for a TinyModels checkpoint")
        return self


class Price(Spec):
    """Prices per million tokens, dated, because they change.

    `cached` is for input tokens that the server had in its cache (without it: the price of input), `batch_discount` the
    share that a batch API takes off everything: 0.5 for half the price.
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
            raise ValueError(f"is too little for a million tokens; per token it would be {value * 1e6:g} per million")
        if value and value > _GREATEST_PRICE:
            raise ValueError("is too much for a million tokens; expected the price of a million tokens")
        return value

    @model_validator(mode="after")
    def _cache_is_no_dearer(self) -> Self:
        # A cap sets aside what a prompt costs uncached.
        if self.cached is not None and self.cached > self.input:
            raise ValueError(f"cached: {self.cached:g} is more than input: {self.input:g}; allowed is at most that")
        return self

    def of(self, batch: bool) -> Prices:
        """What tokens cost, asked one by one or through a batch API."""
        left = 1 - self.batch_discount if batch else 1.0
        cached = None if self.cached is None else self.cached * left
        return Prices(self.input * left, self.output * left, cached)


class ModelSpec(Spec):
    """A sampler: a hub id, a local folder, another study's checkpoint, a model behind an OpenAI-compatible server or
    API (openai, with the name under which it is served), or solutions made elsewhere (imported).

    `params` are all parameters, `active_params` those that a token passes through (of a mixture of experts).
    `tokens_per_second` (generated, on the hardware in question) is what match: gpu_seconds goes by. The means
    `tokens_per_solution` and `tokens_per_prompt`, for example of an earlier run, are what match_rule: measured goes by.
    What is not stated is measured by the pilot. `chat: true` puts the prompt into the tokenizer's chat template, as one
    message of the user: for instruct models.
    """

    model: Text | None = None
    checkpoint: CheckpointRef | None = None
    revision: str | None = None
    params: float | None = Field(None, gt=0)
    active_params: float | None = Field(None, gt=0)
    tokens_per_second: float | None = Field(None, gt=0)
    tokens_per_solution: float | None = Field(None, gt=0)
    tokens_per_prompt: float | None = Field(None, gt=0)
    engine: Literal["auto", "transformers", "vllm", "ray", "openai", "imported"] = "auto"
    engine_options: dict[str, Any] = {}
    chat: bool = False
    price: Price | None = None
    path: Text | None = None
    columns: dict[str, str] | None = None
    tokenizer: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.check_origin()
        return self

    def check_origin(self) -> None:
        if self.engine == "imported":
            if self.path is None or self.columns is None:
                raise ValueError("engine: imported needs path: and columns:")
            if self.checkpoint is not None:
                raise ValueError("engine: imported takes model: (a label) or nothing, not checkpoint:")
        else:
            if self.engine == "openai" and (self.model is None or self.checkpoint or self.revision):
                raise ValueError("engine: openai takes model: (the name that is served), not checkpoint: or revision:")
            if (self.model is None) == (self.checkpoint is None):
                raise ValueError("give either model: (a hub id or a folder) or checkpoint: {study: ..., target: ...}")
            extra = [k for k in ("path", "columns", "tokenizer") if getattr(self, k) is not None]
            if extra:
                raise ValueError(f"{', '.join(extra)}: only with engine: imported")


class PilotSpec(Spec):
    """A few samples of every model, bought first and counted as part of the budget.

    `samples` of each of `problems` problems, drawn by the seed; without `problems` of all that are sampled.
    """

    samples: Annotated[int, Field(ge=2), BeforeValidator(no_truth)] = 4
    problems: Annotated[int, Field(ge=2), BeforeValidator(no_truth)] | None = None


class CapSpec(Spec):
    """The most that a study spends on data (pilot, samples, judgements): FLOPs, or money in the prices' currency."""

    flops: float | None = Field(None, gt=0)
    cost: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _some(self) -> CapSpec:
        if self.flops is None and self.cost is None:
            raise ValueError("give flops:, cost:, or both")
        return self


class TargetSpec(Spec):
    """What is finetuned. Empty means the sampler of the same name.

    `finetune` holds what differs from the study's `finetune:` for this target.
    """

    model: Text | None = None
    checkpoint: CheckpointRef | None = None
    revision: str | None = None
    engine: Literal["auto", "transformers", "vllm", "ray"] = "auto"
    engine_options: dict[str, Any] = {}
    chat: bool = False
    finetune: Finetune | None = None

    @model_validator(mode="after")
    def _at_most_one_origin(self) -> TargetSpec:
        if self.model is not None and self.checkpoint is not None:
            raise ValueError("give model: or checkpoint:, not both")
        return self


class SamplingSpec(Sampling):
    """Sampling parameters, the split that is sampled, and the number of few-shot examples in the prompt."""

    model_config = ConfigDict(allow_inf_nan=False)

    split: Literal["train", "validation", "test"] = "train"
    shots: int = Field(0, ge=0)

    def parameters(self, seed: int, stop: tuple[str, ...]) -> Sampling:
        fields = {k: getattr(self, k) for k in Sampling.model_fields}
        return Sampling(**{**fields, "seed": seed, "stop": tuple(dict.fromkeys((*self.stop, *stop)))})


class Judge(ModelSpec):
    """Who says whether the reasoning of a sample is right: the task's step checker (`method: steps`, the default), a
    model (`method: llm`, or just `model:` or `checkpoint:`, with what else a model takes), or a vote of other judges
    (`of:`).

    A model answers in JSON, greedily unless `temperature` says otherwise.
    """

    method: Literal["steps", "llm", "vote"] | None = None
    of: list[Name] | None = Field(None, min_length=2)
    chat: bool = True
    temperature: float = Field(0.0, ge=0)
    max_tokens: Count = 1024

    @property
    def kind(self) -> Literal["steps", "llm", "vote"]:
        implied: Literal["steps", "llm", "vote"] = "llm" if self.model or self.checkpoint else "steps"
        return self.method or ("vote" if self.of else implied)

    def check_origin(self) -> None:
        if self.engine == "imported":
            raise ValueError("engine: imported is for solutions made elsewhere; a judge is asked")
        if (self.kind == "vote") != (self.of is not None):
            raise ValueError("of: names the judges that vote, and goes with method: vote")
        if stray := sorted(self.model_fields_set & {"path", "columns", "tokenizer", *_MEANS}):
            raise ValueError(f"{stray[0]}: is for who samples, not for a judge")
        if self.kind == "llm":
            super().check_origin()
        elif stray := sorted(self.model_fields_set & (Judge.model_fields.keys() - {"method", "of"})):
            raise ValueError(f"{stray[0]}: is for method: llm; the step checker and a vote ask no model")


class JudgeSpec(Judge):
    """One judge, or several by name (`judges:`), of which the first one counts in the report and for `verification`.

    `samples` correct ones of each model and budget are judged, one of each problem before a second of any; "all" and
    null mean all of them. Default 500, all where only the step checker judges. A judge that `verification` goes by
    judges all that it verifies.
    """

    samples: Annotated[Count | None, BeforeValidator(_all)] = None
    judges: dict[Name, Judge] | None = Field(None, min_length=1)

    def check_origin(self) -> None:
        if self.judges is None:
            return super().check_origin()
        if stray := sorted(self.model_fields_set - {"samples", "judges"}):
            raise ValueError(f"{stray[0]}: stands beside judges:; give one judge, or several under judges:")

    @property
    def all(self) -> dict[str, Judge]:
        """Every judge by name; a single one is called by its method."""
        return self.judges or {self.kind: self}

    @property
    def first(self) -> str:
        return next(iter(self.all))

    @property
    def models(self) -> dict[str, Judge]:
        """The judges that are models."""
        return {name: judge for name, judge in self.all.items() if judge.kind == "llm"}

    @property
    def count(self) -> int | None:
        """How many samples are judged; None means all."""
        if "samples" not in self.model_fields_set:
            return 500 if self.models else None
        return self.samples

    def behind(self, name: str) -> tuple[str, ...]:
        """The judges that make up a judge: those of a vote, and itself."""
        return (*(self.all[name].of or ()), name)


class StudySpec(Spec):
    """One experiment. Every field is a key of `attributes:` in `defs.yaml`."""

    name: StudyName
    description: str = ""
    task: Annotated[tasks.Chosen, BeforeValidator(tasks.named)]
    models: dict[Name, ModelSpec] = Field(min_length=1)
    budgets: dict[Name, dict[Name, Count]] = Field(min_length=1)
    match: Match = "flops"
    match_rule: Literal["nominal", "measured"] | None = None
    count_prefill: bool = False
    pilot: PilotSpec | None = None
    cap: CapSpec | None = None
    allocation: Literal["uniform", "adaptive"] = "uniform"
    sampling: SamplingSpec = SamplingSpec()
    verification: Verification = "answer"
    sources: dict[Name, SourceSpec] = {}
    targets: dict[Name, TargetSpec] = {}
    finetune: Finetune | None = None
    judge: JudgeSpec = JudgeSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    compare: list[Name] | None = Field(None, min_length=2, max_length=2)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    seed: Annotated[int, Field(ge=0), BeforeValidator(no_truth)] = 0

    @model_validator(mode="before")
    @classmethod
    def _targets_inherit(cls, given: Any) -> Any:
        """A target's `finetune:` is the study's with what the target says instead."""
        common, targets = given.get("finetune"), given.get("targets")
        if not isinstance(common, Mapping) or not isinstance(targets, Mapping):
            return given
        merged = {
            name: {**target, "finetune": {**common, **target["finetune"]}}
            if isinstance(target, Mapping) and isinstance(target.get("finetune"), Mapping)
            else target
            for name, target in targets.items()
        }
        return {**given, "targets": merged}

    @model_validator(mode="after")
    def _names_agree(self) -> StudySpec:
        problems = list(disagreements(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def floor(self) -> int:
        """With allocation: adaptive, what every problem gets before the rest goes where it is worth most."""
        return self.pilot.samples if self.pilot else 1

    @property
    def predicts(self) -> bool:
        """Is there a pilot that says how often solutions are right?"""
        return self.pilot is not None and self.task.answer_kind is not None

    @property
    def verifications(self) -> dict[str, Verification]:
        """The ways in which samples are verified, by the key that says so: the study's, then those of sources."""
        own = {f"sources.{name}.verification": source.verification for name, source in self.sources.items()}
        return {"verification": self.verification, **{key: way for key, way in own.items() if way}}

    def verifiers_of(self, verification: Verification) -> tuple[str, ...]:
        """The judge that a way of verification goes by, behind the judges that it is a vote of."""
        if verification in ("judge", "answer+judge"):
            return self.judge.behind(self.judge.first)
        steps = [name for name, judge in self.judge.all.items() if judge.kind == "steps"]
        return tuple(steps[:1]) if verification == "answer+steps" else ()

    @property
    def verifiers(self) -> tuple[str, ...]:
        """The judges that judge all that is verified."""
        return tuple(dict.fromkeys(name for way in self.verifications.values() for name in self.verifiers_of(way)))

    @property
    def measured(self) -> bool:
        """Are budgets matched by each model's own tokens? Without match_rule: yes where every model states them."""
        stated = all(model.tokens_per_solution for model in self.models.values())
        return self.match_rule == "measured" or (self.match_rule is None and stated)

    @property
    def arms(self) -> dict[str, SourceSpec]:
        """All data arms: one per sampler with its whole budget, then the ones the study names."""
        return {**{m: SourceSpec(take={m: 1.0}) for m in self.models}, **self.sources}

    @property
    def pair(self) -> tuple[str, str] | None:
        """(weak-cheap, strong-expensive): the two samplers the verdict compares; None when there is one only."""
        if self.compare:
            weak, strong = self.compare
            return weak, strong
        if {"wc", "se"} <= self.models.keys():
            return "wc", "se"
        first, *rest = self.models
        return (first, rest[-1]) if rest else None

    @property
    def benchmarks(self) -> dict[str, tasks.Task]:
        """What finetuned models are scored on, by name; the verdict is on the first."""
        chosen = self.evaluation.benchmarks or [self.task]
        return {task.name: self.task if self.is_own(task) else task for task in chosen}

    def is_own(self, benchmark: tasks.Task) -> bool:
        """Is a benchmark the study's own task? It is where it has its name, and no settings of its own."""
        return benchmark == self.task or (benchmark.name == self.task.name and benchmark.model_fields_set <= {"name"})

    @property
    def foreign_benchmarks(self) -> dict[str, tasks.Task]:
        """The benchmarks that are not the study's own task."""
        return {name: task for name, task in self.benchmarks.items() if not self.is_own(task)}

    def finetuning_of(self, target: str) -> Finetune:
        """How a target is finetuned."""
        settings = self.targets[target].finetune or self.finetune
        assert settings is not None  # a study with targets has one
        return settings

    def reference_model(self, budget: str) -> str:
        return next(iter(self.budgets[budget]))


def parse(attributes: Any, where: str = "study") -> StudySpec:
    """The study that a YAML's attributes describe.

    `where` names the file in messages. Raises StudyError with one line per mistake.
    """
    if not isinstance(attributes, Mapping):
        raise StudyError(
            f"{where}: attributes: expected a mapping with name, task, models and budgets, found {attributes!r}"
        )
    return check(StudySpec, attributes, where)
