"""samples: raw completions of one model at one budget, exactly as bought."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import dagster as dg
import polars as pl

from cos_assets.assets.few_shot import examples, few_shot_prompts
from cos_assets.assets.metadata import result, sketch
from cos_assets.assets.models import checkpoint_inputs, prices, sampler
from cos_assets.assets.step import Inputs, Step, asset, own
from cos_assets.budget.allocation import ROUNDS, allocate
from cos_assets.generation import compute, engines
from cos_assets.generation.generate import Bought, Look, generate
from cos_assets.generation.types import Model
from cos_assets.grading.cores import usable_cores
from cos_assets.judging.readable import first_look, truncated_in_reasoning
from cos_assets.judging.verdicts import verdicts
from cos_assets.metrics.prediction import fits
from cos_assets.metrics.richness import fit_novelty
from cos_assets.orchestration import checks
from cos_assets.orchestration.checks import Check
from cos_assets.orchestration.partitions import by_model
from cos_assets.orchestration.pools import pool_of
from cos_assets.report import partition_figures
from cos_assets.study import StudySpec


def samples(spec: StudySpec) -> dg.AssetsDefinition:
    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        name = step.partition["model"]
        problems = inputs["problems"].collect()
        plan = inputs["budget_plan"].filter(pl.col("budget") == step.budget, pl.col("model") == name).collect()
        asked = problems.filter(pl.col("split") == spec.sampling.split)
        model = sampler(step, name, inputs, asked)
        own = spec.sampling_of(name)
        sampling = own.parameters(spec.seed, spec.task.stops(spec.models[name].chat))
        count, texts = plan["samples"].item(), prompts(spec, problems, name)

        def buy(wanted: pl.DataFrame) -> Bought:
            look = look_of(spec, name, model)
            return generate(model, wanted, count, sampling, step.buyer("sampling", name), prices(spec, name), look)

        bought = _adaptively(spec, texts, count, asked, buy) if spec.allocation == "adaptive" else buy(texts)
        rows = bought.rows
        reasons = dict(rows["finish_reason"].value_counts().iter_rows())
        facts = {
            "model_id": model.model_id,
            "revision": model.revision,
            "fingerprint": model.fingerprint,
            "engine": model.engine,
            "arithmetic": compute.described(model),
            "prompt_version": spec.task.asked_version(spec.models[name].chat, own.shots),
            "samples_per_problem": count,
            "allocation": spec.allocation,
            "bought_now": bought.new,
            "from_the_ledger": rows.height - bought.new,
            "not_to_be_had": bought.missing,
            "truncated": reasons.get("length", 0),
            "truncated_in_reasoning": truncated_in_reasoning(rows),
            "failed": reasons.get("error", 0),
            "completion_tokens": int(rows["completion_tokens"].sum()),
            "reasoning_tokens": rows["reasoning_tokens"].sum() if rows["reasoning_tokens"].count() else None,
            "mean_tokens": rows["completion_tokens"].mean(),
            "flops": float(rows["flops"].sum()),
            "cost": float(rows["cost"].sum()) if rows["cost"].null_count() < rows.height else None,
            "seconds": round(bought.seconds, 3),
        }
        # Truncated solutions are paid for and count as wrong, failed ones are retried, missing ones were never made.
        doubtful = {name: int(facts[name] or 0) for name in ("not_to_be_had", "truncated", "failed")}
        return result(
            rows,
            facts,
            Check(checks.COMPLETE, doubtful),
            checks.short(rows),
            checks.numbered(rows),
            checks.varied(rows, sampling.temperature),
            figure=sketch(partition_figures.lengths, "completions by tokens", rows.drop_nulls("completion_tokens")),
        )

    return asset(
        spec,
        "samples",
        body,
        checks=[checks.COMPLETE, checks.SHORT, checks.NUMBERED, checks.VARIED],
        ins={
            "problems": own(spec, "problems"),
            "budget_plan": own(spec, "budget_plan"),
            **checkpoint_inputs(*spec.models.values()),
        },
        description="Raw completions, exactly as bought and never edited.",
        config=[
            "samples-1",
            sampler_prompts(spec),
            spec.sampling.model_dump(mode="json"),
            spec.task.stop,
            spec.seed,
            [spec.allocation, spec.floor, spec.task.reading] if spec.allocation == "adaptive" else None,
            {name: model.model_dump(mode="json") for name, model in spec.models.items()},
        ],
        partitions=by_model(spec),
        pool=pool_of(spec.models.values()),
    )


def _adaptively(
    spec: StudySpec, texts: pl.DataFrame, count: int, problems: pl.DataFrame, buy: Callable[[pl.DataFrame], Bought]
) -> Bought:
    """Buy as many samples in total as `count` per problem would be, allocated adaptively.

    Every problem first gets the number of the pilot (`StudySpec.floor`). The rest is bought in rounds, for the problems
    where further samples are worth most by the verdicts so far. The rounds depend on the samples alone, so a killed run
    resumes with the same rounds.
    """
    started, new = time.perf_counter(), 0
    wanted = texts.with_columns(samples=pl.lit(min(spec.floor, count), pl.Int64))
    for left in range(ROUNDS, -1, -1):
        bought = buy(wanted)
        new += bought.new
        rest = count * texts.height - int(wanted["samples"].sum())
        if not left or rest <= 0:
            break
        made = bought.rows.filter(pl.col("finish_reason") != "error")
        graded = verdicts(made, problems, spec.task, workers=usable_cores())
        counts = graded.group_by("problem_id").agg(
            n=pl.len(), c=pl.col("correct").sum(), j=pl.col("equations_key").drop_nulls().n_unique()
        )
        counts = (
            texts.select("problem_id").join(counts, on="problem_id", how="left", maintain_order="left").fill_null(0)
        )
        novelty = fit_novelty(graded.select("problem_id", "sample_index", "correct", "equations_key"), "equations_key")
        more = allocate(counts, fits(counts.select("problem_id", "n", "c")), novelty, -(-rest // left))
        wanted = wanted.join(more, on="problem_id", maintain_order="left").select(
            "problem_id", "prompt", samples=pl.col("samples") + pl.col("more")
        )
    return replace(bought, new=new, seconds=time.perf_counter() - started)


def look_of(spec: StudySpec, name: str, model: Model) -> Look | None:
    """Return the check that stops sampling where the first solutions of a sampler cannot be read.

    None with `sampling.unreadable: continue`, and for recorded solutions.
    """
    if spec.sampling.unreadable == "continue" or engines.get(model.engine).recorded:
        return None
    return first_look(spec.task, f"sampling with {name}", "sampling", spec.sampling_of(name).max_tokens)


def sampler_prompts(spec: StudySpec) -> str | dict[str, str]:
    """Return the prompt version of each sampler; a single string where all samplers get the task's default prompt."""
    versions = {name: spec.task.asked_version(m.chat, spec.sampling_of(name).shots) for name, m in spec.models.items()}
    return versions if set(versions.values()) != {spec.task.prompt_version} else spec.task.prompt_version


def prompts(spec: StudySpec, problems: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return the prompts [problem_id, prompt] of a sampler for the sampled split, with its few-shot examples."""
    asked = problems.filter(pl.col("split") == spec.sampling.split)
    shots = spec.sampling_of(name).shots
    drawn = examples(spec.task, problems, shots, spec.seed)
    return few_shot_prompts(spec.task, asked, drawn, shots, spec.models[name].chat)
