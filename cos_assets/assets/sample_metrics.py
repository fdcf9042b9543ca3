"""sample_metrics: coverage and diversity of a sample set."""

from __future__ import annotations

import dagster as dg
import polars as pl

from cos_assets.assets.metadata import result, sketch
from cos_assets.assets.step import Inputs, Step, asset, own
from cos_assets.metrics.summary import adaptive_metrics, registered_versions
from cos_assets.metrics.summary import sample_metrics as measure
from cos_assets.orchestration import checks
from cos_assets.orchestration.partitions import by_model
from cos_assets.report import partition_figures
from cos_assets.study import StudySpec


def sample_metrics(spec: StudySpec) -> dg.AssetsDefinition:
    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        graded = inputs["verdicts"].collect()
        if spec.allocation == "adaptive":
            mine = {"budget": step.budget, "model": step.partition["model"]}
            count = inputs["budget_plan"].filter(**mine).collect()["samples"].item()
            frame = adaptive_metrics(graded, min(spec.floor, count), count, spec.confidence)
        else:
            frame = measure(graded, spec.confidence)
        facts = {}
        overall = frame.filter(pl.col("level").is_null())
        for metric, distinct, denominator, label in (
            ("coverage", None, None, "coverage"),
            ("diversity", "equations", "all", "diversity"),
        ):
            rows = overall.filter(
                pl.col("metric") == metric,
                pl.col("distinct").eq_missing(distinct),
                pl.col("denominator").eq_missing(denominator),
                pl.col("n_problems") > 0,
            )
            if rows.height:
                last = rows.row(-1, named=True)
                facts[f"{label}_at_{last['k']}"] = last["value"]
        return result(
            frame,
            facts,
            checks.curved(frame),
            figure=sketch(partition_figures.curve, "coverage over samples per problem", frame),
        )

    return asset(
        spec,
        "sample_metrics",
        body,
        checks=[checks.CURVED],
        ins={
            "verdicts": own(spec, "verdicts"),
            **({"budget_plan": own(spec, "budget_plan")} if spec.allocation == "adaptive" else {}),
        },
        description="coverage@k and diversity@k with intervals clustered by problem, over all problems and by level.",
        config=[
            "metrics-1",
            spec.confidence,
            *([spec.floor] if spec.allocation == "adaptive" else []),
            *registered_versions(),
        ],
        partitions=by_model(spec),
    )
