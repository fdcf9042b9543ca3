"""How good a sample set is: verdicts and sample_metrics. Neither buys anything."""

from __future__ import annotations

import os

import dagster as dg
import polars as pl

from cos_assets.assets.common import Check, Inputs, Step, asset, own, result
from cos_assets.grading import answers
from cos_assets.judging.verdicts import second_opinion
from cos_assets.judging.verdicts import verdicts as grade_samples
from cos_assets.metrics.summary import adaptive_metrics
from cos_assets.metrics.summary import sample_metrics as measure
from cos_assets.partitions import by_model
from cos_assets.study import StudySpec

GRADED = "every_answer_is_graded"


def verdicts(spec: StudySpec) -> dg.AssetsDefinition:
    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        problems = inputs["problems"].collect()
        frame = grade_samples(inputs["samples"].collect(), problems, spec.task, workers=os.cpu_count() or 1)
        counts = dict(frame["verdict"].value_counts().iter_rows())
        disagree, shown = second_opinion(frame, problems)
        facts = {
            "grader_version": answers.GRADER_VERSION,
            "extract_version": spec.task.extract_version,
            "task": spec.task.name,
            "graders_disagree": disagree,
        }
        unclear = {verdict: counts.get(verdict, 0) for verdict in ("no_answer", "grader_error")}
        facts |= {verdict: counts.get(verdict, 0) for verdict in answers.VERDICTS}
        return result(frame, facts, Check(GRADED, unclear), disagreements=dg.MetadataValue.json(shown.to_dicts()))

    return asset(
        spec,
        "verdicts",
        body,
        checks=[GRADED],
        ins={"problems": own(spec, "problems"), "samples": own(spec, "samples")},
        description="One verdict per sample: correct, wrong, no_answer, truncated or grader_error.",
        config=[
            "verdicts-2",
            answers.GRADER_VERSION,
            spec.task.name,
            spec.task.answer_kind,
            spec.task.extract_version,
        ],
        partitions=by_model(spec),
    )


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
        return result(frame, facts)

    return asset(
        spec,
        "sample_metrics",
        body,
        ins={
            "verdicts": own(spec, "verdicts"),
            **({"budget_plan": own(spec, "budget_plan")} if spec.allocation == "adaptive" else {}),
        },
        description="coverage@k and diversity@k with intervals clustered by problem, over all problems and by level.",
        config=["metrics-1", spec.confidence, *([spec.floor] if spec.allocation == "adaptive" else [])],
        partitions=by_model(spec),
    )
