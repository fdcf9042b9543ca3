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
from cos_assets.storage.schemas import TABLES

SCALES = (0.5, 1.0, 2.0)
"""Multiples of the study's budget that are considered."""
SHARES = (1.0, 0.5, 0.25)
"""Shares of the problems that are considered."""

SCHEMA = TABLES["prediction"].schema
"""`samples` are per problem; `spend` is in the matched quantity; solved, correct and distinct are totals."""

_MEASURES = ("solved", "correct", "distinct")


@dataclass(frozen=True)
class Pilot:
    """The pilot's results for one model; see `Pilot.of`."""

    samples: pl.DataFrame
    """[problem_id, sample_index, correct, equations_key]."""
    cost: Cost
    fits: Sequence[Fit]
    counts: pl.DataFrame
    """[problem_id, n, c] of the pilot's problems, sorted by problem_id."""

    @classmethod
    def of(cls, samples: pl.DataFrame, cost: Cost) -> Pilot:
        """Return the pilot of a model, with the fits of its counts.

        Parameters
        ----------
        samples : pl.DataFrame
            Columns [problem_id, sample_index, correct: bool, equations_key], one row per sample.
        cost : Cost
            The cost of the model's solutions in the matched quantity.

        Raises
        ------
        ValueError
            As from `metrics.prediction.fits`: fewer than two problems, or no problem with two samples.

        Examples
        --------
        >>> columns = {"problem_id": list("ppqq"), "sample_index": [0, 1] * 2, "equations_key": ["a", None, None, None]}
        >>> samples = pl.DataFrame(columns)
        >>> pilot = Pilot.of(samples.with_columns(correct=pl.col("equations_key").is_not_null()), Cost(1.0))
        >>> pilot.counts.rows()
        [('p', 2, 1), ('q', 2, 0)]
        """
        counts = samples.group_by("problem_id").agg(n=pl.len(), c=pl.col("correct").sum()).sort("problem_id")
        return cls(samples, cost, fits(counts), counts)


def ways(
    budgets: Mapping[str, Mapping[str, int]],
    pilots: Mapping[str, Pilot],
    mixes: Mapping[str, Mapping[str, float]],
    problems: int,
    confidence: float = 0.9,
) -> pl.DataFrame:
    """Return the strategies for every budget, scale, source and share of the problems, with their expected results.

    Parameters
    ----------
    budgets : mapping of str to mapping of str to int
        As in `matching.match_budgets`; the spend is that of the reference model.
    pilots : mapping of str to Pilot
        {model: its pilot}, for every model that `budgets` and `mixes` name.
    mixes : mapping of str to mapping of str to float
        {source: {model: share of the budget}}. Every model alone is a source, too.
    problems : int
        Number of problems that can be sampled.
    confidence : float, default 0.9
        Level of the intervals.

    Returns
    -------
    pl.DataFrame
        The schema `SCHEMA`, one row per strategy. One that buys less than one sample of a model is left out.

    Raises
    ------
    ValueError
        As from `metrics.richness.predict_distinct`.

    Examples
    --------
    >>> keys = ["a", "b", None, None, None, None, "a", "c", "a"]
    >>> samples = pl.DataFrame({"problem_id": list("pppqqqrrr"), "sample_index": [0, 1, 2] * 3, "equations_key": keys})
    >>> pilot = Pilot.of(samples.with_columns(correct=pl.col("equations_key").is_not_null()), Cost(1.0))
    >>> table = ways({"low": {"wc": 4}}, {"wc": pilot}, mixes={}, problems=100).filter(scale=1.0)
    >>> table.select("problems", "spend", pl.col("solved").round(), pl.col("distinct").round()).rows()
    [(100, 400.0, 70.0, 164.0), (50, 400.0, 37.0, 128.0), (25, 400.0, 19.0, 94.0)]
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
    """Return the recommended strategy for each budget, as a sentence.

    It is the one that solves most problems, with those that the pilot cannot distinguish from it.

    Parameters
    ----------
    found : pl.DataFrame
        The result of `ways`. A budget without a strategy at scale 1 gets no sentence.
    confidence : float, default 0.9
        Level of the intervals in `found`, for the text.

    Returns
    -------
    list of str
        Plain text, in the order of the budgets.

    Examples
    --------
    >>> row = {"budget": "low", "scale": 1.0, "problems": 100, "solved_low": 60.0, "distinct": 150.0}
    >>> row |= {"distinct_low": 130.0, "distinct_high": 170.0}
    >>> wc = row | {"source": "wc", "samples": [{"model": "wc", "samples": 3}], "solved": 70.0, "solved_high": 80.0}
    >>> se = row | {"source": "se", "samples": [{"model": "se", "samples": 1}], "solved": 65.0, "solved_high": 70.0}
    >>> print(recommendations(pl.DataFrame([wc, se]))[0])
    low budget: buy 3 of wc on each of 100 problems, which solves 70 [60, 80] of them with 150 [130, 170] different
    correct solutions; the pilot cannot distinguish this from 1 of se (65) (90 % intervals).
    """
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
