"""maj@k: is the most frequent of k answers to a problem right?

Self-consistency, Wang et al. 2022 (arXiv 2203.11171, section 2). Of n samples the estimate is the mean over all subsets
of size k, exactly: as coverage@k (Chen et al. 2021, arXiv 2107.03374) it does not depend on the order of samples, and
uses all of them. Samples without an answer do not vote. Of classes of answers with equally many votes each wins equally
often: two tied, one of them right, count 1/2.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import comb

import numpy as np
import polars as pl

from cos_assets.metrics.coverage import CURVE
from cos_assets.metrics.frames import require, require_bool, sample_sizes
from cos_assets.metrics.intervals import mean_interval

MAX_SAMPLES = 1000
"""Above it the number of subsets is no float any more."""


def maj_at_k(samples: pl.DataFrame, k: int) -> pl.DataFrame:
    """Frame [problem_id, value], sorted: the chance that the majority of k of the samples is right; null for fewer than
    k samples.

    `samples` has [problem_id, answer, correct: bool], one row per sample; answer is null where none was stated. Equal
    answers are one class, and all correct ones are; make equivalent wrong answers equal beforehand (see
    `grading.classes`). ValueError: a missing column, a null, k < 1, more than `MAX_SAMPLES` samples of a problem.
    """
    [k] = sample_sizes([k])
    require(samples, ["problem_id", "answer", "correct"], "samples", nulls=["answer"])
    require_bool(samples, "correct", "samples")
    votes = pl.col("answer").is_not_null()
    wrong = votes & ~pl.col("correct")
    per_answer = samples.filter(wrong).group_by("problem_id", "answer").len().sort("problem_id", "len")
    others = per_answer.group_by("problem_id", maintain_order=True).agg(others=pl.col("len"))
    counts = samples.group_by("problem_id").agg(n=pl.len(), right=(votes & pl.col("correct")).sum())
    rows = counts.join(others, on="problem_id", how="left").sort("problem_id")
    if (most := max(rows["n"], default=0)) > MAX_SAMPLES:
        raise ValueError(f"samples: a problem has {most}; majorities are counted for at most {MAX_SAMPLES}")
    values = [
        _chance(n, right, tuple(sizes or ()), int(k)) if n >= k else None
        for n, right, sizes in rows.select("n", "right", "others").iter_rows()
    ]
    return rows.select("problem_id", value=pl.Series(values, dtype=pl.Float64))


def majority(samples: pl.DataFrame, ks: Iterable[int], confidence: float = 0.95) -> pl.DataFrame:
    """Mean maj@k over problems: frame [k, value, low, high, n_problems], as `coverage` has it; problems with fewer than
    k samples do not count at k, and none gives nulls. Input and errors as `maj_at_k`."""
    curve = []
    for k in sample_sizes(ks):
        values = maj_at_k(samples, int(k))["value"].drop_nulls()
        curve.append((int(k), *mean_interval(values.to_numpy(), confidence)))
    return pl.DataFrame(curve, schema=CURVE, orient="row").with_columns(pl.col(pl.Float64).fill_nan(None))


@lru_cache(maxsize=100_000)
def _chance(n: int, right: int, others: tuple[int, ...], k: int) -> float:
    """Of all ways to draw k of n samples, the share in which the right class wins, a tie with t others counting
    1 / (1 + t). `right` samples are right, `others` are the sizes of the wrong classes; what is left does not vote."""
    silent, won = n - right - sum(others), 0.0
    for votes in range(1, min(right, k) + 1):
        room = k - votes
        most_ties = room // votes
        # ways[s, t]: to draw s of the classes so far, none with more than `votes`, and t of them with as many.
        ways = np.zeros((room + 1, most_ties + 1))
        ways[0, 0] = 1
        for size in others:
            more = ways.copy()
            for drawn in range(1, min(size, votes, room) + 1):
                tied = int(drawn == votes)
                before = ways[: room + 1 - drawn, : most_ties + 1 - tied]
                more[drawn:, tied:] += comb(size, drawn) * before
            ways = more
        rest = np.array([float(comb(silent, room - s)) for s in range(room + 1)])
        won += comb(right, votes) * float(rest @ ways @ (1 / np.arange(1, most_ties + 2)))
    return min(won / comb(n, k), 1.0)
