"""Adaptive allocation: which problems get the next samples of a budget that is not spread evenly. Pure functions.

The worth of a further sample is its chance to be a correct solution that the problem does not have yet. For an
unsolved problem any correct solution is new, so this is E[p | n, c] by the beta-binomial fit (`metrics.prediction`).
For a problem with j different solutions among c correct ones it is E[p | n, c] times (theta + sigma·j) / (theta + c),
the chance that a correct solution is new (`metrics.richness`). A problem that many samples have missed, or whose
solutions repeat, needs no special rule: its chance drops by itself. Samples are given out one by one, each where it
is worth most. Every problem has received its share of the pilot before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from cos_assets.metrics.prediction import Fit, further_correct
from cos_assets.metrics.richness import Novelty

ROUNDS = 4
"""Number of rounds in which the rest of a budget is allocated, each after the verdicts on the previous round."""
_MOST = 4  # the most that one problem gets in one round, as a multiple of the even share


def allocate(counts: pl.DataFrame, found: Sequence[Fit], novelty: Novelty, give: int) -> pl.DataFrame:
    """Distribute samples over problems, each where it is worth most; see the module docstring.

    Equal counts give equal results. Among equal problems, the first ones are served first.

    Parameters
    ----------
    counts : pl.DataFrame
        Columns [problem_id, n, c, j], one row per problem: samples, correct ones, and distinct correct ones so far.
    found : sequence of Fit
        The fits of the counts (see `metrics.prediction.fits`).
    novelty : Novelty
        The parameters for distinct solutions (see `metrics.richness.fit_novelty`).
    give : int
        Number of samples to distribute.

    Returns
    -------
    pl.DataFrame
        [problem_id, more], in the order of `counts`; the sum of `more` is `give`.

    Raises
    ------
    ValueError
        There are no problems.

    Examples
    --------
    >>> from cos_assets.metrics.prediction import fits
    >>> counts = pl.DataFrame({"problem_id": list("pqr"), "n": 4, "c": [0, 1, 4], "j": [0, 1, 1]})
    >>> allocate(counts, fits(counts), Novelty(theta=0.1, sigma=0.1), give=6).rows()
    [('p', 3), ('q', 2), ('r', 1)]
    """
    if not counts.height:
        raise ValueError(f"{give} samples cannot be distributed over 0 problems")
    kinds = counts.group_by("n", "c", "j").len().sort("n", "c", "j")
    n, c, j, size = (kinds[name].to_numpy() for name in ("n", "c", "j", "len"))
    most = max(1, min(give, _MOST * -(-give // counts.height)))
    # Worth must not increase over the steps of a kind, so that sorting by worth keeps the steps in order.
    worth = np.minimum.accumulate(_worth(found, novelty, n, c, j, most), axis=1)
    order = np.argsort(-worth, axis=None, kind="stable")
    taken = np.cumsum(np.repeat(size, most)[order])
    whole = int(np.searchsorted(taken, give, side="right"))
    more = np.zeros(kinds.height, dtype=np.int64)
    np.add.at(more, order[:whole] // most, 1)
    # The remaining samples do not suffice for all problems of the next kind, so its first ones get them.
    left = give - (int(taken[whole - 1]) if whole else 0)
    last = int(order[whole] // most) if whole < order.size else -1
    labels = kinds.select("n", "c", "j").with_columns(more=pl.Series(more), last=np.arange(kinds.height) == last)
    labelled = counts.join(labels, on=["n", "c", "j"], how="left", maintain_order="left")
    first = pl.col("last") & (pl.col("last").cum_sum() <= left)
    return labelled.select("problem_id", more=pl.col("more") + first.cast(pl.Int64))


def _worth(
    found: Sequence[Fit], novelty: Novelty, n: np.ndarray, c: np.ndarray, j: np.ndarray, most: int
) -> np.ndarray:
    """Return the chance of a new correct solution in each of the next `most` samples of a problem, shape [N, most]."""
    worth = np.empty((n.size, most))
    for at, (samples, correct, different) in enumerate(zip(n.tolist(), c.tolist(), j.tolist(), strict=True)):
        if correct:
            chance = further_correct(found, [samples], [correct], samples + 1)[0, 1]
            due, now = float(correct), float(different)
            for step in range(most):
                new = np.clip((novelty.theta + novelty.sigma * now) / max(novelty.theta + due, 1e-9), 0.0, 1.0)
                worth[at, step] = chance * new
                due, now = due + chance, now + chance * new
        else:  # the chance that all samples before this one miss, and this one does not
            missed = np.array([further_correct(found, [samples], [0], samples + s)[0, 0] for s in range(most + 1)])
            worth[at] = missed[:-1] - missed[1:]
    return worth
