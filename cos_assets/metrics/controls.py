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

from cos_assets.metrics.differences import paired_ratio_difference
from cos_assets.metrics.false_positives import corrected_rate, false_positive_rate, false_positive_sums
from cos_assets.metrics.frames import require
from cos_assets.metrics.intervals import Interval

REFERENCE, WRONG_ANSWER = "reference", "wrong_answer"
"""Kinds of controls: reference solutions, which are right, and complete samples with a wrong answer."""


class Share(NamedTuple):
    """The share of the controls of one kind that the judge called wrong.

    Attributes
    ----------
    rate : Interval
        The share, with an interval clustered by problem; NaN if no control is readable.
    wrong : int
        Number of controls called wrong.
    read, unread : int
        Number of controls with and without a readable verdict.
    """

    rate: Interval
    wrong: int
    read: int
    unread: int


class Controls(NamedTuple):
    """Error rates of a judge; see `control_rates`.

    Attributes
    ----------
    false_alarms : Share
        The share of the right solutions that the judge calls wrong.
    recall : Share
        The share of the wrong solutions that the judge calls wrong.
    difference : Interval
        Youden's J, the recall minus the false-alarm rate, in [-1, 1].
    """

    false_alarms: Share
    recall: Share
    difference: Interval

    @property
    def unread(self) -> int:
        """Number of controls of both kinds whose verdict could not be read."""
        return self.false_alarms.unread + self.recall.unread

    @property
    def tells(self) -> bool | None:
        """Whether the judge can tell right from wrong, that is, whether the interval of `difference` is above zero.

        None if fewer than two problems of either kind have readable controls, because there is then no interval.
        """
        return None if self.difference.low != self.difference.low else self.difference.low > 0


def control_rates(controls: pl.DataFrame, confidence: float = 0.95) -> Controls:
    """Return the error rates of one judge.

    Parameters
    ----------
    controls : pl.DataFrame
        Columns [problem_id, control, wrong_reasoning: bool], one row per control; `control` is `REFERENCE` or
        `WRONG_ANSWER`. A null in wrong_reasoning marks a verdict that could not be read: it is counted and excluded
        from the rates.
    confidence : float, default 0.95
        Level of the intervals.

    Returns
    -------
    Controls
        Both rates and their difference. See the module docstring for the intervals and their sources.

    Raises
    ------
    ValueError
        A column is missing, has the wrong type, or has a null (other than wrong_reasoning).

    Examples
    --------
    >>> kinds = [REFERENCE] * 4 + [WRONG_ANSWER] * 4
    >>> called_wrong = [False, False, False, None, True, True, True, False]
    >>> found = control_rates(pl.DataFrame({"problem_id": range(8), "control": kinds, "wrong_reasoning": called_wrong}))
    >>> found.false_alarms.rate.value, found.recall.rate.value, found.unread
    (0.0, 0.75, 1)
    >>> [round(x, 2) for x in found.difference], found.tells
    ([0.75, -0.34, 0.98, 7], False)
    """
    require(controls, ["problem_id", "control", "wrong_reasoning"], "controls", nulls=["wrong_reasoning"])
    kinds = [controls.filter(pl.col("control") == kind) for kind in (REFERENCE, WRONG_ANSWER)]
    shares = []
    for rows in kinds:
        called_wrong, unread = int(rows["wrong_reasoning"].sum()), rows["wrong_reasoning"].null_count()
        shares.append(Share(false_positive_rate(rows, confidence), called_wrong, rows.height - unread, unread))
    right, wrong = map(false_positive_sums, kinds)
    return Controls(shares[0], shares[1], paired_ratio_difference(wrong, right, confidence))


def corrected_by_controls(judged: pl.DataFrame, controls: pl.DataFrame, confidence: float = 0.95) -> Interval:
    """Return `corrected_rate` of `judged` with the judge's error rates on its controls.

    A wrong answer is easier to detect than wrong reasoning behind a right answer. The recall is therefore an upper
    bound, and the corrected rate tends to be too low rather than too high.

    Parameters
    ----------
    judged : pl.DataFrame
        As in `corrected_rate`: [problem_id, wrong_reasoning: bool], and optionally weight.
    controls : pl.DataFrame
        As in `control_rates`. Controls without a readable verdict are ignored.
    confidence : float, default 0.95
        Level of the interval.

    Returns
    -------
    Interval
        As from `corrected_rate`.

    Raises
    ------
    ValueError
        As from `corrected_rate`.

    Examples
    --------
    >>> kinds, called_wrong = [REFERENCE] * 10 + [WRONG_ANSWER] * 10, [True] + [False] * 9 + [True] * 9 + [False]
    >>> controls = pl.DataFrame({"problem_id": range(20), "control": kinds, "wrong_reasoning": called_wrong})
    >>> judged = pl.DataFrame({"problem_id": range(100), "wrong_reasoning": [True] * 30 + [False] * 70})
    >>> [round(x, 2) for x in corrected_by_controls(judged, controls)]
    [0.25, 0.0, 0.46, 100]
    """
    read = controls.filter(pl.col("wrong_reasoning").is_not_null())
    known = read.select("problem_id", judge="wrong_reasoning", human=pl.col("control") == WRONG_ANSWER)
    return corrected_rate(judged, known, confidence)
