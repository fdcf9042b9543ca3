"""maj@k: the probability that the most frequent of k answers to a problem is right.

This is self-consistency, Wang et al. 2022 (arXiv 2203.11171, section 2). For n samples the estimate is the exact mean
over all subsets of size k: like coverage@k (Chen et al. 2021, arXiv 2107.03374) it does not depend on the order of
the samples and uses all of them. Samples without an answer do not vote. Answer classes with equally many votes win
with equal probability: a tie of two classes, one of them right, counts 1/2.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb

import numpy as np
import polars as pl

from cos_assets.metrics.frames import require, require_bool, sample_sizes

MAX_SAMPLES = 1000
"""Above this, the number of subsets exceeds the range of a float."""


def maj_at_k(samples: pl.DataFrame, k: int) -> pl.DataFrame:
    """Return the probability that the majority of k samples is right, per problem.

    Parameters
    ----------
    samples : pl.DataFrame
        Columns [problem_id, answer, correct: bool], one row per sample; answer is null if none was stated. Equal
        answers form one class, and all correct answers form one class. Make equivalent wrong answers equal before the
        call (see `grading.answer_classes`).
    k : int
        Number of samples that vote.

    Returns
    -------
    pl.DataFrame
        [problem_id, value], sorted; value is null for problems with fewer than k samples.

    Raises
    ------
    ValueError
        A missing column, a null, a `correct` that is not Boolean, k < 1, or more than `MAX_SAMPLES` samples of a
        problem.

    References
    ----------
    Wang et al. 2022, arXiv 2203.11171, section 2.

    Examples
    --------
    >>> answers = {"answer": ["7", "7", "8", None], "correct": [True, True, False, False]}
    >>> maj_at_k(pl.DataFrame({"problem_id": "p", **answers}), 2)["value"].round(2).to_list()
    [0.67]
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


@lru_cache(maxsize=100_000)
def _chance(n: int, right: int, others: tuple[int, ...], k: int) -> float:
    """Return the share of the draws of k out of n samples in which the right class wins.

    A tie with t other classes counts 1 / (1 + t). `right` is the number of right samples, `others` are the sizes of
    the wrong classes; the remaining samples do not vote.
    """
    silent, won = n - right - sum(others), 0.0
    for votes in range(1, min(right, k) + 1):
        room = k - votes
        most_ties = room // votes
        # ways[s, t]: number of ways to draw s samples of the classes so far, with no class above `votes` samples and t
        # classes with exactly `votes`.
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
