"""budget_plan: the number of samples that each budget buys of each model, and their expected cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl

from cos_assets.assets.metadata import result
from cos_assets.assets.models import check_samplers, checkpoint_inputs, judge_model, prices, prices_of, sampler
from cos_assets.assets.pilot import pilot_of
from cos_assets.assets.step import Inputs, Step, asset, own
from cos_assets.assets.training_plan import planned_trainings, training_plan
from cos_assets.budget.matching import NOMINAL, Cost, Usage, flops_per_token, match_budgets, solution_cost
from cos_assets.generation import engines
from cos_assets.metrics.intervals import ratio_interval
from cos_assets.storage.schemas import TABLES
from cos_assets.study import StudySpec

# The keys of a model that the plan depends on. How the model is served affects only its samples.
_PLANNED = {"model", "checkpoint", "revision", "params", "active_params", "price"} | {
    "tokens_per_second",
    "tokens_per_solution",
    "tokens_per_prompt",
}

PLAN = TABLES["budget_plan"].schema


def budget_plan(spec: StudySpec) -> dg.AssetsDefinition:
    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        rows = inputs["problems"].filter(pl.col("split") == spec.sampling.split).collect()
        check_samplers(step, inputs)
        trainings = training_plan(step, inputs, rows)
        known = {name: _known(step, name, inputs, rows) for name in spec.models}
        costs = {name: _cost(spec, name, known[name]) for name in spec.models}
        plan = []
        for buy in match_budgets(spec.budgets, costs):
            model, price, count = known[buy.model], spec.models[buy.model].price, rows.height * buy.samples
            row = {
                "budget": buy.budget,
                "model": buy.model,
                "match": spec.match,
                "match_rule": "measured" if spec.measured else "nominal",
                "samples": buy.samples,
                "exact_samples": buy.exact_samples,
                "mismatch": buy.mismatch,
                "reference": buy.model == spec.reference_model(buy.budget),
                "params": model.params,
                "unit_cost": costs[buy.model].each,
                "fixed_cost": costs[buy.model].fixed,
                "tokens_per_solution": model.tokens[0] if model.tokens else None,
                "tokens_per_prompt": model.prompt,
                "tokens_per_second": model.tokens_per_second,
                "n_problems": rows.height,
                "completions": count,
                "currency": price.currency if price else None,
                **_spend(spec, buy.model, model, rows.height, count),
            }
            plan.append({name: row.get(name) for name in PLAN})
        frame = pl.DataFrame(plan, schema=PLAN)
        _check_sources(spec, frame)
        facts: dict[str, Any] = {
            "match": spec.match,
            "match_rule": "measured" if spec.measured else "nominal",
            "count_prefill": spec.count_prefill,
            "cap_flops": spec.cap.flops if spec.cap else None,
            "cap_cost": spec.cap.cost if spec.cap else None,
        }
        solved = rows["solution"].count()
        judging = {name: _judging(spec, name, step, inputs, frame, solved) for name in spec.judge.models}
        facts |= {"judging": judging} if judging else {}
        facts |= {"training": trainings} if trainings else {}
        return result(frame, facts, plan=dg.MetadataValue.md(_as_markdown(frame)))

    return asset(
        spec,
        "budget_plan",
        body,
        ins={
            "problems": own(spec, "problems"),
            **({"pilot": own(spec, "pilot")} if spec.pilot else {}),
            **checkpoint_inputs(*spec.models.values(), *spec.judge.models.values()),
        },
        description=f"Samples per problem of every budget and model, matched by {spec.match}, and their expected cost.",
        config=[
            "plan-3",
            spec.match,
            spec.measured,
            spec.count_prefill,
            spec.budgets,
            spec.sampling.split,
            spec.sampling.max_tokens,
            *_own_limits(spec),
            spec.confidence,
            spec.cap.model_dump(mode="json") if spec.cap else None,
            {name: model.model_dump(mode="json", include=_PLANNED) for name, model in spec.models.items()},
            *([spec.judge.model_dump(mode="json"), spec.verifiers] if spec.judge.models else []),
            *([planned_trainings(spec)] if spec.targets else []),
        ],
    )


def _own_limits(spec: StudySpec) -> list[dict[str, int]]:
    """Return the max_tokens of models that set their own."""
    own = {n: m.overrides["max_tokens"] for n, m in spec.models.items() if "max_tokens" in m.overrides}
    return [own] if own else []


@dataclass(frozen=True)
class _Known:
    """Properties of a model before its samples are bought: stated in the study, or measured in its pilot."""

    params: float | None
    tokens_per_second: float | None
    tokens: tuple[float, float | None, float | None] | None
    """(mean, low, high) of the generated tokens per solution. The limits are None where the study states the mean, and
    where the pilot has a single problem."""
    prompt: float | None
    cached: float

    @property
    def usage(self) -> Usage | None:
        return Usage(self.tokens[0], self.prompt or 0.0, self.cached) if self.tokens else None


def _known(step: Step, name: str, inputs: Inputs, problems: pl.DataFrame) -> _Known:
    spec, stated = step.spec, step.spec.models[name]
    params = stated.active_params or stated.params
    if params is None and not engines.get(stated.engine).recorded:
        params = sampler(step, name, inputs, problems).params
    tokens: tuple[float, float | None, float | None] | None = None
    prompt, cached, speed = stated.tokens_per_prompt, 0.0, stated.tokens_per_second
    if spec.pilot:
        rows = pilot_of(inputs, name).drop_nulls(["completion_tokens", "prompt_tokens"])
        if rows.height:
            by_problem = rows.group_by("problem_id", maintain_order=True).agg(
                pl.col("completion_tokens").sum(), n=pl.len()
            )
            mean = ratio_interval(by_problem["completion_tokens"], by_problem["n"], spec.confidence, bounds=None)
            single = mean.low != mean.low  # one problem gives no interval
            tokens = (mean.value, None, None) if single else (mean.value, max(mean.low, 0.0), mean.high)
            sums = {column: float(rows[column].sum()) for column in ("completion_tokens", "prompt_tokens", "seconds")}
            cached = float(rows["cached_tokens"].sum()) / rows.height
            prompt = prompt or sums["prompt_tokens"] / rows.height
            speed = speed or (sums["completion_tokens"] / sums["seconds"] if sums["seconds"] else None)
    if stated.tokens_per_solution:
        tokens = stated.tokens_per_solution, None, None
    if spec.measured and (tokens is None or (spec.count_prefill and prompt is None)):
        raise ValueError(
            f"models.{name}: match_rule: measured needs counted tokens, and the pilot has none;"
            " give tokens_per_solution and tokens_per_prompt"
        )
    return _Known(params, speed, tokens, prompt, min(cached, prompt or 0.0))


def _cost(spec: StudySpec, name: str, known: _Known) -> Cost:
    """Return the cost of a model's solutions in the matched quantity, by the study's match rule."""
    try:
        return solution_cost(
            spec.match,
            known.usage if spec.measured and known.usage else NOMINAL,
            params=known.params,
            prices=prices(spec, name),
            tokens_per_second=known.tokens_per_second,
            count_prefill=spec.count_prefill and spec.measured,
        )
    except ValueError as error:
        raise ValueError(f"models.{name}: {error}") from None


def _spend(spec: StudySpec, name: str, known: _Known, problems: int, count: int) -> dict[str, Any]:
    """Return the spend of `count` completions as columns of the plan.

    `*_ceiling` is the maximum, with `max_tokens` per completion. `*_expected` uses the mean tokens. `*_low` and
    `*_high` are the limits of its interval, where a pilot gives one.
    """
    price, prompt = prices(spec, name), known.prompt or 0.0
    prefill = prompt * problems if spec.count_prefill else 0.0
    limit = float(spec.sampling_of(name).max_tokens)
    sizes: dict[str, float | None] = {"ceiling": limit}
    if known.tokens:
        mean, low, high = known.tokens
        sizes |= {"expected": mean, "low": low, "high": None if high is None else min(high, limit)}
    found: dict[str, Any] = {}
    for label, size in sizes.items():
        if size is not None:
            tokens = size * count
            found[f"tokens_{label}"] = round(tokens) if label == "ceiling" else tokens
            if known.params:
                found[f"flops_{label}"] = flops_per_token(known.params) * (tokens + prefill)
            if price:
                found[f"cost_{label}"] = price.of(prompt * count, tokens, known.cached * count)
    if known.tokens and known.tokens_per_second:
        found["seconds_expected"] = known.tokens[0] * count / known.tokens_per_second
    return found


def _judging(spec: StudySpec, name: str, step: Step, inputs: Inputs, plan: pl.DataFrame, solved: int) -> dict[str, Any]:
    """Return the maximum spend of a judge model, without its prompt tokens.

    `solved` is the number of problems with a reference solution. The judge reads the correct samples (all of them, or
    the number that is drawn) and the controls: wrong samples and reference solutions. Budgets share samples, so at most
    the samples of the largest budget are judged per sampler.
    """
    judge = spec.judge.models[name]
    limit = None if name in spec.verifiers else spec.judge.count
    samples = 0
    for _, bought in plan.group_by("model"):
        sizes = bought["completions"].to_list()
        drawn = [size if limit is None else min(limit + spec.judge.controls, size) for size in sizes]
        samples += min(sum(drawn), max(sizes))
    references = min(spec.judge.controls, solved)
    tokens, price = (samples + references) * judge.max_tokens, prices_of(judge)
    params = judge.active_params or judge.params
    if params is None and engines.get(judge.engine).local:
        params = judge_model(step, name, inputs).params
    return {
        "judgements": samples,
        "reference_solutions": references,
        "tokens": tokens,
        "flops": flops_per_token(params) * tokens if params else None,
        "cost": price.of(0.0, tokens, 0.0) if price else None,
        "currency": judge.price.currency if judge.price else None,
    }


def _check_sources(spec: StudySpec, plan: pl.DataFrame) -> None:
    """Check that no source asks for more samples than its budget buys, or for more problems than are sampled.

    Raises ValueError, before anything is bought.
    """
    sampled = plan["n_problems"][0]
    for name, source in spec.arms.items():
        if (source.problems or 0) > sampled:
            raise ValueError(
                f"sources.{name}.problems: {source.problems} is more than the {sampled} problems that are sampled;"
                f" allowed: 1 to {sampled}"
            )
        for model, wanted in (source.samples or {}).items():
            for budget, bought in plan.filter(pl.col("model") == model).select("budget", "samples").iter_rows():
                if wanted > bought:
                    raise ValueError(
                        f"sources.{name}.samples.{model}: {wanted} is more than budget {budget!r} buys;"
                        f" allowed: 1 to {bought}"
                    )


def _as_markdown(plan: pl.DataFrame) -> str:
    lines = ["| budget | model | samples per problem | completions | off by |", "|---|---|---|---|---|"]
    for row in plan.iter_rows(named=True):
        lines.append(
            f"| {row['budget']} | {row['model']} | {row['samples']} | {row['completions']:,} | {row['mismatch']:+.1%} |"
        )
    return "\n".join(lines)
