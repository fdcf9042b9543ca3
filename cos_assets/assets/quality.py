"""How good a sample set is: verdicts and sample_metrics. Neither buys anything."""

from __future__ import annotations

import dagster as dg
import polars as pl

from cos_assets.assets import checks
from cos_assets.assets.checks import Check
from cos_assets.assets.common import Inputs, Step, asset, own, result, sketch
from cos_assets.cores import usable_cores
from cos_assets.grading import answers
from cos_assets.judging.readable import unread
from cos_assets.judging.verdicts import second_opinion, verdict_counts
from cos_assets.judging.verdicts import verdicts as grade_samples
from cos_assets.metrics.summary import adaptive_metrics
from cos_assets.metrics.summary import sample_metrics as measure
from cos_assets.partitions import by_model
from cos_assets.report import sketches
from cos_assets.study import StudySpec


def verdicts(spec: StudySpec) -> dg.AssetsDefinition:
    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        problems = inputs["problems"].collect()
        samples = inputs["samples"].collect()
        frame = grade_samples(samples, problems, spec.task, workers=usable_cores())
        counts = verdict_counts(frame)
        disagree, shown = second_opinion(frame, problems)
        facts = {
            "grader_version": answers.GRADER_VERSION,
            "extract_version": spec.task.extract_version,
            "extract": spec.task.extract,
            "task": spec.task.name,
            "graders_disagree": disagree,
        }
        unclear = {verdict: counts[verdict] for verdict in ("no_answer", "grader_error")}
        facts |= counts
        # Instructions are checked in truncated replies, too: these have a verdict, and are counted all the same.
        facts["truncated"] = int((samples["finish_reason"] == "length").sum())
        left = unread(samples.with_columns(frame["answer"]), problems, spec.task, workers=usable_cores())
        facts |= {
            "unread": left.unread,
            "complete": left.complete,
            "flexible_would_read": left.lenient_read,
            "flexible_would_be_right": left.lenient_correct,
        }
        return result(
            frame,
            facts,
            Check(checks.GRADED, unclear),
            checks.gradable(frame),
            checks.readable([left]),
            checks.added_up(samples, frame, spec.task.answer_kind is not None),
            disagreements=dg.MetadataValue.json(shown.to_dicts()),
            figure=sketch(sketches.counts, "samples by verdict", counts, "samples by verdict", answers.VERDICTS[1:]),
        )

    return asset(
        spec,
        "verdicts",
        body,
        checks=[checks.GRADED, checks.GRADABLE, checks.READABLE, checks.ADDED_UP],
        ins={"problems": own(spec, "problems"), "samples": own(spec, "samples")},
        description="One verdict per sample: correct, wrong, no_answer, truncated or grader_error.",
        config=[
            "verdicts-3",
            answers.GRADER_VERSION,
            spec.task.name,
            spec.task.answer_kind,
            spec.task.reading,
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
        return result(
            frame,
            facts,
            checks.curved(frame),
            figure=sketch(sketches.curve, "coverage over samples per problem", frame),
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
        config=["metrics-1", spec.confidence, *([spec.floor] if spec.allocation == "adaptive" else [])],
        partitions=by_model(spec),
    )
