"""The spec of a study: one YAML file is the whole interface of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from cos_assets import tasks
from cos_assets.budget.matching import RULES, MatchRule
from cos_assets.fields import Count, Name, Spec, StudyName, Text, one_of, reject_bool
from cos_assets.generation.types import Sampling
from cos_assets.study.environment import Written
from cos_assets.study.models import JudgeSpec, ModelSpec, PromptedSpec, TargetSpec
from cos_assets.study.published import Published
from cos_assets.training.scoring import EvaluationSpec
from cos_assets.training.settings import Finetune
from cos_assets.training.sft_sets import SourceSpec
from cos_assets.training.verification import Verification

T = TypeVar("T")


class PilotSpec(Spec):
    """A few samples of every model that are bought first and count as part of the budget.

    The pilot buys `samples` samples for each of `problems` problems, which the seed selects. Without `problems`, it
    buys them for all problems that are sampled.
    """

    samples: Annotated[int, Field(ge=2), BeforeValidator(reject_bool)] = 4
    problems: Annotated[int, Field(ge=2), BeforeValidator(reject_bool)] | None = None


class CapSpec(Spec):
    """The maximum that a study spends on data (pilot, samples, judgements): FLOPs, or money in the prices' currency."""

    flops: float | None = Field(None, gt=0)
    cost: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _some(self) -> CapSpec:
        if self.flops is None and self.cost is None:
            raise ValueError("give flops:, cost:, or both")
        return self


def _only_cron(value: Any) -> Any:
    return {"cron": value} if isinstance(value, str) else value


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is not a known time zone; expected a name such as Europe/Berlin") from None
    return name


class ScheduleSpec(Spec):
    """When to materialize missing and stale partitions: a cron expression of five fields.

    A partition that fails is retried `retries` times. After that it is skipped until its code or its inputs change,
    or until somebody runs it.
    """

    cron: Text
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    retries: Annotated[int, Field(ge=0, le=10), BeforeValidator(reject_bool)] = 2


class SamplingSpec(Sampling):
    """Sampling parameters, the split that is sampled, and the number of few-shot examples in the prompt.

    `unreadable: continue` keeps sampling even if almost none of the first solutions states a readable answer.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    split: Literal["train", "validation", "test"] = "train"
    shots: int = Field(0, ge=0)
    unreadable: Literal["stop", "continue"] = Field("stop", exclude=True)  # no sample depends on it

    def parameters(self, seed: int, stop: tuple[str, ...]) -> Sampling:
        fields = {k: getattr(self, k) for k in Sampling.model_fields}
        return Sampling(**{**fields, "seed": seed, "stop": tuple(dict.fromkeys((*self.stop, *stop)))})

    def of(self, model: PromptedSpec) -> SamplingSpec:
        """Return the sampling of a model: its own keys, and these for the others."""
        own = model.overrides if model.shots is None else {**model.overrides, "shots": model.shots}
        return self.model_copy(update=own) if own else self


class StudySpec(Spec):
    """One experiment. Every field is a key of `attributes:` in `defs.yaml`."""

    _written: Written = PrivateAttr(default_factory=Written)

    name: StudyName
    description: str = ""
    task: Annotated[tasks.Chosen, BeforeValidator(tasks.named)]
    models: dict[Name, ModelSpec] = Field(min_length=1)
    budgets: dict[Name, dict[Name, Count]] = Field(min_length=1)
    match: Annotated[str, AfterValidator(lambda name: one_of(name, RULES))] = "flops"
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
    published: Published | None = None
    schedule: Annotated[ScheduleSpec, BeforeValidator(_only_cron)] | None = None
    confidence: float = Field(0.95, gt=0.5, lt=1)
    seed: Annotated[int, Field(ge=0), BeforeValidator(reject_bool)] = 0

    @model_validator(mode="before")
    @classmethod
    def _targets_inherit(cls, given: Any) -> Any:
        """Merge the study's `finetune:` into that of each target. Values of the target take precedence."""
        common, targets = given.get("finetune"), given.get("targets")
        if not isinstance(common, Mapping) or not isinstance(targets, Mapping):
            return given
        merged = {
            name: {**target, "finetune": Finetune.inherited(common, target["finetune"])}
            if isinstance(target, Mapping) and isinstance(target.get("finetune"), Mapping)
            else target
            for name, target in targets.items()
        }
        return {**given, "targets": merged}

    @property
    def matching(self) -> MatchRule:
        """The rule that `match` names."""
        return RULES[self.match]

    def sampling_of(self, model: str) -> SamplingSpec:
        """Return the sampling of a sampler, which may override keys of `sampling:`."""
        return self.sampling.of(self.models[model])

    @property
    def floor(self) -> int:
        """With `allocation: adaptive`, the samples that every problem gets before the rest is allocated by worth."""
        return self.pilot.samples if self.pilot else 1

    @property
    def predicts(self) -> bool:
        """Whether a pilot measures how often solutions are right, which needs gold answers."""
        return self.pilot is not None and self.task.answer_kind is not None

    @property
    def verifications(self) -> dict[str, Verification]:
        """The verification methods by the key that sets them: the study's, then those of sources."""
        own = {f"sources.{name}.verification": source.verification for name, source in self.sources.items()}
        return {"verification": self.verification, **{key: way for key, way in own.items() if way}}

    def verifiers_of(self, verification: Verification) -> tuple[str, ...]:
        """Return the judge that a verification method uses, preceded by the members if it is a vote. Empty if the
        method uses no judge."""
        if verification in ("judge", "answer+judge"):
            return self.judge.behind(self.judge.first)
        steps = [name for name, judge in self.judge.all.items() if judge.kind == "steps"]
        return tuple(steps[:1]) if verification == "answer+steps" else ()

    @property
    def verifiers(self) -> tuple[str, ...]:
        """The judges that judge every sample to be verified."""
        return tuple(dict.fromkeys(name for way in self.verifications.values() for name in self.verifiers_of(way)))

    @property
    def measured(self) -> bool:
        """Whether budgets are matched by each model's own tokens. Without `match_rule`, they are if every model
        states its tokens per solution."""
        stated = all(model.tokens_per_solution for model in self.models.values())
        return self.match_rule == "measured" or (self.match_rule is None and stated)

    @property
    def arms(self) -> dict[str, SourceSpec]:
        """All data arms: one per sampler with its whole budget, then the sources that the study names."""
        return {**{m: SourceSpec(take={m: 1.0}) for m in self.models}, **self.sources}

    @property
    def pair(self) -> tuple[str, str] | None:
        """The (weak-cheap, strong-expensive) samplers that the verdict compares. None if there is only one."""
        if self.compare:
            weak, strong = self.compare
            return weak, strong
        if {"wc", "se"} <= self.models.keys():
            return "wc", "se"
        first, *rest = self.models
        return (first, rest[-1]) if rest else None

    @property
    def benchmarks(self) -> dict[str, tasks.Task]:
        """The tasks that finetuned models are scored on, by name. The verdict uses the first."""
        chosen = self.evaluation.benchmarks or [self.task]
        return {task.name: self.task if self.is_own(task) else task for task in chosen}

    def is_own(self, benchmark: tasks.Task) -> bool:
        """Return whether a benchmark is the study's own task: it equals the task, or has its name and no settings of
        its own."""
        return benchmark == self.task or (benchmark.name == self.task.name and benchmark.model_fields_set <= {"name"})

    @property
    def foreign_benchmarks(self) -> dict[str, tasks.Task]:
        """The benchmarks that are not the study's own task."""
        return {name: task for name, task in self.benchmarks.items() if not self.is_own(task)}

    def finetuning_of(self, target: str) -> Finetune:
        """Return the finetuning settings of a target."""
        settings = self.targets[target].finetune or self.finetune
        assert settings is not None  # `rules` requires finetune: of a study with targets
        return settings

    def reference_model(self, budget: str) -> str:
        return next(iter(self.budgets[budget]))

    def as_written(self, value: T) -> T:
        """Return `value` for a report or for metadata, with environment variables as written in the YAML."""
        return self._written(value)

    @property
    def warnings(self) -> list[str]:
        """Warnings about settings that are allowed but often unintended."""
        by_default = self.judge.judges is None and self.judge.method is None and self.judge.kind == "steps"
        if not (by_default and self.task.answer_kind == "math"):
            return []
        return [
            "judge: no judge is given, so the step checker judges. It checks arithmetic, and can read only a part of"
            " mathematical solutions. Give a model (judge: {model: ...}), or judge: {method: steps} to keep it"
        ]
