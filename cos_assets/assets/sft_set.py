"""sft_set: the rows that a model is finetuned on, selected by the rule of the data source."""

from __future__ import annotations

import dagster as dg
import polars as pl

from cos_assets.assets.benchmarks import problem_inputs
from cos_assets.assets.metadata import result, sketch
from cos_assets.assets.step import Inputs, Step, asset, own
from cos_assets.orchestration.checks import FILLED, UNSEEN, Check
from cos_assets.orchestration.partitions import by_source, models_of_source
from cos_assets.report import partition_figures
from cos_assets.study import StudySpec
from cos_assets.training.contamination import DIRTY, overlaps
from cos_assets.training.sft_sets import reference_set, sft_set


def sft(spec: StudySpec) -> dg.AssetsDefinition:
    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        source = spec.arms[step.partition["source"]]
        problems = inputs["problems"].filter(pl.col("split") == spec.sampling.split).collect()
        if source.reference_solutions:
            frame, facts = reference_set(source, spec.task, problems, spec.seed)
        else:
            way = source.verification or spec.verification
            plan = inputs["budget_plan"].filter(pl.col("budget") == step.budget).collect()
            frame, facts = sft_set(
                source,
                way,
                dict(plan.select("model", "samples").iter_rows()),
                inputs["samples"].collect(),
                inputs["verdicts"].collect(),
                inputs["judgements"].collect(),
                problems,
                spec.task,
                spec.seed,
                spec.verifiers_of(way),
            )
            facts = {"verification": way, **facts}
        lacking = {"empty": frame.is_empty()} | ({"missing": source.rows - frame.height} if source.rows else {})
        figure = sketch(partition_figures.per_problem, "problems by number of training rows", frame, problems.height)
        return result(frame, facts, Check(FILLED, lacking), _unseen(spec, frame, inputs), figure=figure)

    bought = models_of_source(spec)
    own_ways = {name: (way, spec.verifiers_of(way)) for name, s in spec.sources.items() if (way := s.verification)}
    return asset(
        spec,
        "sft_set",
        body,
        checks=[FILLED, UNSEEN],
        ins={
            **problem_inputs(spec),
            "budget_plan": own(spec, "budget_plan"),
            **{name: own(spec, name, bought) for name in ("samples", "verdicts", "judgements")},
        },
        description="Prompt and completion rows for finetuning: the samples that pass the source's verification.",
        config=[
            "sft-2",
            spec.verification,
            spec.verifiers_of(spec.verification),
            {name: source.model_dump(mode="json", exclude={"verification"}) for name, source in spec.arms.items()},
            spec.task.prompt_version,
            spec.seed,
            *([own_ways] if own_ways else []),
            *([spec.evaluation.split] if spec.evaluation.split != "test" else []),  # test keeps stored versions
        ],
        partitions=by_source(spec),
    )


def _unseen(spec: StudySpec, rows: pl.DataFrame, inputs: Inputs) -> Check:
    """Check that the set contains no problem that models are scored on, or that checkpoints are chosen by."""
    problems = inputs["problems"].collect()
    splits = {"validation", spec.evaluation.split} - {spec.sampling.split}
    scored = problems.filter(pl.col("split").is_in(list(splits)))
    if "benchmark_problems" in inputs:
        scored = pl.concat([scored, inputs["benchmark_problems"].collect()], how="diagonal")
    pairs = overlaps(rows, problems, scored)
    known = pairs.filter(pl.col("share") >= DIRTY)
    lines = ["| trained on | where | scored on | share of its words | shared words |", "|---|---|---|---|---|"]
    lines += ["| {} | {} | {} | {:.0%} | {} |".format(*pair) for pair in pairs.head(5).iter_rows()]
    return Check(UNSEEN, {"scored_problems_known": known["scored_id"].n_unique()}, "\n".join(lines))
