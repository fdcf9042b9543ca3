"""How many different correct solutions more samples will bring, told from a few per problem.

A further correct sample of a problem with c correct ones of j different solutions is a new solution with probability
(theta + sigma·j) / (theta + c): the Pitman-Yor process (Pitman 1995, Probability Theory and Related Fields 102:145),
whose prediction of unseen species is that of Favaro et al. 2009 (J. Royal Statistical Society B 71:993). theta and
sigma are common to all problems, and fitted to the partitions of their correct samples by maximum likelihood. How many
further samples are correct is predicted as in `prediction`; being linear in j, the recursion for the expected number
is exact.

Where it falls short: problems differ in how many ways there are, which one theta and sigma for all do not know, nor
does the interval. On the demo's 400 problems with 4 samples each it missed the different texts by 1 % at 3 times the
pilot and by 6 % at 8 times; the different equations by 9 % and 19 %, always too few.
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


class Novelty(NamedTuple):
    """theta > -sigma and sigma in (0, 1) of the Pitman-Yor process."""

    theta: float
    sigma: float


def _patterns(samples: pl.DataFrame, key: str) -> pl.DataFrame:
    """One row per problem: n samples, c correct ones, j different ones, and `m`, how often each is there, sorted."""
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
    """Fit to `samples` [problem_id, sample_index, correct: bool, <key>]. Where no problem has two correct samples, the
    least informed answer: theta 1, sigma 1/2. ValueError: a missing column, a null, a repeated sample."""
    return _fit(_patterns(samples, key), None)


def _fit(patterns: pl.DataFrame, weights: np.ndarray | None) -> Novelty:
    from scipy.optimize import minimize
    from scipy.special import gammaln

    told = patterns.with_columns(w=pl.Series(np.ones(patterns.height) if weights is None else weights.astype(float)))
    told = told.filter(pl.col("c") >= 2).group_by("c", "j", "m").agg(pl.col("w").sum()).filter(pl.col("w") > 0)
    if not told.height:
        return Novelty(1.0, 0.5)
    told = told.sort("c", "j", "m")
    c, w = told["c"].to_numpy().astype(float), told["w"].to_numpy()
    # log of Π_{i=1}^{j-1}(theta + i·sigma) · Π(1 - sigma)_{m-1} / (theta + 1)_{c-1}
    steps = told.select("j", "w").with_columns(i=pl.int_ranges(1, pl.col("j"))).explode("i").drop_nulls("i")
    steps = steps.group_by("i").agg(pl.col("w").sum()).sort("i")
    i, i_w = steps["i"].to_numpy().astype(float), steps["w"].to_numpy()
    sizes = told.select("m", "w").explode("m").group_by("m").agg(pl.col("w").sum()).sort("m")
    m, m_w = sizes["m"].to_numpy().astype(float), sizes["w"].to_numpy()

    def loss(x: np.ndarray) -> float:
        theta, sigma = _parameters(x)
        new = i_w @ np.log(theta + i * sigma) if i.size else 0.0
        repeated = m_w @ (gammaln(m - sigma) - gammaln(1 - sigma))
        order = w @ (gammaln(theta + c) - gammaln(theta + 1))
        return float(order - new - repeated + (x @ x) / 50)  # a weak pull where there is no maximum

    found = minimize(loss, np.array([0.0, 0.0]), method="L-BFGS-B", bounds=[(-9, 9), (-6, 6)])
    return Novelty(*_parameters(found.x))


def _parameters(x: np.ndarray) -> tuple[float, float]:
    sigma = 1 / (1 + np.exp(-x[1]))
    return float(np.exp(x[0]) - sigma), float(sigma)


def _expected(found: Novelty, c: np.ndarray, j: np.ndarray, further: int) -> np.ndarray:
    """Different solutions once 0 to `further` more correct samples are there; shape [N, further + 1]."""
    theta, sigma = found
    grown = np.empty((c.size, further + 1))
    grown[:, 0] = now = j.astype(float)
    for step in range(further):
        there = c + step
        chance = np.where(there == 0, 1.0, (theta + sigma * now) / np.maximum(theta + there, 1e-12))
        grown[:, step + 1] = now = now + np.clip(chance, 0.0, 1.0)
    return grown


def predict_distinct(
    fits: Sequence[Fit],
    samples: pl.DataFrame,
    ks: Iterable[int],
    key: str = "key",
    confidence: float = 0.9,
    seed: int = 0,
) -> pl.DataFrame:
    """Different correct solutions per problem among k samples in all: frame [k, value, low, high, n_problems].

    `samples` has [problem_id, sample_index, correct: bool, <key>]; `fits` are those of its counts (`prediction.fits`).
    The interval joins the spread of theta and sigma over bootstrap samples of the problems (Efron 1979) with the chance
    in what is still to be drawn. No problem gives nulls. ValueError: as `fit_novelty`; k < 1.
    """
    from scipy.special import ndtri

    sizes, patterns = sample_sizes(ks), _patterns(samples, key)
    quantile = ndtri(0.5 + check_confidence(confidence) / 2)
    problems = patterns.height
    if not problems:
        return pl.DataFrame([(int(k), None, None, None, 0) for k in sizes], schema=CURVE, orient="row")
    draws = np.random.default_rng(seed).multinomial(problems, np.full(problems, 1 / problems), _RESAMPLES)
    models = [_fit(patterns, None), *(_fit(patterns, draw) for draw in draws)]
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
        drawn = max(values[0] - seen, 0.0) / problems**2  # new ones come about as often as their mean says
        spread = np.sqrt((values[1:].std() / problems) ** 2 + drawn)
        rows.append((k, value, max(0.0, value - quantile * spread), value + quantile * spread, problems))
    return pl.DataFrame(rows, schema=CURVE, orient="row")


def _rarefied(patterns: pl.DataFrame, k: int) -> float:
    """Different correct solutions among min(k, n) of the samples that are there, summed over problems."""
    classes = patterns.select("n", "m").explode("m").drop_nulls("m").group_by("n", "m").len()
    n, m, times = (classes[name].to_numpy().astype(float) for name in ("n", "m", "len"))
    if not times.size:
        return 0.0
    return float(times @ np.where(n <= k, 1.0, coverage_at_k(np.maximum(n, k), m, k)))
