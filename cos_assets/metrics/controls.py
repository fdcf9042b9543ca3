"""How a judge does on controls: solutions that are known to be right or wrong.

The false-alarm rate is the share of the right ones that the judge calls wrong, the recall the share of the wrong ones
that it calls wrong. Both are ratios over problems with Wilson's score interval (`intervals`). Their difference, known
as Youden's J (Youden 1950, Cancer 3:32), is 0 for a judge that does not look. Its interval is Newcombe's method 10
(Newcombe 1998, Statistics in Medicine 17:2635), which joins the two score intervals.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from cos_assets.metrics.false_positives import corrected_rate, false_positive_sums
from cos_assets.metrics.frames import require
from cos_assets.metrics.intervals import Interval, paired_ratio_difference, ratio_interval

REFERENCE, WRONG_ANSWER = "reference", "wrong_answer"
"""The kinds of controls: reference solutions, which are right, and complete samples with a wrong answer."""


class Share(NamedTuple):
    """How many of the controls of one kind the judge called wrong, of how many that it read."""

    rate: Interval
    wrong: int
    read: int
    unread: int


class Controls(NamedTuple):
    """A judge's errors. `difference` is recall less false alarms."""

    false_alarms: Share
    recall: Share
    difference: Interval

    @property
    def unread(self) -> int:
        return self.false_alarms.unread + self.recall.unread

    @property
    def tells(self) -> bool | None:
        """Can the judge tell right from wrong: is the interval of `difference` above zero? None where it has read
        controls of fewer than two problems of a kind, which give no interval."""
        return None if self.difference.low != self.difference.low else self.difference.low > 0


def control_rates(controls: pl.DataFrame, confidence: float = 0.95) -> Controls:
    """The errors of one judge on its controls [problem_id, control, wrong_reasoning: bool | null], a row for each.

    A null is a control that the judge could not read; it is counted and left out of the rates. ValueError: a missing
    column.
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
    """`corrected_rate` with the errors that the judge makes on its controls, both as above.

    A wrong answer is easier to catch than wrong reasoning behind a right one, so this recall is an upper bound, and the
    corrected rate is rather too low than too high.
    """
    read = controls.filter(pl.col("wrong_reasoning").is_not_null())
    known = read.select("problem_id", judge="wrong_reasoning", human=pl.col("control") == WRONG_ANSWER)
    return corrected_rate(judged, known, confidence)
