"""ablations: comparison of the models trained on each data arm with those trained on the samplers' own data."""

from __future__ import annotations

import dagster as dg
import polars as pl

from cos_assets import report as pages
from cos_assets.assets.metadata import result
from cos_assets.assets.step import Inputs, Step, asset, own
from cos_assets.study import StudySpec


def has_ablations(spec: StudySpec) -> bool:
    """Return whether the study has data arms besides the samplers' own, and models to train on them."""
    return bool(spec.sources and spec.targets)


def ablations(spec: StudySpec) -> dg.AssetsDefinition:
    names = [f"{name}_eval" for name in spec.targets]

    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        evals = pl.concat([inputs[name].collect() for name in names], how="diagonal_relaxed")
        return result(pages.ablations.table(spec, {"evals": evals}))

    return asset(
        spec,
        "ablations",
        body,
        ins={name: own(spec, name) for name in names},
        description="Accuracy of models finetuned on each data arm, minus that on the samplers' own data.",
        config=[
            "ablations-1",
            list(spec.targets),
            list(spec.arms),
            pages.ablations.twins(spec),
            spec.pair,
            spec.confidence,
        ],
    )
