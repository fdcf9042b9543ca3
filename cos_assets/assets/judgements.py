"""judgements: is the reasoning of samples right? By every judge of the study; models are asked through the one door."""

from __future__ import annotations

from typing import Any

import dagster as dg
import polars as pl

from cos_assets.assets.checks import READ, Check
from cos_assets.assets.common import (
    Inputs,
    Step,
    asset,
    checkpoint_inputs,
    judge_model,
    own,
    prices_of,
    result,
    single_thread_torch,
    sketch,
)
from cos_assets.generation.types import Sampling
from cos_assets.judging import llm, vote
from cos_assets.judging import steps as step_judge
from cos_assets.judging.table import UNTOLD, draw, of_judge
from cos_assets.metrics.false_positives import false_positive_rate
from cos_assets.partitions import by_model
from cos_assets.pools import pool_of
from cos_assets.report import sketches
from cos_assets.study import StudySpec


def judgements(spec: StudySpec) -> dg.AssetsDefinition:
    judges = spec.judge.all
    # verification: judge knows no answers: who is asked for it sees none, and judges wrong ones too.
    blind_judges = spec.verifiers_of("judge") if "judge" in spec.verifications.values() else ()

    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        keys = ["problem_id", "sample_index"]
        answers = inputs["verdicts"].select(*keys, "correct").collect()
        samples = inputs["samples"].select(*keys, "completion", "finish_reason").collect()
        # What was cut off or failed is no solution, and verifies in no way: nobody is paid to say so.
        whole = samples.filter(pl.col("finish_reason") == "stop").join(answers, on=keys, maintain_order="left")
        problems = inputs["problems"].collect()
        made: dict[str, pl.DataFrame] = {}
        new = 0
        for name, judge in sorted(judges.items(), key=lambda item: item[1].kind == "vote"):
            verifies = name in spec.verifiers
            blind = name in blind_judges
            pool = whole if blind else whole.filter("correct")
            rows = draw(pool, None if verifies else spec.judge.count, spec.seed)
            if judge.kind == "steps":
                made[name] = step_judge.judge(rows, problems, spec.task, name)
            elif judge.kind == "vote":
                made[name] = vote.judge(rows, {member: made[member] for member in judge.of or ()}, name)
            else:
                sampling = Sampling(temperature=judge.temperature, max_tokens=judge.max_tokens, seed=spec.seed)
                model, buyer = judge_model(step, name, inputs), step.buyer("judging", name)
                with single_thread_torch():
                    made[name], bought = llm.judge(
                        rows, problems, model, sampling, buyer, prices_of(judge), not blind, name
                    )
                new += bought
        frame = pl.concat([made[name] for name in judges])
        untold = {label: int((frame["label"] == label).sum()) for label in UNTOLD}
        facts: dict[str, Any] = {
            "judge": spec.judge.first,
            "judge_version": made[spec.judge.first]["judge_version"].first(),
            "judged": made[spec.judge.first].height,
            **untold,
            **_rates(spec, frame),
        }
        if spec.judge.models:
            facts["bought_now"] = new
            for name in ("flops", "cost"):  # unknown is not nothing
                facts[name] = frame[name].sum() if frame[name].null_count() < frame.height else None
        rates = {
            name: (value, facts[f"{key}_low"], facts[f"{key}_high"])
            for name in judges
            if (value := facts[key := _rate_name(spec, name)]) is not None
        }
        title = "false positive rate by judge"
        return result(frame, facts, Check(READ, untold), figure=sketch(sketches.intervals, title, rates, title))

    return asset(
        spec,
        "judgements",
        body,
        checks=[READ],
        ins={
            **{name: own(spec, name) for name in ("problems", "samples", "verdicts")},
            **checkpoint_inputs(*spec.judge.models.values()),
        },
        description="Is the reasoning of samples right? The false positive rate comes from here.",
        config=[
            "judgements-2",
            step_judge.JUDGE_VERSION,
            [llm.PROMPT_VERSION, vote.JUDGE_VERSION] if spec.judge.judges or spec.judge.models else None,
            spec.judge.model_dump(mode="json"),
            spec.judge.count,
            spec.verifiers,
            bool(blind_judges),
            spec.seed,
            spec.task.name,
        ],
        partitions=by_model(spec),
        pool=pool_of(spec.judge.models.values()),
    )


def _rates(spec: StudySpec, frame: pl.DataFrame) -> dict[str, Any]:
    """The false positive rate by each judge; that of the first one has no name behind it."""
    facts = {}
    for name in spec.judge.all:
        rate = false_positive_rate(of_judge(frame, name), spec.confidence)
        key = _rate_name(spec, name)
        facts[key] = rate.value if rate.n > 0 else None
        facts[f"{key}_low"] = rate.low if rate.n > 1 else None
        facts[f"{key}_high"] = rate.high if rate.n > 1 else None
    return facts


def _rate_name(spec: StudySpec, judge: str) -> str:
    return "false_positive_rate" + ("" if judge == spec.judge.first else f"_by_{judge}")
