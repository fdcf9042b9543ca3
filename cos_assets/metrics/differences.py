"""Differences of two metrics over the same problems, with intervals (see `intervals` for the parts).

A difference combines the two intervals with their correlation over the shared problems: Newcombe's method 10 for
paired proportions (Newcombe 1998, Statistics in Medicine 17:2635; called "MOVER" in Zou & Donner 2008, ibid.
27:1693). Without bounds it is the paired t interval.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from cos_assets.metrics.frames import require, require_unique
from cos_assets.metrics.intervals import (
    SHARE,
    Bounds,
    Interval,
    checked_vector,
    crossed_interval,
    ratio_columns,
    single,
    t_quantile,
)


def crossed_difference(a: Any, b: Any, confidence: float = 0.95) -> Interval:
    """Return mean(a) - mean(b) for shares of the same problems, over training seeds.

    If both sides have several seeds, the seeds are paired in order, and only the first min(S, S') of each side are
    used. This is valid whether or not the effects of a seed (such as the order of rows) are the same on both sides.

    Parameters
    ----------
    a, b : array_like
        Shares in [0, 1] of shape [P, S] and [P, S'], with the same problems in the same order.
    confidence : float, default 0.95
        Level of the interval.

    Returns
    -------
    Interval
        As from `crossed_interval` without bounds, or from `paired_difference` if a side has one seed.

    Raises
    ------
    ValueError
        The numbers of problems differ, or a value is not finite.

    Examples
    --------
    >>> a, b = [[1, 1, 1], [1, 1, 1], [1, 0, 1], [0, 1, 0]], [[1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 0]]
    >>> [round(x, 2) for x in crossed_difference(a, b)]
    [0.5, -0.18, 1.18, 4]
    """
    left, right = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if left.shape[0] != right.shape[0]:
        raise ValueError(f"paired comparison: {len(left)} problems in a, {len(right)} in b; they must be the same")
    seeds = min(left.shape[1], right.shape[1])
    if seeds == 1:
        ids = pl.Series("problem_id", range(left.shape[0]))
        sides = [pl.DataFrame([ids, pl.Series("value", side.mean(axis=1))]) for side in (left, right)]
        return paired_difference(sides[0], sides[1], confidence)
    return crossed_interval(left[:, :seeds] - right[:, :seeds], confidence, bounds=None)


def _difference(
    a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], confidence: float, bounds: Bounds
) -> Interval:
    """Return R_a - R_b from (numerator, denominator) pairs of shape [N], aligned by problem (Newcombe's method 10)."""
    arms = [ratio_columns(y[:, None], x[:, None], None, confidence, bounds) for y, x in (a, b)]
    (value_a, low_a, high_a, _), (value_b, low_b, high_b, _) = (single(arm) for arm in arms)
    n = int(((a[1] > 0) | (b[1] > 0)).sum())
    residual_a, residual_b = a[0] - value_a * a[1], b[0] - value_b * b[1]
    scale = np.sqrt((residual_a @ residual_a) * (residual_b @ residual_b))
    correlation = float(residual_a @ residual_b / scale) if scale > 0 else 0.0

    def reach(left: float, right: float) -> float:
        return float(np.sqrt(max(left**2 - 2 * correlation * left * right + right**2, 0.0)))

    value = value_a - value_b
    if np.isnan([low_a, low_b]).any():
        return Interval(value, np.nan, np.nan, n)
    return Interval(
        value, value - reach(value_a - low_a, high_b - value_b), value + reach(high_a - value_a, value_b - low_b), n
    )


def paired_difference(a: pl.DataFrame, b: pl.DataFrame, confidence: float = 0.95, bounds: Bounds = SHARE) -> Interval:
    """Return mean(a) - mean(b) over the same problems.

    With bounds, the interval has a positive width even if all problems tie: that of two pseudo-problems, one won by
    each side (Bonett & Price 2012, J. Educational and Behavioral Statistics 37:479).

    Parameters
    ----------
    a, b : pl.DataFrame
        Columns [problem_id, value], one row per problem; both have the same problems.
    confidence : float, default 0.95
        Level of the interval.
    bounds : pair of float or None, default (0, 1)
        Minimum and maximum of the values, not of the difference. None gives the paired t interval.

    Returns
    -------
    Interval
        `n` is the number of problems.

    Raises
    ------
    ValueError
        A repeated problem, a value that is null or outside the bounds, or different sets of problems.

    References
    ----------
    Newcombe 1998, Statistics in Medicine 17:2635, method 10.

    Examples
    --------
    >>> a = pl.DataFrame({"problem_id": range(10), "value": [1, 1, 1, 1, 1, 1, 1, 0, 0, 1]})
    >>> [round(x, 2) for x in paired_difference(a, a.with_columns(value=pl.Series([1, 0, 0, 0, 1, 0, 1, 0, 0, 0])))]
    [0.5, 0.08, 0.72, 10]
    """
    for name, frame in (("a", a), ("b", b)):
        require(frame, ["problem_id", "value"], name)
        require_unique(frame, ["problem_id"], name)
        checked_vector(frame["value"].to_numpy(), name, bounds)
    pairs = a.join(b, on="problem_id", suffix="_b").sort("problem_id")
    if pairs.height != a.height or pairs.height != b.height:
        only_a, only_b = a.height - pairs.height, b.height - pairs.height
        raise ValueError(
            f"paired comparison: {only_a} problems are only in a, {only_b} only in b; they must be the same"
        )
    left, right = pairs["value"].to_numpy().astype(float), pairs["value_b"].to_numpy().astype(float)
    ones = np.ones(pairs.height)
    found = _difference((left, ones), (right, ones), confidence, bounds)
    if bounds is not None and found.n >= 2 and not (left != right).any():
        half = float(t_quantile(np.array(found.n), confidence)) * np.sqrt(2) / (found.n + 2) * (bounds[1] - bounds[0])
        return Interval(0.0, -half, half, found.n)
    return found


def paired_ratio_difference(a: pl.DataFrame, b: pl.DataFrame, confidence: float = 0.95) -> Interval:
    """Return Σy_a/Σx_a - Σy_b/Σx_b over problems.

    It applies to shares such as the false positive rate. A problem that is on one side only counts as 0 of 0 on the
    other: a model that never solved it has no correct sample to judge.

    Parameters
    ----------
    a, b : pl.DataFrame
        Columns [problem_id, numerator, denominator], one row per problem.
    confidence : float, default 0.95
        Level of the interval.

    Returns
    -------
    Interval
        `n` is the number of problems with a denominator above 0 on either side.

    Raises
    ------
    ValueError
        A repeated problem, a null, or a negative denominator.

    Examples
    --------
    >>> a = pl.DataFrame({"problem_id": ["p", "q", "r"], "numerator": [0, 1, 0], "denominator": [4, 3, 3]})
    >>> b = pl.DataFrame({"problem_id": ["p", "q", "s"], "numerator": [2, 2, 1], "denominator": [4, 3, 3]})
    >>> [round(x, 2) for x in paired_ratio_difference(a, b)]
    [-0.4, -0.66, 0.14, 4]
    """
    columns = ["problem_id", "numerator", "denominator"]
    for name, frame in (("a", a), ("b", b)):
        require(frame, columns, name)
        require_unique(frame, ["problem_id"], name)
        checked_vector(frame["numerator"].to_numpy(), f"{name} numerator")
        x = checked_vector(frame["denominator"].to_numpy(), f"{name} denominator")
        if x.size and x.min() < 0:
            raise ValueError(f"{name} denominator: {x.min()} is negative; allowed is 0 and above")
    both = a.select(columns).join(b.select(columns), on="problem_id", how="full", coalesce=True, suffix="_b")
    values = both.sort("problem_id").drop("problem_id").fill_null(0).cast(pl.Float64).to_numpy()
    return _difference((values[:, 0], values[:, 1]), (values[:, 2], values[:, 3]), confidence, SHARE)


def better(interval: Interval, higher: str = "wc", lower: str = "se") -> str:
    """Return the winner of a difference: `higher` if the interval is above 0, `lower` if below, else "cannot tell".

    Swap the two names for a metric where lower is better (false positive rate). NaN limits give "cannot tell".

    Examples
    --------
    >>> better(Interval(0.2, 0.1, 0.3, 50)), better(Interval(0.2, -0.1, 0.5, 5))
    ('wc', 'cannot tell')
    """
    if interval.low > 0:
        return higher
    if interval.high < 0:
        return lower
    return "cannot tell"
