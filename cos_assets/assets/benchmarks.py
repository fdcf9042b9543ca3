"""What models are scored on: the problems of each benchmark, and what their verdicts depend on."""

from __future__ import annotations

import dagster as dg
import polars as pl

from cos_assets.assets.step import Inputs, own
from cos_assets.grading.answers import GRADER_VERSION
from cos_assets.judging.steps import JUDGE_VERSION
from cos_assets.study import StudySpec
from cos_assets.tasks import Task


def scored_problems(spec: StudySpec, inputs: Inputs, benchmark: str) -> pl.DataFrame:
    """The problems of a benchmark on which models are scored."""
    if spec.is_own(spec.benchmarks[benchmark]):
        return inputs["problems"].filter(pl.col("split") == spec.evaluation.split).collect()
    return inputs["benchmark_problems"].filter(pl.col("benchmark") == benchmark).drop("benchmark").collect()


def problem_inputs(spec: StudySpec) -> dict[str, dg.AssetIn]:
    foreign = spec.targets and spec.foreign_benchmarks
    tables = ["problems", *(["benchmark_problems"] if foreign else [])]
    return {name: own(spec, name) for name in tables}


def groups(spec: StudySpec, inputs: Inputs) -> pl.DataFrame:
    """[benchmark, problem_id, level, subject] of what models are scored on."""
    wanted = ("problem_id", "level", "subject")
    frames = [
        scored_problems(spec, inputs, name).select(pl.lit(name).alias("benchmark"), *wanted) for name in spec.benchmarks
    ]
    return pl.concat(frames)


def versions(task: Task) -> list[str]:
    """What a verdict, and the step checker's, depend on besides the completion."""
    return [task.reading, GRADER_VERSION, JUDGE_VERSION]


def max_tokens(spec: StudySpec) -> int:
    return spec.evaluation.max_tokens or spec.sampling.max_tokens
