"""Prediction of the number of distinct correct solutions at large k from a pilot with few samples per problem.

If a problem has c correct samples with j distinct solutions, a further correct sample is a new solution with
probability (theta + sigma·j) / (theta + c). This is the Pitman-Yor process (Pitman 1995, Probability Theory and
Related Fields 102:145), with the prediction of unseen species of Favaro et al. 2009 (J. Royal Statistical Society B
71:993). theta and sigma are common to all problems and fitted to the partitions of their correct samples by maximum
likelihood. The number of further correct samples is predicted as in `prediction`. Because the probability is linear
in j, the recursion for the expected number is exact.

Limitation: problems differ in their number of possible solutions. One theta and sigma for all problems ignores that,
and so does the interval. On the demo's 400 problems with 4 samples each, the error for distinct texts was 0.2 % at 3
times the pilot and 5 % at 8 times; for distinct equations 9 % and 19 %, always underestimates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from cos_assets.metrics.coverage import CURVE, coverage_at_k
from cos_assets.metrics.frames import require, require_bool, require_unique, sample_sizes
from cos_assets.metrics.intervals import check_confidence
from cos_assets.metrics.prediction import Fit, further_correct

_RESAMPLES = 100
_STEPS = np.linspace(-6.0, 6.0, 97)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Return [theta, sigma] of every grid point, and a weak penalty for parameters whose likelihood has no maximum.

    The grid is evenly spaced in x = log(theta + sigma) and y = logit(sigma); the penalty pulls towards x = y = 0.
    """
    x, y = (axis.ravel() for axis in np.meshgrid(_STEPS, _STEPS))
    sigma = 1 / (1 + np.exp(-y))
    return np.stack([np.exp(x) - sigma, sigma], axis=1), (x**2 + y**2) / 50


class Novelty(NamedTuple):
    """Parameters of the Pitman-Yor process, theta > -sigma and sigma in (0, 1); see `fit_novelty`."""

    theta: float
    sigma: float


_GRID, _PULL = _grid()


def _patterns(samples: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return one row per problem with n samples, c correct, j distinct solutions, and their sorted counts `m`."""
    require(samples, ["problem_id", "sample_index", "correct", key], "samples", nulls=[key])
    require_bool(samples, "correct", "samples")
    require_unique(samples, ["problem_id", "sample_index"], "samples")
    classes = samples.filter("correct").group_by("problem_id", key).agg(m=pl.len().cast(pl.Int64))
    per_problem = classes.group_by("problem_id").agg(pl.col("m").sort())
    sizes = samples.group_by("problem_id").agg(n=pl.len().cast(pl.Int64), c=pl.col("correct").sum().cast(pl.Int64))
    joined = sizes.join(per_problem, on="problem_id", how="left").sort("problem_id")
    none = pl.lit([], pl.List(pl.Int64))
    return joined.with_columns(pl.col("m").fill_null(none)).with_columns(j=pl.col("m").list.len().cast(pl.Int64))


def fit_novelty(samples: pl.DataFrame, key: str = "key") -> Novelty:
    """Fit the parameters of the Pitman-Yor process to the partitions of the correct samples.

    Parameters
    ----------
    samples : pl.DataFrame
        Columns [problem_id, sample_index, correct: bool, <key>], one row per sample; a key may be null if the
        sample is wrong.
    key : str, default "key"
        Column that is equal for solutions of one class.

    Returns
    -------
    Novelty
        The most likely parameters on a grid. If no problem has two correct samples, the least informative ones: theta
        0, sigma 1/2.

    Raises
    ------
    ValueError
        A missing column, a null, a `correct` that is not Boolean, or a repeated sample.

    Examples
    --------
    >>> columns = {"problem_id": list("pppqqq"), "sample_index": [0, 1, 2] * 2, "key": ["a", "a", "b", "c", "d", "e"]}
    >>> found = fit_novelty(pl.DataFrame(columns).with_columns(correct=True))
    >>> round(found.theta, 2), round(found.sigma, 2)
    (2.4, 0.32)
    """
    patterns = _patterns(samples, key)
    return _fit(patterns, np.ones((1, patterns.height)))[0]


def _fit(patterns: pl.DataFrame, weights: np.ndarray) -> list[Novelty]:
    """Return the most likely grid parameters for each row of `weights` [R, problems].

    For a partition of c into sizes m_1..m_j, log p is log Π_{i=1}^{j-1}(theta + i·sigma) · Π(1 - sigma)_{m-1} /
    (theta + 1)_{c-1}. This is a sum over the parts, so the problems are summed before it is evaluated.
    """
    from scipy.special import gammaln

    told = (patterns["c"] >= 2).to_numpy()
    rows = patterns.filter(pl.Series(told)).with_row_index("row")
    weights = weights[:, told].astype(float)
    theta, sigma = _GRID[:, 0], _GRID[:, 1]
    value = np.tile(-_PULL, (len(weights), 1))
    if rows.height:
        j, c = rows["j"].to_numpy(), rows["c"].to_numpy()
        steps = np.log(theta + np.arange(1, j.max() + 1)[:, None] * sigma)  # [J, grid]
        value += _totals(weights, j, np.vstack([np.zeros((2, len(_GRID))), np.cumsum(steps, axis=0)[:-1]]))
        orders = np.arange(c.max() + 1)[:, None]
        value -= _totals(weights, c, gammaln(theta + np.maximum(orders, 1)) - gammaln(theta + 1))
        sizes = rows.select("row", "m").explode("m")
        m, of = sizes["m"].to_numpy(), sizes["row"].to_numpy()
        orders = np.arange(m.max() + 1)[:, None]
        value += _totals(weights[:, of], m, gammaln(np.maximum(orders, 1) - sigma) - gammaln(1 - sigma))
    return [Novelty(float(theta[at]), float(sigma[at])) for at in value.argmax(axis=1)]


def _totals(weights: np.ndarray, number: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return the sum of weight · table[number], with shape [R, grid]."""
    total = np.zeros((len(weights), len(table)))
    np.add.at(total.T, number, weights.T)
    return total @ table


def _expected(found: Novelty, c: np.ndarray, j: np.ndarray, further: int) -> np.ndarray:
    """Return the expected distinct solutions after 0 to `further` more correct samples, shape [N, further + 1]."""
    theta, sigma = found
    grown = np.empty((c.size, further + 1))
    grown[:, 0] = now = j.astype(float)
    for step in range(further):
        there = c + step
        chance = np.where(there == 0, 1.0, (theta + sigma * now) / np.maximum(theta + there, 1e-12))
        grown[:, step + 1] = now = now + np.clip(chance, 0.0, 1.0)
    return grown


def predict_distinct(
    fits: Sequence[Fit], samples: pl.DataFrame, ks: Iterable[int], key: str = "key", confidence: float = 0.9
) -> pl.DataFrame:
    """Predict the mean number of distinct correct solutions per problem with k samples.

    The interval combines the spread of theta and sigma over bootstrap samples of the problems (Efron 1979) with the
    randomness of the samples still to be drawn.

    Parameters
    ----------
    fits : sequence of Fit
        The fits of the counts of `samples` (see `prediction.fits`).
    samples, key
        As in `fit_novelty`.
    ks, confidence
        As in `prediction.predict_coverage`.

    Returns
    -------
    pl.DataFrame
        [k, value, low, high, n_problems]. If there are no problems, the values are null.

    Raises
    ------
    ValueError
        As from `fit_novelty`, and for k < 1.

    Examples
    --------
    >>> from cos_assets.metrics.prediction import fits
    >>> columns = {"problem_id": list("pppqqq"), "sample_index": [0, 1, 2] * 2, "key": ["a", "a", "b", "c", None, None]}
    >>> samples = pl.DataFrame(columns).with_columns(correct=pl.col("key").is_not_null())
    >>> found = fits(pl.DataFrame({"problem_id": ["p", "q"], "n": 3, "c": [3, 1]}))
    >>> predict_distinct(found, samples, [3, 6]).select("k", pl.col("value").round(1)).rows()
    [(3, 1.5), (6, 2.2)]
    """
    from scipy.special import ndtri

    sizes, patterns = sample_sizes(ks), _patterns(samples, key)
    quantile = ndtri(0.5 + check_confidence(confidence) / 2)
    problems = patterns.height
    if not problems:
        return pl.DataFrame([(int(k), None, None, None, 0) for k in sizes], schema=CURVE, orient="row")
    draws = np.random.default_rng(0).multinomial(problems, np.full(problems, 1 / problems), _RESAMPLES)
    models = _fit(patterns, np.vstack([np.ones(problems), draws]))
    kinds = patterns.group_by("n", "c", "j").len().sort("n", "c", "j")
    n, c, j, weight = (kinds[name].to_numpy() for name in ("n", "c", "j", "len"))
    rows = []
    for k in sizes.tolist():
        seen = _rarefied(patterns, k)
        behind = n < k
        values = np.full(len(models), seen)
        if behind.any():
            chances = further_correct(fits, n[behind], c[behind], k)  # [N, furthest + 1]
            now = float(weight[behind] @ j[behind])
            for at, model in enumerate(models):
                grown = _expected(model, c[behind], j[behind], chances.shape[1] - 1)
                values[at] += float(weight[behind] @ (chances * grown).sum(axis=1)) - now
        value = values[0] / problems
        drawn = max(values[0] - seen, 0.0) / problems**2  # Poisson: the variance of new ones is their mean
        spread = np.sqrt((values[1:].std() / problems) ** 2 + drawn)
        rows.append((k, value, max(0.0, value - quantile * spread), value + quantile * spread, problems))
    return pl.DataFrame(rows, schema=CURVE, orient="row")


def _rarefied(patterns: pl.DataFrame, k: int) -> float:
    """Return the distinct correct solutions among min(k, n) of the existing samples, summed over problems."""
    classes = patterns.select("n", "m").explode("m").drop_nulls("m").group_by("n", "m").len()
    n, m, times = (classes[name].to_numpy().astype(float) for name in ("n", "m", "len"))
    if not times.size:
        return 0.0
    return float(times @ np.where(n <= k, 1.0, coverage_at_k(np.maximum(n, k), m, k)))
