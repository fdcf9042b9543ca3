"""problems: every split of the problem set, one row per problem. benchmark_problems: those of other benchmarks."""

from __future__ import annotations

from typing import Any

import dagster as dg
import polars as pl

from cos_assets.assets.metadata import result
from cos_assets.assets.step import Inputs, Step, asset
from cos_assets.escape import markdown_block
from cos_assets.orchestration.checks import DISJOINT, Check
from cos_assets.study import StudySpec
from cos_assets.tasks import SPLITS, in_several_splits


def problems(spec: StudySpec) -> dg.AssetsDefinition:
    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        frame = spec.task.load()
        counts = {f"{split}_problems": frame.filter(pl.col("split") == split).height for split in SPLITS}
        if not counts[f"{spec.sampling.split}_problems"]:
            raise ValueError(f"sampling.split: {spec.sampling.split!r} of task {spec.task.name!r} has no problems")
        example = frame.filter(pl.col("split") == spec.sampling.split).row(0, named=True)
        shown = spec.task.prompt(example) + (example["solution"] or "")
        return result(
            frame,
            {"task": spec.task.name, **counts, **spec.task.provenance()},
            _disjoint(frame),
            example=dg.MetadataValue.md(markdown_block(shown)),
        )

    return asset(
        spec,
        "problems",
        body,
        checks=[DISJOINT],
        ins={},
        description=f"Problems of the task `{spec.task.name}`, all splits.",
        config=["problems-1", spec.task.model_dump(mode="json"), spec.sampling.split],
    )


def benchmark_problems(spec: StudySpec) -> dg.AssetsDefinition:
    """Declare the test problems of the benchmarks that are not the study's own task."""

    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        frames: list[pl.DataFrame] = []
        facts: dict[str, Any] = {}
        for name, task in spec.foreign_benchmarks.items():
            frame = task.load().filter(pl.col("split") == "test")
            if frame.is_empty():
                raise ValueError(f"evaluation.benchmarks: {name!r} has no test split to score models on")
            frames.append(frame.with_columns(benchmark=pl.lit(name)))
            facts |= {f"{name}_problems": frame.height}
            facts |= {f"{name}_{key}": value for key, value in task.provenance().items()}
        return result(pl.concat(frames), facts)

    return asset(
        spec,
        "benchmark_problems",
        body,
        ins={},
        description="Test problems of " + ", ".join(f"`{name}`" for name in spec.foreign_benchmarks) + ".",
        config=["benchmarks-1", [task.model_dump(mode="json") for task in spec.foreign_benchmarks.values()]],
    )


def _disjoint(problems: pl.DataFrame) -> Check:
    """Check that no problem is in two splits: training or validation problems in the test split bias its score."""
    shared = in_several_splits(problems)
    lines = [
        f"- {row['problem_id']} ({row['split']}) = {row['other_id']} ({row['other_split']}): {row['question'][:200]!r}"
        for row in shared.head(5).iter_rows(named=True)
    ]
    return Check(DISJOINT, {"in_several_splits": shared.height}, "\n".join(lines) or None)
