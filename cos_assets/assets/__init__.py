"""The asset graph of one study. Each module declares one asset, which reads inputs, calls the layer below and attaches
metadata.

To add an asset, write a module with a function that returns `step.asset(...)`, and add it to `build_study`.
"""

from __future__ import annotations

import dagster as dg

from cos_assets.assets import (
    ablations,
    budget_plan,
    checkpoints,
    eval_metrics,
    evals,
    judgements,
    labels,
    pilot,
    prediction,
    problems,
    report,
    sample_metrics,
    samples,
    sft_set,
    verdicts,
)
from cos_assets.study import StudySpec


def build_study(spec: StudySpec) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """Return all assets of a study, from its problems to its report."""
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [
        problems.problems(spec),
        *([pilot.pilot(spec)] if spec.pilot else []),
        budget_plan.budget_plan(spec),
        *([prediction.prediction(spec)] if spec.predicts else []),
        samples.samples(spec),
        verdicts.verdicts(spec),
        sample_metrics.sample_metrics(spec),
        judgements.judgements(spec),
        labels.labels(spec),
        sft_set.sft(spec),
    ]
    if spec.targets and spec.foreign_benchmarks:
        assets.append(problems.benchmark_problems(spec))
    for target in spec.targets:
        assets += [checkpoints.checkpoint(spec, target), evals.evaluation(spec, target)]
    if spec.targets:
        assets.append(evals.base_evaluation(spec))
        if spec.evaluation.samples:
            assets.append(eval_metrics.eval_metrics(spec))
    if ablations.has_ablations(spec):
        assets.append(ablations.ablations(spec))
    return [*assets, report.report(spec)]
