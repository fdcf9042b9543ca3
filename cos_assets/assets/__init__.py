"""The asset graph of one study, one module per stage: read inputs, call the layer below, attach metadata."""

from __future__ import annotations

import dagster as dg

from cos_assets.assets import (
    finetuning,
    judgements,
    labels,
    pilot,
    plan,
    prediction,
    problems,
    quality,
    report,
    samples,
)
from cos_assets.study import StudySpec


def build_study(spec: StudySpec) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """All assets of a study, from its problems to its report."""
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [
        problems.problems(spec),
        *([pilot.pilot(spec)] if spec.pilot else []),
        plan.budget_plan(spec),
        *([prediction.prediction(spec)] if spec.predicts else []),
        samples.samples(spec),
        quality.verdicts(spec),
        quality.sample_metrics(spec),
        judgements.judgements(spec),
        labels.labels(spec),
        finetuning.sft(spec),
    ]
    if spec.targets and spec.foreign_benchmarks:
        assets.append(problems.benchmark_problems(spec))
    for target in spec.targets:
        assets += [finetuning.checkpoint(spec, target), finetuning.evaluation(spec, target)]
    if spec.targets:
        assets.append(finetuning.base_evaluation(spec))
        if spec.evaluation.samples:
            assets.append(finetuning.eval_metrics(spec))
    if report.has_ablations(spec):
        assets.append(report.ablations(spec))
    return [*assets, report.report(spec)]
