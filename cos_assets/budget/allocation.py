"""Which problems get the next samples, where a budget is not shared out evenly. Pure functions.

A further sample is worth its chance to be a correct solution that the problem does not have yet: of an unsolved problem
any correct one, E[p | n, c] by the beta-binomial fit (`metrics.prediction`); of a problem with j different ones among c
correct ones that times (theta + sigma·j) / (theta + c), the chance that a correct one is new (`metrics.richness`). A
problem that many samples have missed falls behind by itself, for its chance does; so does one whose solutions repeat.
The samples to share out go where they are worth most, one by one. Every problem has had its share of the pilot before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from cos_assets.metrics.prediction import Fit, further_correct
from cos_assets.metrics.richness import Novelty

ROUNDS = 4
"""Times that a budget's rest is shared out in parts, each after the verdicts on the part before."""
_MOST = 4  # times its even share that one problem can get in one round


def allocate(counts: pl.DataFrame, found: Sequence[Fit], novelty: Novelty, give: int) -> pl.DataFrame:
    """Share `give` samples out: frame [problem_id, more], in the order of `counts` [problem_id, n, c, j].

    The same for the same counts; among equals the first ones are served. ValueError: no problem to give to.
    """
    if not counts.height:
        raise ValueError(f"{give} samples are to be shared out among 0 problems")
    kinds = counts.group_by("n", "c", "j").len().sort("n", "c", "j")
    n, c, j, size = (kinds[name].to_numpy() for name in ("n", "c", "j", "len"))
    most = max(1, min(give, _MOST * -(-give // counts.height)))
    # Sorted by worth, each step of a kind stands before its next one: a step is worth less than the one before.
    worth = np.minimum.accumulate(_worth(found, novelty, n, c, j, most), axis=1)
    order = np.argsort(-worth, axis=None, kind="stable")
    taken = np.cumsum(np.repeat(size, most)[order])
    whole = int(np.searchsorted(taken, give, side="right"))
    more = np.zeros(kinds.height, dtype=np.int64)
    np.add.at(more, order[:whole] // most, 1)
    # What is left is not enough for all problems of the next kind: its first ones get it.
    left = give - (int(taken[whole - 1]) if whole else 0)
    last = int(order[whole] // most) if whole < order.size else -1
    labels = kinds.select("n", "c", "j").with_columns(more=pl.Series(more), last=np.arange(kinds.height) == last)
    labelled = counts.join(labels, on=["n", "c", "j"], how="left", maintain_order="left")
    first = pl.col("last") & (pl.col("last").cum_sum() <= left)
    return labelled.select("problem_id", more=pl.col("more") + first.cast(pl.Int64))


def _worth(
    found: Sequence[Fit], novelty: Novelty, n: np.ndarray, c: np.ndarray, j: np.ndarray, most: int
) -> np.ndarray:
    """Chance of a new correct solution in each of the next `most` samples of a problem, shape [N, most]."""
    worth = np.empty((n.size, most))
    for at, (samples, correct, different) in enumerate(zip(n.tolist(), c.tolist(), j.tolist(), strict=True)):
        if correct:
            chance = further_correct(found, [samples], [correct], samples + 1)[0, 1]
            due, now = float(correct), float(different)
            for step in range(most):
                new = np.clip((novelty.theta + novelty.sigma * now) / max(novelty.theta + due, 1e-9), 0.0, 1.0)
                worth[at, step] = chance * new
                due, now = due + chance, now + chance * new
        else:  # that the samples up to there have missed, and this one has not
            missed = np.array([further_correct(found, [samples], [0], samples + s)[0, 0] for s in range(most + 1)])
            worth[at] = missed[:-1] - missed[1:]
    return worth
