"""A rate or the reason for its absence, and its correction by controls or labels."""

from __future__ import annotations

import math

import polars as pl
import pytest

from cos_assets.judging.rates import rate_of
from cos_assets.metrics.controls import REFERENCE, WRONG_ANSWER
from cos_assets.metrics.false_positives import corrected_rate, false_positive_rate

SHAPE = {"problem_id": pl.String, "wrong_reasoning": pl.Boolean}


def judged(wrong: int, right: int, unread: int = 0) -> pl.DataFrame:
    labels = [True] * wrong + [False] * right + [None] * unread
    return pl.DataFrame({"problem_id": [f"p{i}" for i in range(len(labels))], "wrong_reasoning": labels}, schema=SHAPE)


def controls(alarms: int, caught: int, of: int = 50) -> pl.DataFrame:
    kinds = ((REFERENCE, alarms), (WRONG_ANSWER, caught))
    rows = [(f"p{i}", kind, i < wrong) for kind, wrong in kinds for i in range(of)]
    return pl.DataFrame(rows, schema={"problem_id": pl.String, "control": pl.String, **SHAPE}, orient="row")


def test_a_discriminating_judge_gives_a_raw_and_a_corrected_rate() -> None:
    rows, known = judged(30, 70, unread=5), controls(5, 45)
    found = rate_of(rows, known)
    assert found.rate == false_positive_rate(rows) and found.why_none is None
    assert found.readable == pytest.approx(100 / 105) and (found.read, found.unread) == (100, 5)
    assert found.corrected_by == "controls" and found.corrected is not None
    assert found.corrected.value == pytest.approx((0.3 - 0.1) / (0.9 - 0.1))


def test_a_judge_that_does_not_discriminate_gives_no_rate() -> None:
    found = rate_of(judged(30, 70), controls(25, 27))
    assert math.isnan(found.rate.value) and math.isnan(found.rate.low) and found.corrected is None
    assert found.why_none is not None
    assert found.why_none.startswith("this judge cannot tell right from wrong (recall 54.0 % [")
    assert found.why_none.endswith("], 27 of 50, false alarms 50.0 % [36.2, 63.8], 25 of 50)")


@pytest.mark.parametrize(("unread", "told"), [(100, True), (101, False)])
def test_a_judge_with_less_than_half_readable_replies_gives_no_rate(unread: int, told: bool) -> None:
    found = rate_of(judged(0, 100, unread), controls(0, 50))
    assert (found.why_none is None) == told
    if found.why_none:
        assert "could read 100 of 201 correct solutions, less than half" in found.why_none
        assert "judge: {model: ...}" in found.why_none and "cos label export" in found.why_none
        assert found.corrected is None and math.isnan(found.rate.value)


def test_both_reasons_for_no_rate_are_given() -> None:
    why = rate_of(judged(1, 1, 9), controls(10, 10)).why_none or ""
    assert why.index("less than half") < why.index("cannot tell right from wrong")


def test_a_rate_without_controls_is_not_corrected() -> None:
    for known in (controls(0, 0, of=0), controls(0, 1, of=1), controls(3, 50).filter(control=REFERENCE)):
        found = rate_of(judged(30, 70), known)
        assert found.rate.value == 0.3 and found.why_none is None and found.corrected is None


def test_human_labels_take_precedence_over_controls() -> None:
    rows = judged(30, 70)
    labelled = pl.DataFrame(
        {"rater": "j", "problem_id": [f"p{i}" for i in range(40)], "judge": [i < 15 for i in range(40)]}
    ).with_columns(human=pl.int_range(pl.len()) < 10)
    for known in (controls(5, 45), controls(25, 27)):
        found = rate_of(rows, known, labelled=labelled)
        assert found.corrected_by == "labels" and found.corrected == corrected_rate(rows, labelled)
    assert rate_of(rows, controls(5, 45), labelled=labelled.clear()).corrected_by == "controls"


def test_a_set_without_a_correct_sample_has_no_rate_and_no_reason() -> None:
    found = rate_of(judged(0, 0), controls(0, 50))
    assert math.isnan(found.rate.value) and math.isnan(found.readable)
    assert found.why_none is None and found.corrected is None
