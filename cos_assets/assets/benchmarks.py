"""How models are scored: the problems of each benchmark, the prompts and the sampling, and their versions."""

from __future__ import annotations

from typing import Any

import dagster as dg
import polars as pl

from cos_assets.assets.few_shot import examples, few_shot_prompts
from cos_assets.assets.models import target_spec
from cos_assets.assets.step import Inputs, own
from cos_assets.generation.types import Sampling
from cos_assets.grading.answers import GRADER_VERSION
from cos_assets.judging.steps import JUDGE_VERSION
from cos_assets.study import StudySpec
from cos_assets.tasks import Task


def scored_problems(spec: StudySpec, inputs: Inputs, benchmark: str) -> pl.DataFrame:
    """Return the problems of a benchmark that models are scored on."""
    if spec.is_own(spec.benchmarks[benchmark]):
        return inputs["problems"].filter(pl.col("split") == spec.evaluation.split).collect()
    return inputs["benchmark_problems"].filter(pl.col("benchmark") == benchmark).drop("benchmark").collect()


def problem_inputs(spec: StudySpec) -> dict[str, dg.AssetIn]:
    foreign = spec.targets and spec.foreign_benchmarks
    tables = ["problems", *(["benchmark_problems"] if foreign else [])]
    return {name: own(spec, name) for name in tables}


def groups(spec: StudySpec, inputs: Inputs) -> pl.DataFrame:
    """Return [benchmark, problem_id, level, subject] of the problems that models are scored on."""
    wanted = ("problem_id", "level", "subject")
    frames = [
        scored_problems(spec, inputs, name).select(pl.lit(name).alias("benchmark"), *wanted) for name in spec.benchmarks
    ]
    return pl.concat(frames)


def versions(task: Task) -> list[str]:
    """Return the versions that a verdict, and the step checker's judgement, depend on besides the completion."""
    return [task.reading, GRADER_VERSION, JUDGE_VERSION]


def greedy(spec: StudySpec, target: str) -> tuple[int, Sampling]:
    """Return how a target gives its scored answer, as (answers per problem, sampling): one, at temperature 0."""
    own = {"max_tokens": max_tokens(spec, target), **spec.targets[target].overrides}
    return 1, Sampling(**{**own, "temperature": 0})


def ways(spec: StudySpec, target: str) -> list[tuple[int, Sampling]]:
    """Return how a target answers: the greedy answer first, then the drawn ones (see `greedy`).

    A target's own `sampling:` takes precedence over `evaluation:`.
    """
    if not spec.evaluation.samples:
        return [greedy(spec, target)]
    own = {"max_tokens": max_tokens(spec, target), **spec.targets[target].overrides}
    drawn = Sampling(**{**spec.evaluation.sampling(spec.seed).model_dump(), **own})
    return [greedy(spec, target), (spec.evaluation.samples, drawn)]


def max_tokens(spec: StudySpec, target: str) -> int:
    """Return the maximum number of tokens of a target's answer: its own, that of the evaluation, or that of sampling.

    An empty target, which is the sampler of the same name, has the sampler's.
    """
    part = spec.targets[target]
    sampler = spec.sampling_of(target) if part.is_sampler else spec.sampling
    return part.overrides.get("max_tokens") or spec.evaluation.max_tokens or sampler.max_tokens


def answer_settings(spec: StudySpec, target: str) -> list[Any]:
    """Return the settings that a target's answers depend on besides the model, the problems and `evaluation:`."""
    part = spec.targets[target]
    own = {**part.overrides, **({} if part.shots is None else {"shots": part.shots})}
    return [max_tokens(spec, target), *([own] if own else [])]


def answer_prompts(
    spec: StudySpec, target: str, task: Task, problems: pl.DataFrame, examples_from: pl.DataFrame
) -> pl.DataFrame:
    """Return the prompts [problem_id, prompt] of a target: without few-shot examples, unless it has `shots:`.

    The examples are drawn from the training problems among `examples_from`, or are the task's own.
    """
    chat, shots = target_spec(spec, target).chat, spec.targets[target].shots or 0
    drawn = examples(task, examples_from, shots, spec.seed) if shots else ()
    return few_shot_prompts(task, problems, drawn, shots, chat)
