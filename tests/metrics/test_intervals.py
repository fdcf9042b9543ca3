"""Intervals: known formulas, properties, and invalid input. Their coverage: test_interval_rates.py."""

from __future__ import annotations

from math import sqrt

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reference import wilson

from cos_assets.metrics.differences import better, paired_difference, paired_ratio_difference
from cos_assets.metrics.intervals import Interval, mean_interval, ratio_interval, score_limits

shares = st.lists(st.floats(0, 1), min_size=2, max_size=40)


def frame(values: np.ndarray, prefix: str = "p") -> pl.DataFrame:
    return pl.DataFrame({"problem_id": [f"{prefix}{i}" for i in range(len(values))], "value": values})


def sums(numerator: np.ndarray, denominator: np.ndarray) -> pl.DataFrame:
    ids = [f"p{i}" for i in range(len(numerator))]
    return pl.DataFrame({"problem_id": ids, "numerator": numerator, "denominator": denominator})


# Known formulas


def test_an_unbounded_interval_is_students_t() -> None:
    # t(4, 97.5 %) = 2.776445
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0], bounds=None)
    half = 2.7764451052 * sqrt(2.5 / 5)
    assert found == pytest.approx((3, 3 - half, 3 + half, 5), rel=1e-9)


def test_score_limits_equal_wilsons() -> None:
    # Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3, printed to four digits.
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (k, n), limits in published.items():
        found = score_limits(np.array(k / n), np.array(float(n)), np.array(1.959964))
        assert found == pytest.approx(limits, abs=6e-5)
        assert found == pytest.approx(wilson(k, n)[1:3], abs=1e-6)
    assert score_limits(np.array(1.0), np.array(29.0), np.array(1.96))[1] == 1.0


def test_the_interval_of_binary_values_is_close_to_wilsons() -> None:
    """For 0/1 values the effective size is N - 1; at large N it is Wilson's interval."""
    values = [1.0] * 900 + [0.0] * 9_100
    found, plain = mean_interval(values), wilson(900, 10_000)
    assert found[:3] == pytest.approx(plain[:3], abs=1e-5)
    small, plain = mean_interval([1.0] * 2 + [0.0] * 18), wilson(2, 20)
    assert small.low < plain.low and small.high > plain.high


def test_the_interval_of_a_ratio_is_cochrans() -> None:
    y, x = np.array([1.0, 0, 2, 1]), np.array([2.0, 1, 3, 4])
    value = 0.4
    variance = 4 / 3 * np.sum((y - value * x) ** 2) / 100
    found = ratio_interval(y, x, bounds=None)
    assert found == pytest.approx((value, value - 3.1824463 * sqrt(variance), value + 3.1824463 * sqrt(variance), 4))
    # Problems with a denominator of 0 have no effect.
    assert ratio_interval([*y, 0, 0], [*x, 0, 0], bounds=None) == pytest.approx(found, rel=1e-12)


def test_an_unbounded_paired_interval_is_the_paired_t() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30))
    found = paired_difference(frame(a), frame(b), bounds=None)
    assert found == pytest.approx(mean_interval(a - b, bounds=None), rel=1e-9)


def test_the_paired_interval_of_binary_values_is_close_to_newcombes() -> None:
    """Newcombe 1998 (Statistics in Medicine 17:2635), table II, (e, f, g, h) = (36, 12, 2, 0): 0.0569 to 0.3404.

    Ours uses the t quantile and N - 1 instead of z and N, so it is slightly wider.
    """
    a, b = np.repeat([1.0, 1, 0], [36, 12, 2]), np.repeat([1.0, 0, 1], [36, 12, 2])
    found = paired_difference(frame(a), frame(b))
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0569, abs=0.01) and found.low < 0.0569
    assert found.high == pytest.approx(0.3404, abs=0.01) and found.high > 0.3404


# Properties


@given(shares, st.floats(0.5, 0.99))
@settings(deadline=None)
def test_limits_enclose_the_value_and_stay_within_the_bounds(values: list[float], confidence: float) -> None:
    found = mean_interval(values, confidence)
    assert 0 <= found.low <= found.value + 1e-12 and found.value - 1e-12 <= found.high <= 1 + 1e-12
    assert found.n == len(values)
    wide = mean_interval(values, (1 + confidence) / 2)
    assert wide.low <= found.low + 1e-12 and wide.high >= found.high - 1e-12


@given(shares)
@settings(deadline=None)
def test_mirrored_values_give_mirrored_limits(values: list[float]) -> None:
    found, mirrored = mean_interval(values), mean_interval([1 - value for value in values])
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-6)


@given(shares, st.randoms())
@settings(deadline=None)
def test_intervals_are_bitwise_independent_of_the_order(values: list[float], random) -> None:
    other = list(values)
    random.shuffle(other)
    assert mean_interval(values) == mean_interval(other)
    a, b = frame(np.array(values)), frame(np.array(values[::-1]))
    assert paired_difference(a, b) == paired_difference(a.reverse(), b.sample(fraction=1, shuffle=True, seed=1))


@given(shares, st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_swapped_sides_mirror_the_difference(values: list[float], seed: int) -> None:
    a, b = frame(np.array(values)), frame(np.random.default_rng(seed).random(len(values)))
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low), abs=1e-9)
    assert there.low - 1e-9 <= there.value <= there.high + 1e-9


def test_equal_values_have_an_interval_of_positive_width() -> None:
    for values in ([0.0] * 30, [1.0] * 30, [0.5] * 30):
        found = mean_interval(values)
        assert found.high - found.low > 0.05
    same = frame(np.full(98, 0.5))
    # Two pseudo-problems in a hundred: 1.98 · √2 / 100.
    assert paired_difference(same, same)[:3] == pytest.approx((0, -0.0281, 0.0281), abs=1e-3)
    assert better(paired_difference(same, same)) == "cannot tell"


@pytest.mark.parametrize("won", [4, 5, 6, 7])
def test_five_won_problems_of_a_hundred_decide_and_four_do_not(won: int) -> None:
    """McNemar's mid-p (Fagerland et al. 2013) is 0.063 for 4 of 4 and 0.031 for 5 of 5; the paired t is significant at
    4."""
    b = np.repeat([1.0, 0.0], [80, 20])
    a = b.copy()
    a[80 : 80 + won] = 1
    found = better(paired_difference(frame(a), frame(b)))
    assert found == ("wc" if won >= 5 else "cannot tell")
    assert better(paired_difference(frame(a), frame(b), bounds=None)) == "wc"


def test_too_few_problems_have_no_limits() -> None:
    one = mean_interval([0.3])
    assert one.value == 0.3 and one.n == 1 and np.isnan([one.low, one.high]).all()
    assert np.isnan(mean_interval([]).value) and mean_interval([]).n == 0
    assert np.isnan(ratio_interval([0], [0]).value)
    lone = paired_difference(frame(np.array([1.0])), frame(np.array([0.0])))
    assert lone.value == 1 and better(lone) == "cannot tell"
    nothing = frame(np.empty(0))
    assert paired_difference(nothing, nothing).n == 0


def test_the_better_model_is_named_only_if_the_interval_excludes_zero() -> None:
    assert better(Interval(2, 1, 3, 9)) == "wc"
    assert better(Interval(-2, -3, -1, 9)) == "se"
    assert better(Interval(-2, -3, -1, 9), higher="se", lower="wc") == "wc"
    assert better(Interval(1, 0, 3, 9)) == "cannot tell"
    assert better(Interval(1, np.nan, np.nan, 1)) == "cannot tell"


def test_problems_on_one_side_of_a_ratio_add_nothing_to_the_other() -> None:
    a = sums(np.array([1, 0, 2]), np.array([2, 3, 4]))
    b = sums(np.array([1, 1]), np.array([3, 1]))
    padded = sums(np.array([1, 1, 0]), np.array([3, 1, 0]))
    assert paired_ratio_difference(a, b) == paired_ratio_difference(a, padded)
    assert paired_ratio_difference(a, b).value == pytest.approx(3 / 9 - 2 / 4)
    assert paired_ratio_difference(a, b).n == 3


# Invalid input


def test_different_problems_are_refused() -> None:
    values = np.array([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"3 problems are only in a, 2 only in b; they must be the same"):
        paired_difference(frame(values), frame(values[:2], prefix="q"))
    with pytest.raises(ValueError, match=r"1 problems are only in a, 0 only in b"):
        paired_difference(frame(values), frame(values[:2]))
    with pytest.raises(ValueError, match=r"b: \{'problem_id': 'p0'\} occurs 2 times; allowed: once"):
        paired_difference(frame(values), pl.concat([frame(values), frame(values[:1])]))


def test_invalid_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"values: 1.5 is outside the bounds \[0.0, 1.0\]; bounds=None allows it"):
        mean_interval([0.5, 1.5])
    with pytest.raises(ValueError, match=r"values: 1 of 2 problems have no finite value"):
        mean_interval([0.5, np.nan])
    with pytest.raises(ValueError, match=r"allowed is one value per problem, shape \[N\]"):
        mean_interval(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"numerator has 1 problems, denominator 2"):
        ratio_interval([1], [1, 2])
    with pytest.raises(ValueError, match=r"denominator: -1.0 is negative"):
        ratio_interval([1], [-1])
    with pytest.raises(ValueError, match=r"b: 1 of 2 rows have no value"):
        paired_difference(frame(np.ones(2)), pl.DataFrame({"problem_id": ["p0", "p1"], "value": [1.0, None]}))
    with pytest.raises(ValueError, match=r"a: -0.5 is outside the bounds"):
        paired_difference(frame(np.array([-0.5])), frame(np.array([0.5])))
    with pytest.raises(ValueError, match=r"b denominator: -1.0 is negative"):
        paired_ratio_difference(sums(np.ones(1), np.ones(1)), sums(np.ones(1), -np.ones(1)))
    for confidence in (0, 1, 95):
        with pytest.raises(ValueError, match=r"allowed is a number between 0 and 1"):
            mean_interval([0.1, 0.2], confidence)
