"""judgements: labels of the reasoning of samples, by every judge of the study. Judge models are called through
`generate`, like all models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from cos_assets.assets.metadata import result, sketch
from cos_assets.assets.models import checkpoint_inputs, judge_model, prices_of
from cos_assets.assets.step import Inputs, Step, asset, own
from cos_assets.generation.types import Sampling
from cos_assets.judging import methods
from cos_assets.judging.controls import controls_of, draw_controls
from cos_assets.judging.rates import JudgeRate, cannot_tell, rate_of
from cos_assets.judging.table import UNTOLD, draw, of_judge
from cos_assets.metrics.intervals import Interval
from cos_assets.orchestration.checks import READ, TELLING, Check
from cos_assets.orchestration.partitions import by_model
from cos_assets.orchestration.pools import pool_of
from cos_assets.report import partition_figures
from cos_assets.study import StudySpec


def judgements(spec: StudySpec) -> dg.AssetsDefinition:
    judges = spec.judge.all
    # `verification: judge` must not use gold answers: its judges do not see them, and judge wrong samples as well.
    blind_judges = spec.verifiers_of("judge") if "judge" in spec.verifications.values() else ()

    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        keys = ["problem_id", "sample_index"]
        answers = inputs["verdicts"].select(*keys, "verdict", "correct").collect()
        samples = inputs["samples"].select(*keys, "completion", "reasoning", "finish_reason").collect()
        # Truncated and failed samples verify under no rule, so no judge is paid to read them.
        whole = samples.filter(pl.col("finish_reason") == "stop").join(answers, on=keys, maintain_order="left")
        problems = inputs["problems"].collect()
        asked = problems.filter(pl.col("split") == spec.sampling.split)
        seen = {"reply": whole, "both": with_reasoning(whole)}
        controls = {reads: draw_controls(rows, asked, spec.judge.controls, spec.seed) for reads, rows in seen.items()}
        made: dict[str, pl.DataFrame] = {}
        new = 0
        for name, judge in sorted(judges.items(), key=lambda item: item[1].implementation.votes):
            verifies = name in spec.verifiers
            blind = name in blind_judges
            read = seen[judge.reads]
            pool = read if blind else read.filter("correct")
            drawn = draw(pool, None if verifies else spec.judge.count, spec.seed)
            rows = pl.concat([drawn, controls[judge.reads]], how="diagonal")
            call: methods.ModelCall | None = None
            if judge.implementation.asks_model:
                own = {"temperature": judge.temperature, "max_tokens": judge.max_tokens, **judge.overrides}
                sampling = Sampling(seed=spec.seed, **own)
                model, buyer = judge_model(step, name, inputs), step.buyer("judging", name)
                call = methods.ModelCall(model, sampling, buyer, prices_of(judge))
            members = {member: made[member] for member in judge.of or ()}
            context = methods.Context(name, spec.task, problems, blind, members, call)
            made[name], bought = judge.implementation.judge(rows, context)
            new += bought
        frame = pl.concat([made[name] for name in judges])
        samples_read = frame.filter(pl.col("control").is_null())
        untold = {label: int((samples_read["label"] == label).sum()) for label in UNTOLD}
        of_model = frame.with_columns(model=pl.lit(step.partition["model"]))
        rates = {name: rate_of(of_judge(frame, name), controls_of(of_model, name), spec.confidence) for name in judges}
        facts: dict[str, Any] = {
            "judge": spec.judge.first,
            "judge_version": made[spec.judge.first]["judge_version"].first(),
            "confidence": spec.confidence,
            "judged": samples_read.filter(judge=spec.judge.first).height,
            **untold,
        }
        for name, found in rates.items():
            facts |= rate_facts(found, "" if name == spec.judge.first else f"_by_{name}")
        if spec.judge.models:
            facts["bought_now"] = new
            for name in ("flops", "cost"):  # None where unknown, not 0
                facts[name] = frame[name].sum() if frame[name].null_count() < frame.height else None
        telling = _telling(spec, rates)
        if not telling.passed:
            step.log.warning(f"{telling.sentence}\n{telling.examples}")
        shown = {name: tuple(known) for name, found in rates.items() if (known := _limits(found.rate))[0] is not None}
        title = "false positive rate by judge"
        return result(
            frame, facts, Check(READ, untold), telling, figure=sketch(partition_figures.intervals, title, shown, title)
        )

    return asset(
        spec,
        "judgements",
        body,
        checks=[READ, TELLING],
        ins={
            **{name: own(spec, name) for name in ("problems", "samples", "verdicts")},
            **checkpoint_inputs(*spec.judge.models.values()),
        },
        description="Judgements of the reasoning in samples, from which the false positive rate is computed.",
        config=[
            "judgements-3",
            *_versions(spec),
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


def with_reasoning(samples: pl.DataFrame) -> pl.DataFrame:
    """Put the reasoning of samples in front of the reply, as text that a judge reads."""
    both = pl.concat_str("reasoning", "completion", separator="\n\n").str.strip_chars()
    return samples.with_columns(completion=pl.when(pl.col("reasoning").is_null()).then("completion").otherwise(both))


def _versions(spec: StudySpec) -> list[Any]:
    """Return the versions of the judge methods for the code version of the asset.

    The versions of the built-in methods have fixed places, so that judgements stored by earlier releases stay up to
    date. A registered method adds its own.
    """
    steps, llm, vote = (methods.get(name).version for name in methods.BUILT_IN)
    several = [llm, vote] if spec.judge.judges or spec.judge.models else None
    registered = sorted({judge.kind for judge in spec.judge.all.values()} - set(methods.BUILT_IN))
    return [steps, several, *([name, methods.get(name).version] for name in registered)]


def rate_facts(found: JudgeRate, by: str) -> dict[str, Any]:
    """Return the metadata of one judge. `by` is a suffix of the keys. The view `judges` reads them from the lineage."""
    errors = found.controls
    facts: dict[str, Any] = {f"no_false_positive_rate{by}": found.why_none, f"readable_share{by}": found.readable}
    for name, interval in (
        ("false_positive_rate", found.rate),
        ("control_false_alarms", errors.false_alarms.rate),
        ("control_recall", errors.recall.rate),
        ("corrected_by_controls", found.corrected),
    ):
        for end, value in zip(("", "_low", "_high"), _limits(interval), strict=True):
            facts[f"{name}{by}{end}"] = value
    return facts | {
        f"control_reference_solutions{by}": errors.false_alarms.read + errors.false_alarms.unread,
        f"control_wrong_answers{by}": errors.recall.read + errors.recall.unread,
        f"control_unread{by}": errors.unread,
    }


def _limits(interval: Interval | None) -> list[float | None]:
    """Return the value and its limits, each None where it is unknown."""
    return [None] * 3 if interval is None else [None if math.isnan(end) else end for end in interval[:3]]


def _telling(spec: StudySpec, rates: Mapping[str, JudgeRate]) -> Check:
    """Check that every judge with controls tells right from wrong. The counts are the rates of judges that do not."""
    counts: dict[str, float] = {}
    lines = []
    for name, found in rates.items():
        if why := cannot_tell(found.controls):
            counts[f"{name}: recall"] = found.controls.recall.rate.value
            counts[f"{name}: false alarms"] = found.controls.false_alarms.rate.value
            lines.append(f"- {name}: {why}")
            if name in spec.verifiers:
                lines.append(f"  **{name} selects the training data** (verification). Use another judge.")
    return Check(TELLING, counts, "\n".join(lines) or None, kept=not lines)
