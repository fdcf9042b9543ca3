"""Coverage@k (pass@k): the probability that at least one of k samples of a problem is correct.

With n samples of which c are correct, a draw of k samples without replacement contains no correct one with
probability C(n-c, k) / C(n, k). One minus that is the unbiased estimator of Chen et al. 2021 (arXiv 2107.03374,
section 2.1). The metric is its mean over problems (Bansal et al. 2024, arXiv 2408.16737).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from cos_assets.metrics.frames import by_columns, by_group, require, require_bool, require_counts, sample_sizes
from cos_assets.metrics.intervals import SHARE, Columns, ratio_columns

# Number of factors multiplied out one by one. It keeps the arguments of Stirling's series at least this large.
_PEELED = 8
# B(2i) / (2i (2i-1)), i = 1..7: Stirling's series of log x!, accurate to 1e-16 for x >= 8.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
# Maximum number of values per array while a curve is computed (8 MB).
_BLOCK = 1 << 20
CURVE = {"k": pl.Int64, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "n_problems": pl.Int64}


def _stirling_error(x: np.ndarray) -> np.ndarray:
    """Return log x! minus ((x + 1/2) log x - x + log(2π)/2)."""
    inverse = 1 / x
    square = inverse * inverse
    total = np.full_like(x, _STIRLING[-1])
    for coefficient in reversed(_STIRLING[:-1]):
        total = total * square + coefficient
    return total * inverse


def _evaluate(n: np.ndarray, c: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Return 1 - C(n-c, k)/C(n, k) for float arrays of one shape.

    The quotient is symmetric in c and k: Π (n - j - b)/(n - j) for j = 0..a-1, where a is the smaller and b the
    larger of the two. The last few factors are multiplied out; there, 1 - Π is summed from positive terms. The
    remaining factors are the exponential of a difference of four log-factorials. The formula is arranged so that
    their large parts cancel algebraically and not in floating point (plain lgamma has a relative error of 2e-4 at n =
    1e6, c = k = 1).
    """
    certain = c + k > n
    a = np.minimum(c, k)
    b = np.maximum(c, k)
    plain = certain | (a == 0)
    a, b, n_ = np.where(plain, 1.0, a), np.where(plain, 1.0, b), np.where(plain, 2.0, n)
    rest = np.maximum(a - _PEELED, 0.0)
    peeled, hit = np.ones_like(n_), np.zeros_like(n_)
    for i in range(_PEELED):
        left = n_ - rest - i
        inside = rest + i < a
        left = np.where(inside, left, 1.0)
        drawn = np.where(inside, b, 0.0)
        hit += (1.0 - hit) * (drawn / left)
        peeled *= (left - drawn) / left
    unhit = n_ - rest - b
    share = b / n_
    log_rest = rest * np.where(share < 0.5, np.log1p(-np.minimum(share, 0.5)), np.log((n_ - b) / n_))
    log_rest += b * np.log1p(-rest / n_)
    log_rest += (unhit + 0.5) * np.log1p((rest / n_) * (b / unhit))
    at_rest, at_none = _stirling_error(n_ - rest), _stirling_error(n_)
    log_rest += (at_rest - at_none) + (_stirling_error(n_ - b) - _stirling_error(unhit))
    quotient = peeled * np.exp(log_rest)
    # Use whichever form is accurate: 1 minus a small quotient, or the sum of positive terms.
    covered = np.where(quotient < 0.5, 1.0 - quotient, hit - peeled * np.expm1(log_rest))
    return np.where(n < k, np.nan, np.where(plain, certain, covered))


def coverage_at_k(n: Any, c: Any, k: Any) -> np.ndarray:
    """Return coverage@k, 1 - C(n-c, k)/C(n, k), with a relative error below 1e-12 even where the result is tiny.

    That holds for counts of 1e6 and more.

    Parameters
    ----------
    n, c, k : array_like of int
        Number of samples, number of correct ones, and number of samples drawn. They broadcast together.

    Returns
    -------
    np.ndarray
        Probabilities in [0, 1], in the common shape; NaN where n < k.

    Raises
    ------
    ValueError
        c < 0, c > n, k < 1, or a value that is not a whole number.

    References
    ----------
    Chen et al. 2021, arXiv 2107.03374, section 2.1 (the unbiased estimator).

    Examples
    --------
    >>> coverage_at_k(10, [0, 1, 5], [[1], [10]]).tolist()
    [[0.0, 0.1, 0.5], [0.0, 1.0, 1.0]]
    """
    arrays = [np.asarray(values) for values in (n, c, k)]
    for name, values in zip("nck", arrays, strict=True):
        whole = values.dtype.kind in "iu" or (
            values.dtype.kind == "f" and np.all(np.isfinite(values) & (values == np.floor(values)))
        )
        if not whole:
            raise ValueError(f"{name} has values of type {values.dtype}; allowed are whole numbers")
    total, correct, size = arrays
    if correct.size and correct.min() < 0:
        raise ValueError(f"c is {correct.min()}; allowed are whole numbers of at least 0")
    if size.size and size.min() < 1:
        raise ValueError(f"k is {size.min()}; allowed are whole numbers of at least 1")
    wrong = np.broadcast_arrays(total, correct, correct > total)
    if wrong[2].any():
        raise ValueError(f"c is {wrong[1][wrong[2]][0]} of n = {wrong[0][wrong[2]][0]}; allowed is 0 <= c <= n")
    # nditer broadcasts without copies and yields flat chunks that fit the processor's cache.
    walk = np.nditer(
        [*arrays, None],
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_flags=[["readonly"], ["readonly"], ["readonly"], ["writeonly", "allocate"]],
        op_dtypes=[np.float64] * 4,
        casting="same_kind",
        buffersize=1 << 13,
    )
    with walk:
        if walk.itersize:
            for n_, c_, k_, out in walk:
                out[...] = _evaluate(n_, c_, k_)
        return walk.operands[3]


def count_correct(samples: pl.DataFrame, by: str | Sequence[str] | None = None) -> pl.DataFrame:
    """Return the number of samples and of correct samples per problem.

    Parameters
    ----------
    samples : pl.DataFrame
        Columns [*by, problem_id, correct: bool], one row per sample. Columns of `by` may have nulls.
    by : str or sequence of str, optional
        Group columns.

    Returns
    -------
    pl.DataFrame
        [*by, problem_id, n: Int64, c: Int64], sorted. A problem without samples has no row. Add a row with n = 0 to
        keep it in the table; it is then not counted at any k.

    Raises
    ------
    ValueError
        A column is missing or has a null, or `correct` is not Boolean.

    Examples
    --------
    >>> count_correct(pl.DataFrame({"problem_id": ["p", "p", "q"], "correct": [True, False, False]})).rows()
    [('p', 2, 1), ('q', 1, 0)]
    """
    keys = [*by_columns(by), "problem_id"]
    require(samples, [*keys, "correct"], "samples", nulls=by_columns(by))
    require_bool(samples, "correct", "samples")
    counted = samples.group_by(keys).agg(
        pl.len().cast(pl.Int64).alias("n"), pl.col("correct").sum().cast(pl.Int64).alias("c")
    )
    return counted.sort(keys)


def solved_curve(counts: pl.DataFrame, ks: Iterable[int]) -> pl.DataFrame:
    """Return the coverage of every problem at every k.

    Parameters
    ----------
    counts : pl.DataFrame
        Columns [problem_id, n, c], one row per problem, for example from `count_correct`.
    ks : iterable of int
        Numbers of samples drawn.

    Returns
    -------
    pl.DataFrame
        [problem_id, k, value], sorted by problem_id and k; value is null where n < k. The rows of one k are valid input
        for `differences.paired_difference`.

    Raises
    ------
    ValueError
        As from `coverage`.

    Examples
    --------
    >>> solved_curve(pl.DataFrame({"problem_id": ["p", "q"], "n": [4, 2], "c": [1, 0]}), [1, 4]).rows()
    [('p', 1, 0.25), ('p', 4, 1.0), ('q', 1, 0.0), ('q', 4, None)]
    """
    sizes = sample_sizes(ks)
    require_counts(counts)
    rows = counts.sort("problem_id")
    values = coverage_at_k(rows["n"].to_numpy()[:, None], rows["c"].to_numpy()[:, None], sizes[None, :])
    return pl.DataFrame(
        {
            "problem_id": rows["problem_id"].gather(np.repeat(np.arange(rows.height), sizes.size)),
            "k": np.tile(sizes, rows.height),
            "value": pl.Series(values.ravel(), dtype=pl.Float64).fill_nan(None),
        }
    )


def coverage(
    counts: pl.DataFrame, ks: Iterable[int], confidence: float = 0.95, by: str | Sequence[str] | None = None
) -> pl.DataFrame:
    """Return the mean coverage@k over problems, with the score interval of `intervals.mean_interval`.

    Parameters
    ----------
    counts : pl.DataFrame
        Columns [*by, problem_id, n, c], one row per problem (and group), for example from `count_correct`. n may differ
        between problems: at each k only problems with n >= k count.
    ks : iterable of int
        Numbers of samples drawn.
    confidence : float, default 0.95
        Level of the intervals.
    by : str or sequence of str, optional
        Group columns.

    Returns
    -------
    pl.DataFrame
        [*by, k, value, low, high, n_problems], sorted; shares in [0, 1]. n_problems is the number of problems with n >=
        k; if there are none, the values are null. Empty input gives an empty frame.

    Raises
    ------
    ValueError
        A missing column, a null, a repeated problem, c outside 0..n, or k < 1.

    Examples
    --------
    >>> counts = pl.DataFrame({"problem_id": ["p", "q", "r"], "n": [4, 4, 4], "c": [2, 1, 0]})
    >>> [[k, *(round(x, 2) for x in row)] for k, *row in coverage(counts, [1, 4]).iter_rows()]
    [[1, 0.25, 0.03, 0.81, 3], [4, 0.67, 0.04, 0.99, 3]]
    """
    keys, sizes = by_columns(by), sample_sizes(ks)
    require_counts(counts, keys)
    return by_group(counts, keys, CURVE, partial(_mean_curve, sizes=sizes, confidence=confidence))


def curve_frame(sizes: np.ndarray, parts: Sequence[Columns]) -> pl.DataFrame:
    """Concatenate the columns of consecutive k to one frame.

    Parameters
    ----------
    sizes : np.ndarray
        All k, shape [K].
    parts : sequence of Columns
        The metrics at consecutive chunks of `sizes` (see `blocks`); their lengths add up to K.

    Returns
    -------
    pl.DataFrame
        [k, value, low, high, n_problems], K rows, with the schema `CURVE`; NaN becomes null.

    Examples
    --------
    >>> one = Columns(*(np.array([x]) for x in (0.5, np.nan, np.nan, 1)))
    >>> curve_frame(np.array([1, 2]), [one, one]).rows()
    [(1, 0.5, None, None, 1), (2, 0.5, None, None, 1)]
    """
    stacked = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)] if parts else [np.empty(0)] * 4
    named = dict(zip(("value", "low", "high", "n_problems"), stacked, strict=True))
    return pl.DataFrame({"k": sizes, **named}, schema=CURVE).with_columns(pl.col(pl.Float64).fill_nan(None))


def blocks(rows: int, sizes: np.ndarray) -> Iterable[np.ndarray]:
    """Split `sizes` [K] into consecutive chunks, such that an array of `rows` x chunk has at most about 2**20 values.

    A chunk has at least one entry, whatever `rows` is.

    Examples
    --------
    >>> [chunk.tolist() for chunk in blocks(2**19, np.arange(1, 6))]
    [[1, 2], [3, 4], [5]]
    """
    step = max(1, _BLOCK // max(rows, 1))
    return (sizes[start : start + step] for start in range(0, sizes.size, step))


def _mean_curve(rows: pl.DataFrame, sizes: np.ndarray, confidence: float) -> pl.DataFrame:
    # Problems with equal counts have equal values: compute each once and weight it by the number of problems.
    distinct = rows.group_by("n", "c").len().sort("n", "c")
    n, c, problems = (distinct[name].to_numpy() for name in ("n", "c", "len"))
    parts = []
    for piece in blocks(distinct.height, sizes):
        values = coverage_at_k(n[:, None], c[:, None], piece[None, :])
        parts.append(ratio_columns(values, np.isfinite(values).astype(float), problems, confidence, SHARE))
    return curve_frame(sizes, parts)
