"""Error rates of a judge on controls: solutions that are known to be right or wrong.

The false-alarm rate is the share of the right solutions that the judge calls wrong. The recall is the share of the
wrong solutions that it calls wrong. Both are ratios over problems with Wilson's score interval (see `intervals`).
Their difference, Youden's J (Youden 1950, Cancer 3:32), is 0 for a judge whose verdicts do not depend on the
solution. Its interval is Newcombe's method 10 (Newcombe 1998, Statistics in Medicine 17:2635), which combines the two
score intervals.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from cos_assets.metrics.false_positives import corrected_rate, false_positive_sums
from cos_assets.metrics.frames import require
from cos_assets.metrics.intervals import Interval, paired_ratio_difference, ratio_interval

REFERENCE, WRONG_ANSWER = "reference", "wrong_answer"
"""Kinds of controls: reference solutions, which are right, and complete samples with a wrong answer."""


class Share(NamedTuple):
    """The share of the controls of one kind that the judge called wrong.

    `read` counts the controls with a readable verdict, `unread` the others. `wrong` counts the ones called wrong.
    """

    rate: Interval
    wrong: int
    read: int
    unread: int


class Controls(NamedTuple):
    """Error rates of a judge. `difference` is the recall minus the false-alarm rate."""

    false_alarms: Share
    recall: Share
    difference: Interval

    @property
    def unread(self) -> int:
        return self.false_alarms.unread + self.recall.unread

    @property
    def tells(self) -> bool | None:
        """Whether the judge can tell right from wrong, that is, whether the interval of `difference` is above zero.

        None if fewer than two problems of either kind have readable controls, because there is then no interval.
        """
        return None if self.difference.low != self.difference.low else self.difference.low > 0


def control_rates(controls: pl.DataFrame, confidence: float = 0.95) -> Controls:
    """Return the error rates of one judge on `controls` [problem_id, control, wrong_reasoning: bool | null].

    `controls` has one row per control. A null marks a control whose verdict could not be read; it is counted and
    excluded from the rates. Raises ValueError for a missing column.
    """
    require(controls, ["problem_id", "control", "wrong_reasoning"], "controls", nulls=["wrong_reasoning"])
    kinds = [controls.filter(pl.col("control") == kind) for kind in (REFERENCE, WRONG_ANSWER)]
    sums = [false_positive_sums(rows) for rows in kinds]
    shares = []
    for rows, by_problem in zip(kinds, sums, strict=True):
        rate = ratio_interval(by_problem["numerator"].to_numpy(), by_problem["denominator"].to_numpy(), confidence)
        wrong, unread = int(rows["wrong_reasoning"].sum()), rows["wrong_reasoning"].null_count()
        shares.append(Share(rate, wrong, rows.height - unread, unread))
    return Controls(shares[0], shares[1], paired_ratio_difference(sums[1], sums[0], confidence))


def corrected_by_controls(judged: pl.DataFrame, controls: pl.DataFrame, confidence: float = 0.95) -> Interval:
    """Return `corrected_rate` of `judged` with the judge's error rates on its controls.

    `judged` is as in `corrected_rate` and `controls` as in `control_rates`. A wrong answer is easier to detect than
    wrong reasoning behind a right answer. The recall is therefore an upper bound, and the corrected rate tends to be
    too low rather than too high.
    """
    read = controls.filter(pl.col("wrong_reasoning").is_not_null())
    known = read.select("problem_id", judge="wrong_reasoning", human=pl.col("control") == WRONG_ANSWER)
    return corrected_rate(judged, known, confidence)
