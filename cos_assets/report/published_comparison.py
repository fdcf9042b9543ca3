"""Comparison of published numbers with a study's own."""

from __future__ import annotations

import math
from collections.abc import Iterable

import polars as pl

from cos_assets.report.tables import Tables
from cos_assets.study import StudySpec

HEAD = ("budget", "metric", "data", "published", "here", "interval")
_NAMES = {"coverage": "coverage", "diversity": "correct solutions per solved problem, repeats included"}


def cells(spec: StudySpec, tables: Tables, compared: pl.DataFrame, accuracies: pl.DataFrame) -> Iterable[tuple]:
    """Yield a line per published number: the study's own value with its interval, or a dash if there is none yet."""
    known = spec.published
    if known is None:
        return
    first = next(iter(spec.benchmarks))
    for budget in spec.budgets:
        for metric in ("coverage", "diversity", "false_positive_rate"):
            for model, value in getattr(known, metric).get(budget, {}).items():
                ours = _of_samples(tables, compared, metric, budget, model)
                yield budget, _NAMES.get(metric, "false positive rate"), model, *_shown(metric, value, ours)
        for source, by_target in known.accuracy.get(budget, {}).items():
            for target, value in by_target.items():
                rows = accuracies.filter(budget=budget, source=source, target=target, benchmark=first)
                ours = rows.select("value", "low", "high").row(0) if rows.height else None
                yield budget, f"accuracy of {target}", source, *_shown("accuracy", value, ours)


def _of_samples(tables: Tables, compared: pl.DataFrame, metric: str, budget: str, model: str) -> tuple | None:
    """Return a metric of one sample set over all samples that its budget bought, with its limits."""
    if metric == "diversity":
        curve = tables["sample_metrics"].filter(
            pl.col("level").is_null(), pl.col("value") > 0, budget=budget, model=model, metric="coverage"
        )
        points = dict(curve.select("k", "value").iter_rows())
        # Correct samples per problem (k times the accuracy of one) over coverage, as in the paper's bars (fig. 3).
        return (max(points) * points[1] / points[max(points)], None, None) if 1 in points else None
    for side in ("weak", "strong"):
        rows = compared.filter(pl.col(side) == model, budget=budget, metric=metric)
        if rows.height:
            return rows.select(f"{side}_value", f"{side}_low", f"{side}_high").row(0)
    return None


def _shown(metric: str, published: float, ours: tuple | None) -> tuple[str, str, str]:
    scale, form, unit = (1, ".2f", "") if metric == "diversity" else (100, ".1f", " %")
    theirs = f"{published:{form}}{unit}"
    if ours is None or ours[0] is None or math.isnan(ours[0]):
        return theirs, "–", "–"
    value, low, high = (None if x is None else x * scale for x in ours)
    limits = "–" if low is None or math.isnan(low) else f"[{low:{form}}, {high:{form}}]"
    return theirs, f"{value:{form}}{unit}", limits
