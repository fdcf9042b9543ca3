"""Evaluation of finetuned models beyond one greedy answer: pass@k, maj@k and false positives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from cos_assets.report.compare import percent
from cos_assets.report.figures import GREY, canvas, colour, legend
from cos_assets.study import StudySpec


def head(table: pl.DataFrame) -> list[str]:
    """Return the column titles of `cells`."""
    return ["budget", "model", "finetuned on", "benchmark", *(name for name, _ in _metrics(table))]


def cells(spec: StudySpec, table: pl.DataFrame) -> Iterable[tuple[str, ...]]:
    """Yield a line per model and benchmark of `metrics.evaluated.evaluation_metrics`, over all problems."""
    whole = _whole(table)
    for (budget, source, target, benchmark), rows in _models(spec, whole):
        values = []
        for _, at in _metrics(table):
            found = rows.filter(at).to_dicts()
            values.append(_cell(found[0]) if found else "–")
        yield budget or "–", target, "untouched" if source == "base" else source, benchmark, *values


def figure(spec: StudySpec, table: pl.DataFrame) -> Any:
    """Draw pass@k (lines) and maj@k (dashed) over k, on the first benchmark: a row per budget, a panel per target, a
    color per arm. Gray is the untouched model."""
    first = next(iter(spec.benchmarks))
    rows = _whole(table).filter(pl.col("benchmark") == first, pl.col("metric").is_in(["pass", "majority"]))
    found = [budget for budget in spec.budgets if rows.filter(budget=budget).height]
    budgets: list[str | None] = [*found] or [None]
    arms = [arm for arm in spec.arms if rows.filter(source=arm).height]
    shape = len(budgets), len(spec.targets)
    with canvas(*shape, 8.6, 0.7 + 2.0 * len(budgets), sharex=True, sharey=True) as (drawn, axes):
        for line_of_axes, budget in zip(axes, budgets, strict=True):
            for axis, target in zip(line_of_axes, spec.targets, strict=True):
                mine = rows.filter(pl.col("target") == target)
                for source, paint in [("base", GREY), *((arm, colour(spec, arm)) for arm in arms)]:
                    at = pl.col("budget").is_null() if source == "base" else pl.col("budget") == budget
                    for metric, style in (("pass", "-"), ("majority", (0, (3, 2)))):
                        curve = mine.filter(at, source=source, metric=metric).sort("k")
                        low, value, high = (100 * curve[name] for name in ("low", "value", "high"))
                        axis.fill_between(curve["k"], low, high, color=paint, alpha=0.1, linewidth=0)
                        axis.plot(curve["k"], value, color=paint, linestyle=style, marker="o", markersize=3)
                axis.set_xscale("log", base=2)
                ticks = rows["k"].unique().sort().to_list()
                axis.set_xticks(ticks, [str(k) for k in ticks], minor=False)
                axis.set_title(f"{target}, {budget} budget" if budget else target)
        drawn.supylabel("pass@k, dashed maj@k, %", fontsize=10)
        for axis in axes[-1]:
            axis.set_xlabel(f"k answers, {percent(spec.confidence)} interval")
        legend(drawn, [("untouched", GREY), *((arm, colour(spec, arm)) for arm in arms)])
        return drawn


def drawable(table: pl.DataFrame) -> bool:
    """Return whether `figure` has anything to show, which needs more than one k."""
    return _whole(table).filter(pl.col("metric").is_in(["pass", "majority"]))["k"].n_unique() > 1


def _whole(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("level").is_null(), pl.col("subject").is_null())


def _models(spec: StudySpec, table: pl.DataFrame) -> Iterable[tuple[tuple, pl.DataFrame]]:
    """Yield the rows of each [budget, source, target, benchmark] in the study's order, untouched models first."""
    for benchmark in spec.benchmarks:
        for budget in (None, *spec.budgets):
            for target in spec.targets:
                for source in ("base",) if budget is None else spec.arms:
                    model = pl.col("budget").eq_missing(pl.lit(budget, pl.String)) & (pl.col("source") == source)
                    rows = table.filter(model, target=target, benchmark=benchmark)
                    if rows.height:
                        yield (budget, source, target, benchmark), rows


def _metrics(table: pl.DataFrame) -> list[tuple[str, pl.Expr]]:
    """Return the metrics that the table has: their names on the page, and filters for their rows."""
    found = []
    for metric, name in (("accuracy", "greedy"), ("pass", "pass@"), ("majority", "maj@")):
        for k in table.filter(metric=metric)["k"].unique().sort():
            at = (pl.col("metric") == metric) & (pl.col("k") == k)
            found.append((name if metric == "accuracy" else f"{name}{k}", at))
    rates = pl.col("metric") == "false_positive_rate"
    return found + ([("false positives", rates)] if table.filter(rates).height else [])


def _cell(row: dict[str, Any]) -> str:
    limits = "" if row["low"] is None else f" [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
    return f"{100 * row['value']:.1f} %{limits}"
