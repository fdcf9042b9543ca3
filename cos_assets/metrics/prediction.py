"""Prediction of coverage@k and of the number of correct samples at large k from a pilot with few samples per problem.

The probability p that one sample of a problem is correct differs between problems. It is modeled as Beta(a, b), so c
of n samples are correct with the beta-binomial probability C(n, c)·B(a+c, b+n-c)/B(a, b) (Skellam 1948, J. Royal
Statistical Society B 10:257; for pass@k, arXiv 2510.05197). In the zero-inflated model a share of the problems is
never solved (p = 0). A few samples seldom distinguish the two models, and at large k their predictions differ by
percentage points. A prediction from both is therefore their mixture with weights exp(-BIC/2), where BIC =
parameters·log(problems) - 2·log-likelihood (Schwarz 1978, Annals of Statistics 6:461; Kass & Raftery 1995, JASA
90:773).

The prediction is for the given problems, including the pilot's samples: a solved problem stays solved, and a problem
with 0 of n correct is missed by k - n further samples with probability B(a, b+k)/B(a, b+n). A problem without samples
(n = 0) is a new one of the same kind. The interval is for the count that will be observed after sampling. It combines
two errors: that of the parameters (inverse Hessian of the log-likelihood, delta method) and the randomness of the
samples still to be drawn. It is a score interval (see `intervals`), so it stays within the possible range.

Limitation: the interval is too narrow if some problems are never solved and the pilot is too small to show it. On 500
problems x 4 samples with 5 to 20 % never solved, at 10 times the pilot, the 90 % interval contained the count in 45
to 81 % of 80 simulations (in 1 to 60 % with the chosen model alone).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from cos_assets.metrics.coverage import CURVE, coverage_at_k
from cos_assets.metrics.frames import require_counts, sample_sizes
from cos_assets.metrics.intervals import check_confidence

# Scale of the penalty on log a and log b. It only matters if the likelihood has no maximum (nothing solved, all solved,
# or no spread between problems). Otherwise it moves log a towards 0 by about variance(log a)·log a/9; likewise log b.
_SCALE = 3.0
# Step of the central differences in log a, log b and the logit of the never-solved share.
_STEP = 1e-4


class Fit(NamedTuple):
    """A fitted model: Beta(a, b) for a share 1 - `never` of the problems, and p = 0 for the others; see `fit`.

    Attributes
    ----------
    a, b : float
        Parameters of the beta distribution.
    never : float
        Share of the problems that are never solved; 0 in the plain model.
    bic : float
        Bayesian information criterion, of the likelihood without the penalty.
    covariance : np.ndarray
        Covariance of (log a, log b) or (log a, log b, logit never), shape [2, 2] or [3, 3].
    """

    a: float
    b: float
    never: float
    bic: float
    covariance: np.ndarray

    @property
    def zero_inflated(self) -> bool:
        """Whether the model has a share of problems that are never solved."""
        return len(self.covariance) == 3


def _checked(counts: pl.DataFrame) -> pl.DataFrame:
    """Return the distinct [n, c], sorted, with the number of problems that have them as "len"."""
    require_counts(counts)
    return counts.group_by(pl.col("n").cast(pl.Int64), pl.col("c").cast(pl.Int64)).len().sort("n", "c")


def _parameters(theta: np.ndarray) -> tuple[float, float, float]:
    never = 1 / (1 + np.exp(-theta[2])) if len(theta) == 3 else 0.0
    return float(np.exp(theta[0])), float(np.exp(theta[1])), float(never)


def _theta(fit: Fit) -> np.ndarray:
    logs = [np.log(fit.a), np.log(fit.b)]
    return np.array([*logs, np.log(fit.never / (1 - fit.never))] if fit.zero_inflated else logs)


def _log_likelihood(theta: np.ndarray, n: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log P(this sequence of c hits in n) and its derivatives by theta; shapes [N] and [N, 2 or 3]."""
    from scipy.special import betaln, digamma

    a, b, never = _parameters(theta)
    value = betaln(a + c, b + n - c) - betaln(a, b)
    both = digamma(a + b) - digamma(a + b + n)
    slopes = [a * (digamma(a + c) - digamma(a) + both), b * (digamma(b + n - c) - digamma(b) + both)]
    if len(theta) == 2:
        return value, np.stack(slopes, axis=1)
    alive = np.log1p(-never) + value
    mixed = np.where(c == 0, np.logaddexp(np.log(never), alive), alive)
    share = np.exp(alive - mixed)
    # A problem without a hit is a never-solved one with probability 1 - share.
    return mixed, np.stack([*(share * slope for slope in slopes), 1 - share - never], axis=1)


def fit(counts: pl.DataFrame, zero_inflated: bool = False) -> Fit:
    """Fit the (zero-inflated) beta-binomial model to a pilot by penalized maximum likelihood.

    The penalty is weak: normal with standard deviation 3 on log a and log b, and uniform on the never-solved share. It
    makes the fit exist even if nothing or everything is solved.

    Parameters
    ----------
    counts : pl.DataFrame
        Columns [problem_id, n, c], one row per problem; n may differ between problems and may be 0.
    zero_inflated : bool, default False
        Whether to also fit a share of problems that are never solved.

    Returns
    -------
    Fit
        The parameters with their covariance.

    Raises
    ------
    ValueError
        A missing column, a null, a repeated problem, c outside 0..n, fewer than two problems with samples, or no
        problem with two samples (three if `zero_inflated`), because the spread between problems is then not
        identifiable.

    Examples
    --------
    >>> found = fit(pl.DataFrame({"problem_id": range(5), "n": 4, "c": [0, 0, 1, 2, 4]}))
    >>> round(found.a, 1), round(found.b, 1), found.never
    (0.4, 0.7, 0.0)
    """
    from scipy.optimize import minimize

    pairs = _checked(counts).filter(pl.col("n") > 0)
    n, c, weights = (pairs[name].to_numpy().astype(float) for name in ("n", "c", "len"))
    problems, needed = int(weights.sum()), 3 if zero_inflated else 2
    if problems < 2:
        raise ValueError(f"counts: {problems} problems have samples; a prediction needs at least 2")
    if n.max() < needed:
        raise ValueError(f"counts: at most {int(n.max())} samples per problem; estimating their spread needs {needed}")

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, slopes = _log_likelihood(theta, n, c)
        total, slope = -(weights @ value), -(weights @ slopes)
        total += (theta[:2] @ theta[:2]) / (2 * _SCALE**2)
        slope[:2] += theta[:2] / _SCALE**2
        if zero_inflated:
            never = _parameters(theta)[2]
            total -= np.log(never * (1 - never))
            slope[2] -= 1 - 2 * never
        return total, slope

    # Start from the mean rate and a wide spread, with a quarter of the problems without a hit as never solved.
    mean = (weights @ c + 0.5) / (weights @ n + 1)
    start = [np.log(mean), np.log(1 - mean)]
    if zero_inflated:
        never = 0.25 * (weights @ (c == 0) + 1) / (problems + 1)
        start.append(np.log(never / (1 - never)))
    bounds = [(-15.0, 15.0)] * len(start)
    theta = minimize(loss, np.array(start), jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14}).x
    steps = _STEP * np.eye(len(theta))
    hessian = np.array([(loss(theta + step)[1] - loss(theta - step)[1]) / (2 * _STEP) for step in steps])
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    covariance = (vectors / np.maximum(values, 1 / _SCALE**2)) @ vectors.T
    likelihood = float(weights @ _log_likelihood(theta, n, c)[0])
    bic = len(theta) * np.log(problems) - 2 * likelihood
    return Fit(*_parameters(theta), float(bic), covariance)


def fits(counts: pl.DataFrame) -> list[Fit]:
    """Return the beta-binomial fit, and also the zero-inflated one if some problem has three samples.

    Arguments and errors are those of `fit`.

    Examples
    --------
    >>> found = fits(pl.DataFrame({"problem_id": range(5), "n": 4, "c": [0, 0, 1, 2, 4]}))
    >>> [one.zero_inflated for one in found]
    [False, True]
    """
    plain = fit(counts)
    return [plain, fit(counts, zero_inflated=True)] if (counts["n"] >= 3).any() else [plain]


def weights_of(found: Sequence[Fit]) -> np.ndarray:
    """Return exp(-BIC/2) of each fit, normalized to sum 1; shape [number of fits].

    Examples
    --------
    >>> weights_of(fits(pl.DataFrame({"problem_id": range(5), "n": 4, "c": [0, 0, 1, 2, 4]}))).round(1).tolist()
    [0.7, 0.3]
    """
    bic = np.array([one.bic for one in found])
    share = np.exp((bic.min() - bic) / 2)
    return share / share.sum()


def _log_alive(a: float, b: float, n: np.ndarray) -> np.ndarray:
    """Return the log probability that a problem of Beta(a, b) is missed by n samples."""
    from scipy.special import betaln

    return betaln(a, b + n) - betaln(a, b)


def _solved(theta: np.ndarray, n: np.ndarray, c: np.ndarray, k: int) -> np.ndarray:
    a, b, never = _parameters(theta)
    further = np.maximum(k, n)
    if never:
        missed, before = (
            np.logaddexp(np.log(never), np.log1p(-never) + _log_alive(a, b, size)) for size in (further, n)
        )
        hit = -np.expm1(missed - before)
    else:
        hit = -np.expm1(_log_alive(a, b, further) - _log_alive(a, b, n))
    return np.where(n > k, coverage_at_k(np.maximum(n, k), c, k), np.where(c > 0, 1.0, hit))


def solved_chance(found: Fit, n: Any, c: Any, k: int) -> np.ndarray:
    """Return the probability that a problem is solved with k samples in total.

    Parameters
    ----------
    found : Fit
        One fit.
    n, c : array_like of int
        Number of samples and of correct ones so far, shape [N].
    k : int
        Number of samples in total.

    Returns
    -------
    np.ndarray
        Shape [N]. 1 where c > 0 and n <= k. Where n > k it is the probability among k of the n samples,
        1 - C(n-c, k)/C(n, k).

    Examples
    --------
    >>> found = fit(pl.DataFrame({"problem_id": range(5), "n": 4, "c": [0, 0, 1, 2, 4]}))
    >>> solved_chance(found, [0, 4, 4], [0, 0, 1], 16).round(2).tolist()
    [0.77, 0.43, 1.0]
    """
    return _solved(_theta(found), np.asarray(n, dtype=float), np.asarray(c, dtype=float), k)


def _kept(theta: np.ndarray, n: np.ndarray, c: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and variance of the unknown correct samples among k samples in total, both of shape [N].

    Where n <= k, the c correct samples are known and the k - n further ones are random. Where n > k, all k are
    random: a draw from the n samples without replacement.
    """
    a, b, never = _parameters(theta)
    alive = (1 - never) * np.exp(_log_alive(a, b, n))
    alive = np.where(c > 0, 1.0, alive / (never + alive))
    size, further = a + b + n, np.maximum(k - n, 0)
    p = (a + c) / size
    mean = further * p
    square = further * p * (1 - p) * (size + further) / (size + 1) + mean**2
    few, share = np.maximum(n, 1), c / np.maximum(n, 1)
    drawn = k * share * (1 - share) * (few - k) / np.maximum(few - 1, 1)
    return np.where(n > k, k * share, alive * mean), np.where(n > k, drawn, alive * square - (alive * mean) ** 2)


def _coverage_moments(theta: np.ndarray, weights: np.ndarray, n: np.ndarray, c: np.ndarray, k: int) -> np.ndarray:
    """Return the mean and variance of the number of solved problems."""
    chance = _solved(theta, n, c, k)
    return np.array([weights @ chance, weights @ (chance * (1 - chance))])


def _kept_moments(theta: np.ndarray, weights: np.ndarray, n: np.ndarray, c: np.ndarray, k: int) -> np.ndarray:
    """Return the mean and variance of the number of added correct samples."""
    mean, variance = _kept(theta, n, c, k)
    return np.array([weights @ mean, weights @ variance])


def _interval(
    found: Sequence[Fit], moments: Callable[[np.ndarray], np.ndarray], largest: float, confidence: float
) -> tuple[float, float, float]:
    """Return the value and limits of a count of at most `largest`.

    `moments` returns the mean and variance of the count for given parameters.
    """
    from scipy.special import ndtr

    tail = (1 - check_confidence(confidence)) / 2
    if largest <= 0:
        return 0.0, 0.0, 0.0
    shares, spreads = np.empty(len(found)), np.empty(len(found))
    for i, one in enumerate(found):
        theta = _theta(one)
        mean, variance = moments(theta)
        steps = _STEP * np.eye(len(theta))
        slope = np.array([(moments(theta + step)[0] - moments(theta - step)[0]) / (2 * _STEP) for step in steps])
        spreads[i] = (variance + slope @ one.covariance @ slope) / largest**2
        shares[i] = np.clip(mean / largest, 0.0, 1.0)
    belief = weights_of(found)
    value = float(belief @ shares)
    if spreads.max() < 1e-18 and np.ptp(shares) < 1e-9:
        return largest * value, largest * value, largest * value
    sizes = np.maximum(shares * (1 - shares), 1e-15) / np.maximum(spreads, 1e-18)

    def quantile(level: float) -> float:
        # The score limits are the quantiles of the normal distribution of (x - share)·√(size/x(1-x)). Those of the
        # mixture are found by bisection, because the mixture's probability increases with x.
        low, high = 0.0, 1.0
        for _ in range(60):
            x = (low + high) / 2
            below = belief @ ndtr((x - shares) * np.sqrt(sizes / max(x * (1 - x), 1e-18)))
            low, high = (x, high) if below < level else (low, x)
        return (low + high) / 2

    low, high = min(quantile(tail), value), max(quantile(1 - tail), value)
    return largest * value, largest * low, largest * high


def _sequence(found: Fit | Sequence[Fit]) -> Sequence[Fit]:
    return [found] if isinstance(found, Fit) else found


def _columns(counts: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pairs = _checked(counts)
    weights, n, c = (pairs[name].to_numpy().astype(float) for name in ("len", "n", "c"))
    return weights, n, c


def predict_coverage(
    found: Fit | Sequence[Fit], counts: pl.DataFrame, ks: Iterable[int], confidence: float = 0.9
) -> pl.DataFrame:
    """Predict the share of the given problems that k samples in total solve.

    Parameters
    ----------
    found : Fit or sequence of Fit
        One fit, or several to be mixed (see `fits`).
    counts : pl.DataFrame
        Columns [problem_id, n, c]: the problems of the fit, or additional ones (n = 0 for a problem without samples).
    ks : iterable of int
        Numbers of samples per problem in total.
    confidence : float, default 0.9
        Level of the intervals, which are for the share that will be observed.

    Returns
    -------
    pl.DataFrame
        [k, value, low, high, n_problems]; shares in [0, 1]. If there are no problems, the values are null.

    Raises
    ------
    ValueError
        A missing column, a null, a repeated problem, c outside 0..n, or k < 1.

    Examples
    --------
    >>> counts = pl.DataFrame({"problem_id": range(5), "n": 4, "c": [0, 0, 1, 2, 4]})
    >>> [[k, *(round(x, 2) for x in row)] for k, *row in predict_coverage(fits(counts), counts, [4, 16]).iter_rows()]
    [[4, 0.6, 0.6, 0.6, 5], [16, 0.74, 0.61, 0.95, 5]]
    """
    models, (weights, n, c), rows = _sequence(found), _columns(counts), []
    problems = int(weights.sum())
    for k in sample_sizes(ks).tolist():
        chance = _solved(_theta(models[0]), n, c, k)
        # Independent of the parameters: already solved, or so few wrong samples that any k contain a correct one.
        sure = (c > 0) & ((n <= k) | (chance >= 1))
        left = ~sure
        moments = partial(_coverage_moments, weights=weights[left], n=n[left], c=c[left], k=k)
        limits = _interval(models, moments, float(weights[left].sum()), confidence)
        solved = float(weights[sure].sum())
        rows.append((k, *((solved + x) / problems if problems else None for x in limits), problems))
    return pl.DataFrame(rows, schema=CURVE, orient="row")


def predict_kept(
    found: Fit | Sequence[Fit], counts: pl.DataFrame, ks: Iterable[int], confidence: float = 0.9
) -> pl.DataFrame:
    """Predict the number of correct samples over all given problems with k samples each.

    Parameters and errors are those of `predict_coverage`.

    Returns
    -------
    pl.DataFrame
        [k, value, low, high, n_problems]. The value is a sum over problems, not a mean.

    Examples
    --------
    >>> counts = pl.DataFrame({"problem_id": range(5), "n": 4, "c": [0, 0, 1, 2, 4]})
    >>> [[k, *(round(x, 1) for x in row)] for k, *row in predict_kept(fits(counts), counts, [4, 16]).iter_rows()]
    [[4, 7.0, 7.0, 7.0, 5], [16, 28.2, 20.5, 37.4, 5]]
    """
    models, (weights, n, c), rows = _sequence(found), _columns(counts), []
    problems = int(weights.sum())
    for k in sample_sizes(ks).tolist():
        there = float(weights @ np.where(n > k, 0, c))
        largest = float(weights @ np.where(n > k, k, k - n))
        limits = _interval(models, partial(_kept_moments, weights=weights, n=n, c=c, k=k), largest, confidence)
        rows.append((k, *(there + x if problems else None for x in limits), problems))
    return pl.DataFrame(rows, schema=CURVE, orient="row")


def further_correct(found: Fit | Sequence[Fit], n: Any, c: Any, k: int) -> np.ndarray:
    """Return the probabilities of 0, 1, 2, … correct ones among the further samples from n to k.

    Parameters
    ----------
    found : Fit or sequence of Fit
        One fit, or several to be mixed.
    n, c : array_like of int
        Number of samples and of correct ones so far, shape [N].
    k : int
        Number of samples in total. A problem with n >= k has no further samples.

    Returns
    -------
    np.ndarray
        Shape [N, 1 + maximum number of further samples]; rows sum to 1.

    Examples
    --------
    >>> found = fit(pl.DataFrame({"problem_id": range(5), "n": 4, "c": [0, 0, 1, 2, 4]}))
    >>> further_correct(found, [4, 5], [0, 2], 6).round(2).tolist()
    [[0.85, 0.13, 0.02], [0.61, 0.39, 0.0]]
    """
    from scipy.special import betaln, gammaln

    models = _sequence(found)
    n, c = np.asarray(n, dtype=float)[:, None], np.asarray(c, dtype=float)[:, None]
    further = np.maximum(k - n, 0)
    m = np.arange(int(further.max(initial=0)) + 1)[None, :]
    within = m <= further
    rest = np.where(within, further - m, 0)
    choose_m = gammaln(further + 1) - gammaln(m + 1) - gammaln(rest + 1)
    total = np.zeros(within.shape)
    for one, share in zip(models, weights_of(models), strict=True):
        alive = (1 - one.never) * np.exp(_log_alive(one.a, one.b, n))
        alive = np.where(c > 0, 1.0, alive / (one.never + alive)) if one.never else np.ones_like(n)
        a, b = one.a + c, one.b + n - c
        chance = alive * np.where(within, np.exp(choose_m + betaln(a + m, b + rest) - betaln(a, b)), 0.0)
        total += share * (chance + np.where(m == 0, 1 - alive, 0.0))
    return total
