"""prediction: the expected results of different ways to spend each budget, and the recommended way."""

from __future__ import annotations

import dagster as dg
import polars as pl

from cos_assets.assets.metadata import result
from cos_assets.assets.pilot import pilot_of
from cos_assets.assets.step import Inputs, Step, asset, own
from cos_assets.budget import strategies
from cos_assets.budget.matching import Cost
from cos_assets.study import StudySpec

CONFIDENCE = 0.9


def prediction(spec: StudySpec) -> dg.AssetsDefinition:
    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        plan = inputs["budget_plan"].collect()
        costs = {
            name: Cost(each, fixed)
            for name, each, fixed in plan.unique("model").select("model", "unit_cost", "fixed_cost").iter_rows()
        }
        pilots = {}
        for name in spec.models:
            rows = pilot_of(inputs, name).filter(pl.col("finish_reason") != "error")
            try:
                pilots[name] = strategies.Pilot.of(rows, costs[name])
            except ValueError as error:
                raise ValueError(f"pilot of {name!r}: {error}") from None
        mixes = {name: arm.take for name, arm in spec.sources.items() if arm.take and not arm.problems}
        frame = strategies.ways(spec.budgets, pilots, mixes, plan["n_problems"][0], CONFIDENCE)
        sentences = strategies.recommendations(frame, CONFIDENCE)
        facts = {f"recommendation_{at}": text for at, text in enumerate(sentences, 1)}
        return result(frame, facts, recommendation=dg.MetadataValue.md("\n".join(f"- {text}" for text in sentences)))

    return asset(
        spec,
        "prediction",
        body,
        ins={"pilot": own(spec, "pilot"), "budget_plan": own(spec, "budget_plan")},
        description="Predicted numbers of solved problems and of solutions for each way to spend a budget.",
        config=[
            "prediction-1",
            spec.budgets,
            {name: arm.model_dump(mode="json") for name, arm in spec.sources.items()},
        ],
    )
