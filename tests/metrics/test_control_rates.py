"""Rates of a judge on controls: worked examples, coverage in simulations, and too few controls."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from support.reference import wilson

from cos_assets.metrics.controls import REFERENCE, WRONG_ANSWER, control_rates, corrected_by_controls

SCHEMA = {"problem_id": pl.String, "control": pl.String, "wrong_reasoning": pl.Boolean}


def controls(alarms: tuple[int, int], caught: tuple[int, int], unread: int = 0) -> pl.DataFrame:
    """One control of each problem: `alarms` of the references are called wrong, `caught` of the wrong answers."""
    rows = [(f"r{i}", REFERENCE, i < alarms[0]) for i in range(alarms[1])]
    rows += [(f"w{i}", WRONG_ANSWER, i < caught[0]) for i in range(caught[1])]
    rows += [(f"u{i}", REFERENCE, None) for i in range(unread)]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def test_the_interval_of_the_difference_is_newcombes() -> None:
    # Newcombe 1998 (Statistics in Medicine 17:873), table II, contrast (a), method 10: 56/70 - 48/80. Student's t
    # instead of the normal quantile makes it slightly wider.
    low, high = control_rates(controls((48, 80), (56, 70))).difference[1:3]
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=5e-3)
    assert low < 0.0524 and high > 0.3339


def test_each_share_has_a_wilson_interval() -> None:
    found = control_rates(controls((2, 50), (45, 50), unread=3))
    assert found.false_alarms[1:] == (2, 50, 3) and found.recall[1:] == (45, 50, 0) and found.unread == 3
    for share, k in ((found.false_alarms, 2), (found.recall, 45)):
        assert share.rate[:3] == pytest.approx(wilson(k, 50)[:3], abs=1e-2)
    assert found.tells


def test_equal_controls_of_a_problem_count_as_one() -> None:
    once = controls((5, 50), (40, 50))
    wrong = once.filter(control=WRONG_ANSWER)
    found, again = control_rates(once), control_rates(pl.concat([once, *[wrong] * 9]))
    assert again.recall.read == 500 and again.recall.rate == pytest.approx(found.recall.rate)
    assert again.difference == pytest.approx(found.difference)


@pytest.mark.parametrize(
    ("alarms", "caught"), [((0, 50), (0, 50)), ((50, 50), (50, 50)), ((25, 50), (25, 50)), ((40, 50), (5, 50))]
)
def test_a_judge_no_better_than_chance_does_not_discriminate(alarms: tuple[int, int], caught: tuple[int, int]) -> None:
    known = controls(alarms, caught)
    assert control_rates(known).tells is False
    judged = pl.DataFrame({"problem_id": ["a", "b", "c"], "wrong_reasoning": [True, False, False]})
    corrected = corrected_by_controls(judged, known)
    assert corrected.low == 0 and corrected.high == 1


@pytest.mark.parametrize(
    ("alarms", "caught"), [((0, 50), (0, 0)), ((0, 0), (50, 50)), ((0, 1), (1, 1)), ((0, 0), (0, 0))]
)
def test_controls_of_one_kind_or_one_problem_are_inconclusive(alarms: tuple[int, int], caught: tuple[int, int]) -> None:
    found = control_rates(controls(alarms, caught))
    assert found.tells is None
    assert found.false_alarms.read == alarms[1] and found.recall.read == caught[1]


def test_intervals_cover_simulated_judges_and_chance_seldom_passes_as_skill() -> None:
    rng = np.random.default_rng(0)
    for recall, alarms in ((0.9, 0.05), (0.6, 0.3), (0.5, 0.5), (0.1, 0.1)):
        held = skilled = 0
        for _ in range(400):
            drawn = (int(rng.binomial(50, alarms)), 50), (int(rng.binomial(50, recall)), 50)
            found = control_rates(controls(*drawn))
            held += found.difference.low <= recall - alarms <= found.difference.high
            skilled += bool(found.tells)
        assert held >= 0.93 * 400, (recall, alarms, held)
        assert skilled <= 0.04 * 400 if recall == alarms else skilled >= 0.8 * 400, (recall, alarms, skilled)
