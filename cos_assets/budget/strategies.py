"""Strategies to spend a budget, their expected results, and which one to choose.

Pure functions over a pilot's samples.

A strategy is a sampler, or a mix by shares of the budget, with as many samples per problem as the budget buys on all
problems, on half of them, or on a quarter. Its expected results are

* problems solved by at least one sample (`metrics.prediction`),
* correct samples, which are the rows to train on before duplicates are removed (`metrics.prediction`),
* different correct solutions (`metrics.richness`).

The results of a mix have two bounds: its models fail together as often as they can (it solves what the better one
does), or they fail independently given the pilot. The value is the midpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from cos_assets.budget.matching import Cost
from cos_assets.metrics.prediction import Fit, fits, predict_coverage, predict_kept, solved_chance, weights_of
from cos_assets.metrics.richness import predict_distinct

SCALES = (0.5, 1.0, 2.0)
"""Multiples of the study's budget that are considered."""
SHARES = (1.0, 0.5, 0.25)
"""Shares of the problems that are considered."""

_COLUMNS: Any = {
    "budget": pl.String,
    "scale": pl.Float64,
    "source": pl.String,
    "problems": pl.Int64,
    "samples": pl.List(pl.Struct({"model": pl.String, "samples": pl.Int64})),
    "spend": pl.Float64,
    "solved": pl.Float64,
    "solved_low": pl.Float64,
    "solved_high": pl.Float64,
    "correct": pl.Float64,
    "correct_low": pl.Float64,
    "correct_high": pl.Float64,
    "distinct": pl.Float64,
    "distinct_low": pl.Float64,
    "distinct_high": pl.Float64,
}
SCHEMA = pl.Schema(_COLUMNS)
"""`samples` are per problem; `spend` is in the matched quantity; solved, correct and distinct are totals."""

_MEASURES = ("solved", "correct", "distinct")


@dataclass(frozen=True)
class Pilot:
    """The pilot's results for one model."""

    samples: pl.DataFrame
    """[problem_id, sample_index, correct, equations_key]."""
    cost: Cost
    fits: Sequence[Fit]
    counts: pl.DataFrame
    """[problem_id, n, c] of the pilot's problems, sorted by problem_id."""

    @classmethod
    def of(cls, samples: pl.DataFrame, cost: Cost) -> Pilot:
        counts = samples.group_by("problem_id").agg(n=pl.len(), c=pl.col("correct").sum()).sort("problem_id")
        return cls(samples, cost, fits(counts), counts)


def ways(
    budgets: Mapping[str, Mapping[str, int]],
    pilots: Mapping[str, Pilot],
    mixes: Mapping[str, Mapping[str, float]],
    problems: int,
    confidence: float = 0.9,
) -> pl.DataFrame:
    """Return the strategies for every budget, scale, source and share of the problems, in the schema `SCHEMA`.

    `budgets` are those of `matching.match_budgets`; `pilots` maps a model to its pilot; `mixes` maps a source to
    {model: share of the budget}; `problems` is the number of problems that can be sampled. A strategy that buys less
    than one sample of a model is left out.
    """
    sources = {**{name: {name: 1.0} for name in pilots}, **mixes}
    rows = [
        row
        for budget, stated in budgets.items()
        for scale in SCALES
        for source, take in sources.items()
        for share in SHARES
        if (row := _way(budget, stated, scale, source, take, round(share * problems), pilots, problems))
    ]
    wanted: dict[str, set[int]] = {model: set() for model in pilots}
    for row in rows:
        for part in row["samples"]:
            wanted[part["model"]].add(part["samples"])
    curves = {model: _curves(pilots[model], sorted(ks), problems, confidence) for model, ks in wanted.items() if ks}
    filled = [row | _expected(pilots, curves, row) for row in rows]
    return pl.DataFrame(filled, schema=SCHEMA, orient="row")


def _way(
    budget: str,
    stated: Mapping[str, int],
    scale: float,
    source: str,
    take: Mapping[str, float],
    count: int,
    pilots: Mapping[str, Pilot],
    problems: int,
) -> dict[str, Any] | None:
    """Return what a part of a budget buys on `count` problems. None if that is less than one sample of a model."""
    if not count:
        return None
    reference = next(iter(stated))
    spend = scale * problems * pilots[reference].cost.of(stated[reference])
    bought, paid = [], 0.0
    for model, part in take.items():
        cost = pilots[model].cost
        samples = round((part * spend / count - cost.fixed) / cost.each)
        if samples < 1:
            return None
        bought.append({"model": model, "samples": samples})
        paid += count * cost.of(samples)
    return {
        "budget": budget,
        "scale": scale,
        "source": source,
        "problems": count,
        "samples": bought,
        "spend": paid,
    }


Triple = tuple[float, float, float]
"""Value, lower limit and upper limit."""


def _curves(pilot: Pilot, ks: Sequence[int], problems: int, confidence: float) -> dict[tuple[str, int], Triple]:
    """Return the mean per problem: (measure, samples per problem) -> value and limits."""
    # Problems outside the pilot count as problems without samples.
    more = [f"\0{i}" for i in range(max(0, problems - pilot.counts.height))]
    unseen = pl.DataFrame({"problem_id": more}, schema={"problem_id": pl.String}).with_columns(n=0, c=0)
    counts = pl.concat([pilot.counts, unseen], how="vertical_relaxed")
    tables = {
        "solved": (predict_coverage(pilot.fits, counts, ks, confidence), 1),
        "correct": (predict_kept(pilot.fits, counts, ks, confidence), counts.height),
        "distinct": (predict_distinct(pilot.fits, pilot.samples, ks, "equations_key", confidence), 1),
    }
    return {
        (name, k): (value / by, low / by, high / by)
        for name, (table, by) in tables.items()
        for k, value, low, high in table.select("k", "value", "low", "high").iter_rows()
    }


def _expected(
    pilots: Mapping[str, Pilot], curves: Mapping[str, Mapping[tuple[str, int], Triple]], row: Mapping[str, Any]
) -> dict[str, float]:
    """Return the totals over the problems of a strategy."""
    found: dict[str, float] = {}
    bought = {part["model"]: part["samples"] for part in row["samples"]}
    for name in _MEASURES:
        parts = [curves[model][name, samples] for model, samples in bought.items()]
        if len(parts) == 1:
            value, low, high = parts[0]
        elif name == "correct":
            value, low, high = _sum(parts)
        elif name == "distinct":
            most, total = max(parts), _sum(parts)
            value, low, high = (most[0] + total[0]) / 2, most[1], total[2]
        else:
            together, apart = _mixed(pilots, bought)
            half = max(max(v - lo, hi - v) for v, lo, hi in parts)
            value, low, high = (together + apart) / 2, max(0.0, together - half), min(1.0, apart + half)
        count = row["problems"]
        found |= {name: count * value, f"{name}_low": count * low, f"{name}_high": count * high}
    return found


def _sum(parts: Sequence[Triple]) -> Triple:
    """Add independent values. Their distances to the limits are added in quadrature."""
    value = sum(v for v, _, _ in parts)
    below = float(np.sqrt(sum((v - low) ** 2 for v, low, _ in parts)))
    above = float(np.sqrt(sum((high - v) ** 2 for v, _, high in parts)))
    return value, max(0.0, value - below), value + above


def _mixed(pilots: Mapping[str, Pilot], bought: Mapping[str, int]) -> tuple[float, float]:
    """Return the share of problems that a mix solves if its models fail together, and the share if they fail
    independently."""
    chances = []
    for model, samples in bought.items():
        pilot = pilots[model]
        n, c = (pilot.counts[name].to_numpy() for name in ("n", "c"))
        by_fit = [solved_chance(one, n, c, samples) for one in pilot.fits]
        chance = pl.Series(weights_of(pilot.fits) @ np.stack(by_fit))
        chances.append(pilot.counts.select("problem_id").with_columns(chance=chance))
    joined = chances[0]
    for i, other in enumerate(chances[1:]):
        joined = joined.join(other, on="problem_id", suffix=f"_{i}")
    table = joined.drop("problem_id").to_numpy()
    return float(table.max(axis=1).mean()), float((1 - (1 - table).prod(axis=1)).mean())


def recommendations(found: pl.DataFrame, confidence: float = 0.9) -> list[str]:
    """Return one sentence per budget: the strategy that solves most problems, and whether the pilot can distinguish
    it from the others. `found` is the result of `ways`."""
    sentences = []
    for (budget,), rows in found.group_by("budget", maintain_order=True):
        whole = rows.filter(pl.col("scale") == 1.0)
        full = whole.filter(pl.col("problems") == whole["problems"].max()).sort("solved", descending=True)
        if full.is_empty():
            continue
        best, rest = full.row(0, named=True), full.slice(1).to_dicts()
        text = f"{budget} budget: buy {_words(best)}, which solves {_range(best, 'solved')} of them"
        text += f" with {_range(best, 'distinct')} different correct solutions"
        unclear = [other for other in rest if _overlap(best, other)]
        if unclear:
            names = ", ".join(f"{_words(other, short=True)} ({other['solved']:,.0f})" for other in unclear)
            text += f"; the pilot cannot distinguish this from {names}"
        elif rest:
            text += f"; the next best is {_words(rest[0], short=True)} with {_range(rest[0], 'solved')}"
        fewer = whole.filter(pl.col("source") == best["source"], pl.col("problems") < best["problems"])
        if fewer.height:
            other = fewer.sort("problems", descending=True).row(0, named=True)
            text += f". {_words(other).capitalize()} would solve {other['solved']:,.0f}"
        steps = []
        for scale, word in ((0.5, "half"), (2.0, "twice")):
            row = rows.filter(
                pl.col("scale") == scale, pl.col("source") == best["source"], pl.col("problems") == best["problems"]
            )
            if row.height:
                steps.append(f"{word} the budget would solve {row['solved'].item():,.0f}")
        text += f"; {' and '.join(steps)}" if steps else ""
        sentences.append(f"{text} ({100 * confidence:g} % intervals).")
    return sentences


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether the difference in problems solved can be zero."""
    gap = one["solved"] - other["solved"]
    return bool(gap <= np.hypot(one["solved"] - one["solved_low"], other["solved_high"] - other["solved"]))


def _words(way: Mapping[str, Any], short: bool = False) -> str:
    bought = " and ".join(f"{part['samples']} of {part['model']}" for part in way["samples"])
    return bought if short else f"{bought} on each of {way['problems']:,} problems"


def _range(way: Mapping[str, Any], name: str) -> str:
    return f"{way[name]:,.0f} [{way[f'{name}_low']:,.0f}, {way[f'{name}_high']:,.0f}]"
