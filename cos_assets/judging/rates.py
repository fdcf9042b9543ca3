"""The false positive rate that a judge finds in a set of samples, and the judge's own errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import polars as pl

from cos_assets.metrics.controls import Controls, Share, control_rates, corrected_by_controls
from cos_assets.metrics.false_positives import LEAST_READ, corrected_rate, false_positive_rate
from cos_assets.metrics.intervals import Interval

CORRECTED_BY = {"controls": "its controls", "labels": "people's labels"}


@dataclass(frozen=True)
class JudgeRate:
    """Results of one judge on one set of samples with a correct answer."""

    rate: Interval
    """The false positive rate; NaN if `why_none` gives a reason for no rate, or if no sample was read."""
    read: int
    unread: int
    controls: Controls
    corrected: Interval | None
    """The rate corrected for the judge's errors (`corrected_rate`); None if these are not known."""
    corrected_by: Literal["controls", "labels"] | None
    why_none: str | None

    @property
    def readable(self) -> float:
        """The share of the samples that the judge could read; NaN if there are no samples."""
        return self.read / (self.read + self.unread) if self.read + self.unread else math.nan


def rate_of(
    judged: pl.DataFrame, controls: pl.DataFrame, confidence: float = 0.95, labelled: pl.DataFrame | None = None
) -> JudgeRate:
    """Compute the rate of one judge on one set of samples, or the reason for no rate.

    `judged` are the judge's judgements of the set's samples with a correct answer (`table.of_judge`). `controls` are
    its judgements of controls (`controls.controls_of`). `labelled` compares its judgements with human labels of the
    same samples (`labels.labelled`).

    A judge gives no rate if it read less than half of the samples, or if it cannot tell right from wrong. The rate is
    corrected by human labels if there are any, because they measure the judge's errors on the samples themselves.
    Otherwise it is corrected by the controls, if they show that the judge can tell right from wrong.
    """
    errors = control_rates(controls, confidence)
    unread = judged["wrong_reasoning"].null_count()
    read = judged.height - unread
    reasons = [reason for reason in (_too_little(read, judged.height), cannot_tell(errors)) if reason]
    corrected: Interval | None = None
    by: Literal["controls", "labels"] | None = None
    if labelled is not None and labelled.height:
        corrected, by = corrected_rate(judged, labelled, confidence), "labels"
    elif not reasons and read and errors.tells:
        corrected, by = corrected_by_controls(judged, controls, confidence), "controls"
    rate = false_positive_rate(judged, confidence)
    if reasons:
        rate = Interval(math.nan, math.nan, math.nan, rate.n)
    return JudgeRate(rate, read, unread, errors, corrected, by, "; ".join(reasons) or None)


def _too_little(read: int, given: int) -> str | None:
    if read >= LEAST_READ * given:
        return None
    return (
        f"this judge could read {read:,} of {given:,} correct solutions, less than half;"
        " use another one, such as a model (judge: {model: ...}), or people's labels (cos label export)"
    )


def cannot_tell(controls: Controls) -> str | None:
    """Return a message if a judge cannot tell right from wrong; None if it can, or if there are too few controls."""
    if controls.tells is not False:
        return None
    return (
        f"this judge cannot tell right from wrong (recall {share(controls.recall)},"
        f" false alarms {share(controls.false_alarms)})"
    )


def share(found: Share) -> str:
    """Format a share of controls with its interval, e.g. "2.0 % [0.4, 10.5], 1 of 50"; "none read" if none was read."""
    if not found.read:
        return "none read"
    low, high = 100 * found.rate.low, 100 * found.rate.high
    limits = "" if math.isnan(low) else f" [{low:.1f}, {high:.1f}]"
    return f"{100 * found.rate.value:.1f} %{limits}, {found.wrong:,} of {found.read:,}"
