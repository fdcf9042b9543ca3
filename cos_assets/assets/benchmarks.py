"""The problems of each benchmark that models are scored on, and the versions that their verdicts depend on."""

from __future__ import annotations

import dagster as dg
import polars as pl

from cos_assets.assets.step import Inputs, own
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


def max_tokens(spec: StudySpec) -> int:
    return spec.evaluation.max_tokens or spec.sampling.max_tokens
