"""Comparison of the weak-cheap model's data with the strong-expensive model's: paired differences and verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from cos_assets.judging.table import of_judge
from cos_assets.metrics.coverage import count_correct, coverage, solved_curve
from cos_assets.metrics.differences import better, crossed_difference, paired_difference, paired_ratio_difference
from cos_assets.metrics.diversity import diversity, diversity_curve
from cos_assets.metrics.evaluated import by_problem_and_seed, pooled
from cos_assets.metrics.false_positives import false_positive_sums
from cos_assets.metrics.intervals import SHARE, Interval, crossed_interval, mean_interval
from cos_assets.metrics.summary import KEYS
from cos_assets.report import judges
from cos_assets.report.tables import Tables, complete
from cos_assets.storage.schemas import TABLES
from cos_assets.study import StudySpec

ALL_TARGETS = "all"
SCHEMA = TABLES["report"].schema
_SCORED = ["problem_id", "seed", "value"]
LESS_IS_BETTER = frozenset({"false_positive_rate"})


@dataclass(frozen=True)
class Verdict:
    """The data that was the better buy at one budget: the name of a sampler, or "cannot tell"."""

    budget: str
    better: str
    sentence: str


def comparisons(spec: StudySpec, tables: Tables) -> pl.DataFrame:
    """Return one row per budget and metric (and target), in the schema `SCHEMA`: both sides and weak − strong,
    paired.

    The metrics are coverage, diversity (distinct equations per problem) and diversity_exact (distinct texts), each of
    all samples that the budget bought; false_positive_rate, if the first judge gives one for both sides; and accuracy
    on each benchmark, for each target finetuned on the two models' data and for their mean per problem (target
    "all"). The mean on the first benchmark decides the verdict of a budget.

    Pairs are problems that both sides have; n_problems is their number. Missing data gives no rows, and neither does
    a study with one sampler.
    """
    pair, tables = spec.pair, complete(tables)
    if pair is None:
        return SCHEMA.to_frame()
    rows: list[dict[str, Any]] = []
    for budget in spec.budgets:
        rows += _of_samples(spec, tables, budget, pair)
        for benchmark in spec.benchmarks:
            rows += of_models(spec, tables, budget, pair, benchmark)
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def verdicts(spec: StudySpec, plan: pl.DataFrame, compared: pl.DataFrame) -> list[Verdict]:
    """Return the verdict for each budget, from the mean accuracy over all targets, or from coverage if there is no
    such accuracy."""
    found = []
    for budget in spec.budgets:
        rows = compared.filter(pl.col("budget") == budget)
        scored = rows.filter(metric="accuracy", benchmark=next(iter(spec.benchmarks)))
        wanted = scored.filter(pl.col("target") == ALL_TARGETS)
        if wanted.is_empty():
            wanted = rows.filter(pl.col("metric") == "coverage")
        if not wanted.is_empty():
            finished = scored.filter(pl.col("target") != ALL_TARGETS).height
            found.append(_verdict(spec, plan, wanted.row(0, named=True), finished))
    return found


def accuracies(spec: StudySpec, tables: Tables) -> pl.DataFrame:
    """Return pass@1 with its interval for every [budget, source, target, benchmark].

    The budget is null for untouched models. Limits are NaN if only one problem was answered.
    """
    keys, tables = ["budget", "source", "target", "benchmark"], complete(tables)
    rows = [tables[name] for name in ("base_eval", "evals") if tables[name].height]
    schema = dict.fromkeys(keys, pl.String) | {
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "n_problems": pl.Int64,
    }
    out = []
    if rows:
        every = pl.concat([_greedy(frame).select(*keys, *_SCORED) for frame in rows], how="vertical_relaxed")
        for names, part in every.group_by(keys, maintain_order=True):
            out.append((*names, *pooled(part, spec.confidence)))
    order = {name: i for i, name in enumerate(["base", *spec.arms])}
    budgets = {budget: i for i, budget in enumerate(spec.budgets)}
    targets = {target: i for i, target in enumerate(spec.targets)}
    places = {benchmark: i for i, benchmark in enumerate(spec.benchmarks)}
    frame = pl.DataFrame(out, schema=schema, orient="row").with_columns(pl.col("low", "high").fill_null(np.nan))
    return (
        frame.with_columns(
            rank=pl.col("source").replace_strict(order, default=len(order), return_dtype=pl.Int64),
            at=pl.col("budget").replace_strict(budgets, default=-1, return_dtype=pl.Int64),
            of=pl.col("target").replace_strict(targets, default=len(targets), return_dtype=pl.Int64),
            on=pl.col("benchmark").replace_strict(places, default=len(places), return_dtype=pl.Int64),
        )
        .sort("on", "at", "of", "rank")
        .drop("rank", "at", "of", "on")
    )


def _of_samples(spec: StudySpec, tables: Tables, budget: str, pair: tuple[str, str]) -> Iterable[dict[str, Any]]:
    """Yield the rows for the sample sets of a budget: at k, or as bought if the allocation is adaptive.

    k is the number of samples that at least nine problems in ten have. A problem with fewer samples is left out of
    both sides; a problem with more counts by the unbiased estimate at k.
    """
    at = pl.col("budget") == budget
    sides, ks = [], []
    for model in pair:
        rows = tables["verdicts"].filter(at, pl.col("model") == model, pl.col("correct").is_not_null())
        if rows.is_empty():
            return
        sides.append(rows)
        bought = rows.group_by("problem_id").len()["len"]
        ks.append(int(bought.quantile(0.1, "lower") or 0))
    if spec.allocation == "adaptive":
        plan = dict(tables["budget_plan"].filter(at).select("model", "samples").iter_rows())
        ks = [plan.get(model, k) for model, k in zip(pair, ks, strict=True)]
        yield from _as_bought(budget, pair, sides, ks, spec)
    else:
        yield from _at_k(budget, pair, sides, ks, spec)
    rates = [judges.rate(spec, tables, spec.judge.first, budget, model) for model in pair]
    told = [found.rate for found in rates if found and not found.why_none]
    if len(told) == len(pair):
        counted = of_judge(tables["judgements"], spec.judge.first).filter(at)
        sums = [false_positive_sums(counted.filter(model=model)) for model in pair]
        difference = paired_ratio_difference(sums[0], sums[1], spec.confidence)
        yield _row(budget, "false_positive_rate", pair, ks, told, difference)


def _at_k(
    budget: str, pair: tuple[str, str], sides: list[pl.DataFrame], ks: list[int], spec: StudySpec
) -> Iterable[dict[str, Any]]:
    """Yield coverage and diversity at k, over the problems for which both sides have k samples."""
    enough = [
        rows.filter(pl.len().over("problem_id") >= k).select("problem_id").unique()
        for rows, k in zip(sides, ks, strict=True)
    ]
    both = enough[0].join(enough[1], on="problem_id")
    sides = [rows.join(both, on="problem_id", how="semi") for rows in sides]
    if both.is_empty():
        return
    confidence = spec.confidence
    counts = [count_correct(rows) for rows in sides]
    values = [coverage(c, [k], confidence) for c, k in zip(counts, ks, strict=True)]
    curves = [solved_curve(c, [k]).select("problem_id", "value") for c, k in zip(counts, ks, strict=True)]
    yield _row(
        budget,
        "coverage",
        pair,
        ks,
        [_interval(v) for v in values],
        paired_difference(curves[0], curves[1], confidence),
    )
    for metric, label in (("diversity", "equations"), ("diversity_exact", "exact")):
        key = KEYS[label]
        tops = [
            diversity(rows, [k], confidence, keys={label: key}).filter(
                (pl.col("distinct") == label) & (pl.col("denominator") == "all")
            )
            for rows, k in zip(sides, ks, strict=True)
        ]
        curves = [
            diversity_curve(rows, [k], key).select("problem_id", value="numerator")
            for rows, k in zip(sides, ks, strict=True)
        ]
        difference = paired_difference(curves[0], curves[1], confidence, bounds=None)
        yield _row(budget, metric, pair, ks, [_interval(top) for top in tops], difference)


def _as_bought(
    budget: str, pair: tuple[str, str], sides: list[pl.DataFrame], ks: list[int], spec: StudySpec
) -> Iterable[dict[str, Any]]:
    """Yield coverage and diversity of all samples if some problems have more samples than others. k is the mean
    number per problem."""
    solved = pl.col("correct").any().cast(pl.Float64)
    metrics = {"coverage": solved} | {
        metric: pl.col(KEYS[label]).drop_nulls().n_unique().cast(pl.Float64)
        for metric, label in (("diversity", "equations"), ("diversity_exact", "exact"))
    }
    for metric, of_problem in metrics.items():
        curves = [rows.group_by("problem_id").agg(value=of_problem).sort("problem_id") for rows in sides]
        bounds = SHARE if metric == "coverage" else None
        values = [mean_interval(curve["value"].to_numpy(), spec.confidence, bounds) for curve in curves]
        difference = paired_difference(curves[0], curves[1], spec.confidence, bounds)
        yield _row(budget, metric, pair, ks, values, difference)


def of_models(
    spec: StudySpec, tables: Tables, budget: str, pair: tuple[str, str], benchmark: str
) -> Iterable[dict[str, Any]]:
    """Yield rows in `SCHEMA` for the accuracy of targets finetuned on two arms' data: of each target, and of their
    mean (`ALL_TARGETS`)."""
    per_problem = (
        _greedy(tables["evals"])
        .filter(pl.col("budget") == budget, pl.col("source").is_in(pair), pl.col("benchmark") == benchmark)
        .filter(pl.col("source").n_unique().over("target", "problem_id") == len(pair))
        .with_columns(seed=pl.col("seed").rank("dense").over("target", "source").fill_null(1))
        .select("target", "source", *_SCORED)
    )
    finished = [t for t in spec.targets if t in set(per_problem["target"])]
    # Only problems that all these targets have, so that every mean is over the same targets.
    means = (
        per_problem.filter(pl.col("target").is_in(finished))
        .group_by("source", "problem_id", "seed")
        .agg(pl.col("value").mean(), targets=pl.col("target").n_unique())
        .filter(pl.col("targets") == len(finished))
        .select("source", *_SCORED, target=pl.lit(ALL_TARGETS))
    )
    every = pl.concat([per_problem, means], how="diagonal")
    for target in [*finished, *([ALL_TARGETS] if finished else [])]:
        mine = every.filter(pl.col("target") == target)
        if mine.is_empty():
            continue
        sides = _paired([mine.filter(pl.col("source") == model) for model in pair])
        yield _row(
            budget,
            "accuracy",
            pair,
            [None, None],
            [crossed_interval(side, spec.confidence) for side in sides],
            crossed_difference(sides[0], sides[1], spec.confidence),
            target,
            benchmark,
        )


def _greedy(evals: pl.DataFrame) -> pl.DataFrame:
    """Return the greedy answers, with a column `value` from `correct`."""
    rows = evals.filter(pl.col("temperature").fill_null(0) == 0)  # the first versions had greedy answers only
    return rows.with_columns(value=pl.col("correct").cast(pl.Float64))


def _paired(sides: list[pl.DataFrame]) -> list[np.ndarray]:
    """Return [problem_id, seed, value] of both sides as arrays [problems, seeds], over the problems that both sides
    have for all seeds."""
    for one, other in ((0, 1), (1, 0)):
        seeds = sides[other]["seed"].n_unique()
        whole = sides[other].filter(pl.col("seed").n_unique().over("problem_id") == seeds)
        sides[one] = sides[one].join(whole, on="problem_id", how="semi")
    return [by_problem_and_seed(side) for side in sides]


def _interval(curve: pl.DataFrame) -> Interval:
    """Return the only point of a metric's curve."""
    value, low, high, n = curve.select("value", "low", "high", "n_problems").fill_null(np.nan).row(0)
    return Interval(value, low, high, n)


def _row(
    budget: str,
    metric: str,
    pair: tuple[str, str],
    ks: list[Any],
    values: list[Interval],
    difference: Interval,
    target: str | None = None,
    benchmark: str | None = None,
) -> dict[str, Any]:
    weak, strong = pair
    higher, lower = (strong, weak) if metric in LESS_IS_BETTER else (weak, strong)
    row: dict[str, Any] = {"budget": budget, "metric": metric, "target": target, "benchmark": benchmark}
    for side, model, k, value in zip(("weak", "strong"), pair, ks, values, strict=True):
        row |= {side: model, f"k_{side}": k, f"{side}_value": value.value}
        row |= {f"{side}_low": value.low, f"{side}_high": value.high}
    row |= {"difference": difference.value, "low": difference.low, "high": difference.high}
    return row | {"n_problems": difference.n, "better": better(difference, higher, lower)}


def percent(share: float) -> str:
    """Format a share: 0.95 as "95 %", 0.975 as "97.5 %"."""
    return f"{100 * share:g} %"


def _verdict(spec: StudySpec, plan: pl.DataFrame, row: Mapping[str, Any], finished: int) -> Verdict:
    """Return the verdict for a `row` of the comparisons. `finished` is the number of targets with accuracies on both
    models' data."""
    budget, found, weak, strong = (row[name] for name in ("budget", "better", "weak", "strong"))
    bought = dict(plan.filter(pl.col("budget") == budget).select("model", "samples").iter_rows())
    names = ", ".join(f"{model} {bought[model]}" for model in (strong, weak) if model in bought)
    names = f"{names} samples per problem, " if names else ""
    what = "accuracy" if row["metric"] == "accuracy" else "coverage"
    problems = "1 problem" if row["n_problems"] == 1 else f"{row['n_problems']:,} problems"
    if row["benchmark"] and spec.foreign_benchmarks:
        problems += f" of {row['benchmark']}"
    gain = f"{weak} − {strong} is {100 * row['difference']:+.1f} points of {what} on {problems}, "
    if math.isnan(row["low"]):
        gain += "too few for an interval"
    else:
        gain += f"{percent(spec.confidence)} interval [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
    count = len(spec.targets)
    if what == "coverage":
        gain += " (nothing was finetuned)" if count == 0 else " (no finetuned models to compare)"
    elif finished < count:
        gain += f", mean of {finished} of {count} finetuned models"
    elif count > 1:
        gain += f", mean of {count} finetuned models"
    answer = (
        "cannot tell which data was the better buy" if found == "cannot tell" else f"{found} data was the better buy"
    )
    return Verdict(budget, found, f"{budget} budget ({names}matched by {spec.match}): {answer}; {gain}.")
