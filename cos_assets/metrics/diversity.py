"""Diversity@k: the number of distinct correct solutions among k samples of a problem.

A problem with n samples has correct classes j of m_j samples each. A class is given by a key: a solution text (exact
or normalized) or a list of canonical equations. For k samples drawn without replacement, the expected number of
distinct correct classes is Σ_j (1 - C(n-m_j, k)/C(n, k)). Each term is the estimator of Chen et al. 2021 (arXiv
2107.03374) with the class in place of "correct", so the sum is unbiased for the expected number among k fresh samples
(the rarefaction curve of Hurlbert 1971, Ecology 52:577). Without de-duplication it is k·c/n.

There are two denominators (Bansal et al. 2024, arXiv 2408.16737, figure 3b):

* "all": the mean over all problems;
* "solved": the sum over problems divided by the expected number of solved problems, k·pass@1/coverage@k without
  de-duplication. The values plotted in the paper are of this kind and agree with distinct = "none".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from cos_assets.metrics.coverage import CURVE, blocks, coverage_at_k, curve_frame
from cos_assets.metrics.frames import (
    by_columns,
    by_group,
    require,
    require_bool,
    require_unique,
    sample_sizes,
)
from cos_assets.metrics.intervals import ratio_columns

EXACT = {"exact": "key"}
_PER_PROBLEM = {"k": pl.Int64, "numerator": pl.Float64, "denominator": pl.Float64}


def _classes(samples: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return [problem_id, <key>, m: Int64], the number of samples of each correct class; unsorted."""
    correct = samples.filter("correct").select("problem_id", key)
    if unkeyed := correct[key].null_count():
        raise ValueError(f"samples: {unkeyed} of {correct.height} correct samples have no {key}")
    # With millions of texts, the streaming engine needs half the time and memory of the in-memory engine.
    groups_of = correct.lazy().group_by("problem_id", key).agg(pl.len().cast(pl.Int64).alias("m"))
    return groups_of.collect(engine="streaming")


def _curves(
    samples: pl.DataFrame, sizes: np.ndarray, key: str | None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield chunks of `sizes` with the expected (distinct) correct samples and the chance of being solved.

    Both arrays have shape [N, K], with problems sorted by id; they are NaN where n < k.
    """
    from scipy.sparse import csr_array

    problems = samples.group_by("problem_id").agg(pl.len().alias("n"), pl.col("correct").sum().alias("c"))
    problems = problems.sort("problem_id").with_row_index("row")
    # Few (n, c) and (n, m) pairs are distinct, so each is evaluated once for all problems that have it.
    solved = problems.select("n", "c").unique().sort("n", "c").with_row_index("pair")
    of_problem = problems.join(solved, on=["n", "c"]).sort("row")["pair"].to_numpy()
    largest = problems.height
    total, correct = (solved[name].cast(pl.Int64).to_numpy()[:, None] for name in ("n", "c"))
    if key is not None:
        grouped = _classes(samples, key).group_by("problem_id", "m").agg(pl.len().alias("times"))
        classes = grouped.join(problems.select("problem_id", "row", "n"), on="problem_id")
        pairs = classes.select("n", "m").unique().sort("n", "m").with_row_index("column")
        classes = classes.join(pairs, on=["n", "m"]).sort("row", "column")
        entries = classes["times"].cast(pl.Float64).to_numpy()
        places = (classes["row"].to_numpy(), classes["column"].to_numpy())
        share = csr_array((entries, places), shape=(problems.height, pairs.height))
        class_n, class_m = (pairs[name].cast(pl.Int64).to_numpy()[:, None] for name in ("n", "m"))
        largest = max(largest, pairs.height)
    for piece in blocks(largest, sizes):
        per_pair = coverage_at_k(total, correct, piece[None, :])
        chance = per_pair[of_problem]
        if key is None:
            counted = (np.where(np.isnan(per_pair), np.nan, piece * (correct / np.maximum(total, 1))))[of_problem]
        else:
            counted = np.where(np.isnan(chance), np.nan, share @ coverage_at_k(class_n, class_m, piece[None, :]))
        yield piece, counted, chance


def _checked(samples: pl.DataFrame, by: Sequence[str], keys: Sequence[str]) -> pl.DataFrame:
    needed = [*by, "problem_id", "sample_index", "correct", *keys]
    require(samples, needed, "samples", nulls=[*by, *keys])
    require_bool(samples, "correct", "samples")
    require_unique(samples, [*by, "problem_id", "sample_index"], "samples")
    return samples.select(list(dict.fromkeys(needed)))


def diversity_curve(samples: pl.DataFrame, ks: Iterable[int], key: str | None = "key") -> pl.DataFrame:
    """Return the diversity of every problem at every k.

    Parameters
    ----------
    samples : pl.DataFrame
        Columns [problem_id, sample_index, correct: bool, <key>], one row per sample.
    ks : iterable of int
        Numbers of samples drawn.
    key : str or None, default "key"
        Column of the classes. None counts correct samples without de-duplication.

    Returns
    -------
    pl.DataFrame
        [problem_id, k, numerator, denominator], sorted. `numerator` is the expected number of distinct correct
        solutions, `denominator` the chance of being solved; both are null where n < k. The
        numerators of one k, renamed to "value", are valid input for `differences.paired_difference(..., bounds=None)`.

    Raises
    ------
    ValueError
        As from `diversity`.

    Examples
    --------
    >>> samples = pl.DataFrame({"problem_id": "p", "sample_index": range(3), "correct": True, "key": ["a", "a", "b"]})
    >>> [[k, round(count, 2), solved] for _, k, count, solved in diversity_curve(samples, [1, 2, 3]).iter_rows()]
    [[1, 1.0, 1.0], [2, 1.67, 1.0], [3, 2.0, 1.0]]
    """
    sizes = sample_sizes(ks)
    _checked(samples, [], [key] if key else [])
    problems = samples.select(pl.col("problem_id").unique().sort())
    parts = [
        problems.clear().with_columns(pl.lit(None, dtype=dtype).alias(name) for name, dtype in _PER_PROBLEM.items())
    ]
    for piece, counted, chance in _curves(samples, sizes, key) if samples.height else ():
        values = {
            "k": np.tile(piece, problems.height),
            "numerator": counted.ravel(),
            "denominator": chance.ravel(),
        }
        repeated = problems[np.repeat(np.arange(problems.height), piece.size)]
        parts.append(repeated.hstack(pl.DataFrame(values, schema=_PER_PROBLEM)))
    return pl.concat(parts).with_columns(pl.col("numerator", "denominator").fill_nan(None)).sort("problem_id", "k")


def diversity(
    samples: pl.DataFrame,
    ks: Iterable[int],
    confidence: float = 0.95,
    by: str | Sequence[str] | None = None,
    keys: Mapping[str, str] = EXACT,
) -> pl.DataFrame:
    """Return diversity@k over problems, for every way of de-duplication and both denominators.

    Parameters
    ----------
    samples : pl.DataFrame
        Columns [*by, problem_id, sample_index, correct: bool] and the columns that `keys` names; a key may be null if
        the sample is wrong.
    ks : iterable of int
        Numbers of samples drawn. At each k only problems with n >= k count.
    confidence, by
        As in `coverage.coverage`.
    keys : mapping of str to str
        {label: column}, for example {"exact": "text_key", "equations": "equations_key"}.

    Returns
    -------
    pl.DataFrame
        [*by, distinct, denominator, k, value, low, high, n_problems]. `distinct` is "none" (not de-duplicated) or a
        label of `keys`; `denominator` is "all" or "solved" (see the module docstring). n_problems is the number of
        problems that count, for "solved" of those with a correct sample; if there are none, the values are null.
        Intervals are score intervals over problems (a ratio for "solved"). Empty input gives an empty frame.

    Raises
    ------
    ValueError
        A missing column, a null, a `correct` that is not Boolean, a repeated sample, or k < 1.

    Examples
    --------
    >>> columns = {"problem_id": list("pppqqq"), "sample_index": [0, 1, 2] * 2, "key": ["a", "a", "b", *[None] * 3]}
    >>> samples = pl.DataFrame(columns).with_columns(correct=pl.col("key").is_not_null())
    >>> diversity(samples, [3]).select("distinct", "denominator", "value").rows()
    [('none', 'all', 1.5), ('none', 'solved', 3.0), ('exact', 'all', 1.0), ('exact', 'solved', 2.0)]
    """
    groups_by, sizes = by_columns(by), sample_sizes(ks)
    samples = _checked(samples, groups_by, list(keys.values()))

    def curves(rows: pl.DataFrame) -> pl.DataFrame:
        tables = []
        for label, key in (("none", None), *keys.items()):
            per_all, per_solved = [], []
            for piece, counted, chance in _curves(rows, sizes, key):
                there = np.isfinite(chance).astype(float)
                per_all.append(ratio_columns(counted, there, None, confidence, (0.0, piece)))
                # A solved problem has at least one correct solution and at most k.
                per_solved.append(ratio_columns(counted, chance, None, confidence, (1.0, piece)))
            for denominator, parts in (("all", per_all), ("solved", per_solved)):
                labels = pl.lit(label).alias("distinct"), pl.lit(denominator).alias("denominator")
                tables.append(curve_frame(sizes, parts).select(*labels, pl.all()))
        return pl.concat(tables)

    return by_group(samples, groups_by, {"distinct": pl.String, "denominator": pl.String, **CURVE}, curves)
