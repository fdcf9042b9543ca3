"""Agreement of two raters beyond chance: Cohen's kappa (Cohen 1960, Educational and Psychological Measurement 20:37).

The variance is that of the linearized kappa. Its terms are first summed within problems, because samples of one
problem are correlated: M/(M-1) · Σ(Σu)² / N² for M problems and N samples. With one sample per problem this equals
the variance of Fleiss, Cohen & Everitt 1969 (Psychological Bulletin 72:323), except for the factor M/(M-1). The
limits are kappa ± Student's t quantile with M - 1 degrees of freedom, clipped to [-1, 1]. If the raters agree on all
samples, this variance is 0. The lower limit is then the kappa at the lower Wilson limit of the agreement in M
problems, with the chance agreement unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import polars as pl

from cos_assets.metrics.frames import require, require_unique
from cos_assets.metrics.intervals import Interval, score_limits, t_quantile

_PAIR = {
    "a": pl.String,
    "b": pl.String,
    "n_samples": pl.Int64,
    "n_problems": pl.Int64,
    "undecided": pl.Int64,
    "agree": pl.Float64,
    "kappa": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "right_right": pl.Int64,
    "right_wrong": pl.Int64,
    "wrong_right": pl.Int64,
    "wrong_wrong": pl.Int64,
}
_DECIDED = ["right", "wrong"]
_SAMPLE = ("model", "problem_id", "sample_index")


def kappa(pairs: pl.DataFrame, confidence: float = 0.95) -> Interval:
    """Return Cohen's kappa of two raters, with an interval clustered by problem.

    See the module docstring for the estimator and its sources.

    Parameters
    ----------
    pairs : pl.DataFrame
        Columns [problem_id, a, b], one row per sample; a and b are the labels of the two raters. Any labels are
        allowed, and samples without a decision must be removed before the call.
    confidence : float, default 0.95
        Level of the interval.

    Returns
    -------
    Interval
        Limits are within [-1, 1]; `n` is the number of problems. All values are NaN if there are no rows, or if chance
        agreement is 1, that is, if both raters gave the same single label to all samples.

    Raises
    ------
    ValueError
        A column is missing or has a null.

    Examples
    --------
    >>> pairs = pl.DataFrame({"problem_id": range(8), "a": list("rrrrwwww"), "b": list("rrrwrwww")})
    >>> [round(x, 2) for x in kappa(pairs)]
    [0.5, -0.27, 1.0, 8]
    """
    require(pairs, ["problem_id", "a", "b"], "pairs")
    if not pairs.height:
        return Interval(np.nan, np.nan, np.nan, 0)
    a, b = (pairs[name].cast(pl.String).to_numpy() for name in ("a", "b"))
    kinds, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    left, right = codes[: len(a)], codes[len(a) :]
    share_a, share_b = (np.bincount(side, minlength=len(kinds)) / len(a) for side in (left, right))
    agree = (left == right).astype(float)
    observed, chance = agree.mean(), float(share_a @ share_b)
    _, problems = np.unique(pairs["problem_id"].to_numpy(), return_inverse=True)
    n = int(problems.max()) + 1
    if chance >= 1 - 1e-12:
        return Interval(np.nan, np.nan, np.nan, n)
    value = float((observed - chance) / (1 - chance))
    quantile = t_quantile(np.array(n), confidence)
    if observed == 1:
        least = score_limits(np.array(1.0), np.array(float(n)), quantile)[0]
        return Interval(1.0, float((least - chance) / (1 - chance)), 1.0 if n > 1 else np.nan, n)
    by_chance = share_b[left] + share_a[right] - 2 * chance
    terms = (agree - observed) / (1 - chance) - (1 - observed) / (1 - chance) ** 2 * by_chance
    sums = np.bincount(problems, weights=terms)
    half = quantile * np.sqrt(n / max(n - 1, 1) * (sums @ sums)) / len(a)
    return Interval(value, float(np.maximum(value - half, -1)), float(np.minimum(value + half, 1)), n)


def agreement(opinions: pl.DataFrame, humans: Sequence[str], confidence: float = 0.95) -> pl.DataFrame:
    """Return the agreement of every pair of raters with at least one of `humans`, over the samples that both decided.

    Parameters
    ----------
    opinions : pl.DataFrame
        Columns [model, problem_id, sample_index, rater, label], one row per rater and sample. A label other than
        "right" or "wrong" is undecided.
    humans : sequence of str
        Names of the raters that are people. They come first in a pair.
    confidence : float, default 0.95
        Level of the interval of kappa.

    Returns
    -------
    pl.DataFrame
        [a, b, n_samples, n_problems, undecided, agree, kappa, low, high] and the confusion table: `right_wrong` is the
        number of samples that a calls right and b calls wrong. `undecided` counts the samples that at least one of the
        two left undecided; the other columns do not include them. Pairs without a common sample are omitted.

    Raises
    ------
    ValueError
        A column is missing or has a null, or a rater has two labels for a sample.

    Examples
    --------
    >>> labels = {"ann": ["right", "right", "wrong"], "judge": ["right", "wrong", "unreadable"]}
    >>> samples = pl.DataFrame({"model": "wc", "problem_id": ["p", "q", "r"], "sample_index": 0})
    >>> parts = [samples.with_columns(rater=pl.lit(name), label=pl.Series(given)) for name, given in labels.items()]
    >>> table = agreement(pl.concat(parts), humans=["ann"])
    >>> table.select("a", "b", "n_samples", "undecided", "agree", "right_wrong").row(0)
    ('ann', 'judge', 2, 1, 0.5, 1)
    """
    require(opinions, [*_SAMPLE, "rater", "label"], "opinions")
    require_unique(opinions, ["rater", *_SAMPLE], "opinions")
    raters = sorted(opinions["rater"].unique(), key=lambda rater: (rater not in humans, rater))
    by_rater = {r: opinions.filter(pl.col("rater") == r).select(*_SAMPLE, "label") for r in raters}
    rows = []
    for a, b in combinations(raters, 2):
        if a not in humans:
            continue
        both = by_rater[a].rename({"label": "a"}).join(by_rater[b].rename({"label": "b"}), on=_SAMPLE)
        if not both.height:
            continue
        decided = both.filter(pl.col("a").is_in(_DECIDED), pl.col("b").is_in(_DECIDED))
        found = kappa(decided, confidence)
        table = [
            decided.filter(pl.col("a") == x, pl.col("b") == y).height
            for x in ("right", "wrong")
            for y in ("right", "wrong")
        ]
        share = (table[0] + table[3]) / decided.height if decided.height else None
        counts = [decided.height, decided["problem_id"].n_unique(), both.height - decided.height]
        rows.append([a, b, *counts, share, *found[:3], *table])
    return pl.DataFrame(rows, schema=_PAIR, orient="row").with_columns(pl.col(pl.Float64).fill_nan(None))
