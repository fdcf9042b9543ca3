"""eval_metrics: accuracy, pass@k, maj@k and false positives of all models."""

from __future__ import annotations

import dagster as dg
import polars as pl

from cos_assets.assets.benchmarks import groups, problem_inputs
from cos_assets.assets.metadata import result
from cos_assets.assets.step import Inputs, Step, asset, own
from cos_assets.metrics.evaluated import evaluation_metrics
from cos_assets.study import StudySpec


def eval_metrics(spec: StudySpec) -> dg.AssetsDefinition:
    evals = [*(f"{name}_eval" for name in spec.targets), "base_eval"]

    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        rows = pl.concat([inputs[name].collect() for name in evals], how="diagonal_relaxed")
        pass_at, maj_at = spec.evaluation.ks
        return result(evaluation_metrics(rows, groups(spec, inputs), pass_at, maj_at, spec.confidence))

    return asset(
        spec,
        "eval_metrics",
        body,
        ins={name: own(spec, name) for name in evals} | problem_inputs(spec),
        description="accuracy, pass@k, maj@k and false positives of all models; over all, by level, by subject.",
        config=["eval_metrics-2", spec.evaluation.ks, spec.confidence],
    )
