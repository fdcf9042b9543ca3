"""False positive rate: the share of samples with wrong reasoning among those with a correct final answer.

The rate is defined in Bansal et al. 2024 (arXiv 2408.16737). Samples are drawn and judged individually, but samples
of one problem tend to fail together, so the interval is that of a ratio over problems (see `intervals`). If 500
samples of 300 problems are treated as independent although two samples of a problem correlate by 0.3, the 95 %
interval covers the true rate only 82 % of the time.

A judge also makes errors. If people have labeled some of the judged samples, `corrected_rate` corrects for them. With
the sensitivity s = P(judge wrong | human wrong) and the specificity t = P(judge right | human right), the corrected
rate is (rate + t - 1) / (s + t - 1) (Rogan & Gladen 1978, American Journal of Epidemiology 107:71), clipped to [0, 1].
Its interval is that of Lang & Reiczigel 2014 (Preventive Veterinary Medicine 113:13). It adds z²/2 pseudo-observations
of each kind to the rate and 1 of each kind to s and t. Because samples of a problem are correlated, each share has the
effective sample size of a ratio over problems (see `intervals`). The judged and the labeled samples are treated as
independent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from cos_assets.metrics.frames import by_columns, by_group, require, require_bool
from cos_assets.metrics.intervals import Interval, check_confidence, ratio_interval

LEAST_READ = 0.5
"""Minimum share of the correct samples with a readable verdict: unreadable samples differ from readable ones."""

_RATE = {
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_problems": pl.Int64,
    "n_samples": pl.Int64,
    "n_unread": pl.Int64,
}


def false_positive_sums(judged: pl.DataFrame) -> pl.DataFrame:
    """Return the number of samples judged wrong and judged at all per problem.

    Parameters
    ----------
    judged : pl.DataFrame
        Columns [problem_id, wrong_reasoning: bool], one row per judged correct sample; null where the verdict could not
        be read. With a column `weight`, the sums are of weights: the weight is the number of samples of its problem
        that a row represents if not all were judged.

    Returns
    -------
    pl.DataFrame
        [problem_id, numerator, denominator], sorted, without unread rows.

    Raises
    ------
    ValueError
        A missing column, a null in problem_id or weight, or a wrong_reasoning that is not Boolean.

    Examples
    --------
    >>> judged = pl.DataFrame({"problem_id": ["p", "p", "q", "r"], "wrong_reasoning": [True, False, False, None]})
    >>> false_positive_sums(judged).rows()
    [('p', 1, 2), ('q', 0, 1)]
    """
    weighted = "weight" in judged.columns
    require(judged, ["problem_id", "wrong_reasoning", *["weight"] * weighted], "judged", nulls=["wrong_reasoning"])
    require_bool(judged, "wrong_reasoning", "judged")
    read = judged.filter(pl.col("wrong_reasoning").is_not_null()).sort("problem_id")
    weight = pl.col("weight") if weighted else pl.lit(1, pl.Int64)
    return read.group_by("problem_id", maintain_order=True).agg(
        (pl.col("wrong_reasoning") * weight).sum().alias("numerator"),
        (pl.col("wrong_reasoning").is_not_null() * weight).sum().alias("denominator"),
    )


def false_positive_rate(judged: pl.DataFrame, confidence: float = 0.95) -> Interval:
    """Return the share of judged correct samples with wrong reasoning, with an interval clustered by problem.

    If no reasoning is wrong (or all is), the data do not show how correlated the samples of a problem are. The interval
    is then that of one sample per problem.

    Parameters
    ----------
    judged : pl.DataFrame
        As in `false_positive_sums`.
    confidence : float, default 0.95
        Level of the interval.

    Returns
    -------
    Interval
        A share in [0, 1]; `n` is the number of problems.

    Raises
    ------
    ValueError
        As from `false_positive_sums`.

    References
    ----------
    Bansal et al. 2024, arXiv 2408.16737 (the rate); see `intervals` for the interval.

    Examples
    --------
    >>> judged = pl.DataFrame({"problem_id": range(20), "wrong_reasoning": [True] * 2 + [False] * 18})
    >>> [round(x, 2) for x in false_positive_rate(judged)]
    [0.1, 0.03, 0.32, 20]
    """
    sums = false_positive_sums(judged)
    return ratio_interval(sums["numerator"].to_numpy(), sums["denominator"].to_numpy(), confidence)


def false_positives(
    judged: pl.DataFrame, confidence: float = 0.95, by: str | Sequence[str] | None = None
) -> pl.DataFrame:
    """Return the false positive rate per group.

    Parameters
    ----------
    judged : pl.DataFrame
        As in `false_positive_sums`, with the columns of `by`.
    confidence : float, default 0.95
        Level of the intervals.
    by : str or sequence of str, optional
        Group columns; they may have nulls.

    Returns
    -------
    pl.DataFrame
        [*by, value, low, high, n_problems, n_samples, n_unread], one row per group. n_samples is the number of samples
        in the rate. n_unread is the number of samples without a readable verdict. Empty input gives an empty frame.

    Raises
    ------
    ValueError
        As from `false_positive_sums`.

    Examples
    --------
    >>> judged = pl.DataFrame({"problem_id": ["p", "p", "q", "r"], "wrong_reasoning": [True, False, False, None]})
    >>> judged = judged.with_columns(model=pl.lit("wc"))
    >>> false_positives(judged, by="model").select("model", "n_problems", "n_samples", "n_unread").rows()
    [('wc', 2, 3, 1)]
    """
    keys = by_columns(by)
    require(judged, [*keys, "problem_id", "wrong_reasoning"], "judged", nulls=[*keys, "wrong_reasoning"])

    def rate(rows: pl.DataFrame) -> pl.DataFrame:
        unread = rows["wrong_reasoning"].null_count()
        numbers = [*false_positive_rate(rows, confidence), rows.height - unread, unread]
        return pl.DataFrame([numbers], schema=_RATE, orient="row").with_columns(pl.col(pl.Float64).fill_nan(None))

    return by_group(judged, keys, _RATE, rate)


def corrected_rate(judged: pl.DataFrame, labelled: pl.DataFrame, confidence: float = 0.95) -> Interval:
    """Return the rate that an error-free judge would have found; the interval includes the judge's errors.

    See the module docstring for the estimator and its sources.

    Parameters
    ----------
    judged : pl.DataFrame
        As in `false_positive_sums`.
    labelled : pl.DataFrame
        Columns [problem_id, judge: bool, human: bool], one row per sample that both have read; True means wrong
        reasoning. The samples must be selected without looking at the judge's verdicts.
    confidence : float, default 0.95
        Level of the interval.

    Returns
    -------
    Interval
        `n` is the number of judged problems. If people found no right or no wrong reasoning, or if the judge is no
        better than chance, the value is NaN and the interval is [0, 1].

    Raises
    ------
    ValueError
        A missing column, a null, or a column of another type.

    Examples
    --------
    >>> judged = pl.DataFrame({"problem_id": range(100), "wrong_reasoning": [True] * 30 + [False] * 70})
    >>> judge, human = [True] * 9 + [False] * 11, [True] * 8 + [False, True] + [False] * 10
    >>> labelled = pl.DataFrame({"problem_id": range(20), "judge": judge, "human": human})
    >>> [round(x, 2) for x in corrected_rate(judged, labelled)]
    [0.26, 0.0, 0.48, 100]
    """
    from scipy.special import ndtri

    require(labelled, ["problem_id", "judge", "human"], "labelled")
    for name in ("judge", "human"):
        require_bool(labelled, name, "labelled")
    z = float(ndtri(0.5 + check_confidence(confidence) / 2))
    human, judge = pl.col("human"), pl.col("judge")
    rate, size, n = _share(false_positive_sums(judged))
    caught, of_wrong, _ = _share(_hits(labelled.filter(human), judge))
    passed, of_right, _ = _share(_hits(labelled.filter(~human), ~judge))
    unknown = Interval(np.nan, 0.0, 1.0, n)
    if min(n, of_wrong, of_right) <= 0 or caught + passed <= 1:
        return unknown
    value = float(np.clip((rate + passed - 1) / (caught + passed - 1), 0.0, 1.0))
    p, m = (size * rate + z * z / 2) / (size + z * z), size + z * z
    s, m_s = (of_wrong * caught + 1) / (of_wrong + 2), of_wrong + 2
    t, m_t = (of_right * passed + 1) / (of_right + 2), of_right + 2
    informed = s + t - 1
    if informed <= 0:
        return unknown
    true = (p + t - 1) / informed
    shift = 2 * z * z * (true * s * (1 - s) / m_s - (1 - true) * t * (1 - t) / m_t)
    variance = p * (1 - p) / m + true**2 * s * (1 - s) / m_s + (1 - true) ** 2 * t * (1 - t) / m_t
    half = z * np.sqrt(variance) / informed
    # Keep the clipped estimate inside its own interval.
    low = min(value, float(np.clip(true + shift - half, 0.0, 1.0)))
    return Interval(value, low, max(value, float(np.clip(true + shift + half, 0.0, 1.0))), n)


def _hits(labelled: pl.DataFrame, hit: pl.Expr) -> pl.DataFrame:
    sums = labelled.group_by("problem_id").agg(numerator=hit.sum().cast(pl.Int64), denominator=pl.len().cast(pl.Int64))
    return sums.sort("problem_id")


def _share(sums: pl.DataFrame) -> tuple[float, float, int]:
    """Return Σy / Σx over problems, its effective sample size p(1-p)/variance (Kish 1965), and their number."""
    y, x = (sums[name].to_numpy().astype(float) for name in ("numerator", "denominator"))
    n = len(x)
    if not n:
        return np.nan, 0.0, 0
    share = float(y.sum() / x.sum())
    variance = n / max(n - 1, 1) * float(((y - share * x) ** 2).sum()) / float(x.sum()) ** 2
    # All values equal: the correlation within problems is unknown, so each problem counts as one observation.
    return share, share * (1 - share) / variance if variance > 1e-24 else float(n), n
