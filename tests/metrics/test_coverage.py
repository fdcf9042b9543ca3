"""coverage@k against exact fractions and the product form, and its properties."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cos_assets.metrics.coverage import (
    count_correct,
    coverage,
    coverage_at_k,
    solved_curve,
)
from cos_assets.metrics.intervals import mean_interval

SCHEMA = {"k": pl.Int64, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "n_problems": pl.Int64}


def counts(*rows: tuple[str, int, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"problem_id": pl.String, "n": pl.Int64, "c": pl.Int64}, orient="row")


def missed(n: int, c: int, k: int) -> Fraction:
    """C(n-c, k)/C(n, k) as a product over the shorter side, so that n = 1e6 is exact."""
    if c + k > n:
        return Fraction(0)
    top = bottom = 1
    for i in range(min(c, k)):
        top *= n - i - max(c, k)
        bottom *= n - i
    return Fraction(top, bottom)


def relative_error(found: float, exact: Fraction) -> float:
    return abs(float((Fraction(found) - exact) / exact)) if exact else abs(found)


def product_form(n: int, c: int, k: int) -> float:
    """The estimator of openai/human-eval."""
    return 1.0 if n - c < k else float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


@st.composite
def triples(draw: st.DrawFn, largest: int) -> tuple[int, int, int]:
    n = draw(st.integers(1, largest))
    return n, draw(st.integers(0, n)), draw(st.integers(1, n))


@given(triples(80))
@settings(max_examples=300, deadline=None)
def test_coverage_equals_the_hypergeometric_sum_in_exact_fractions(triple: tuple[int, int, int]) -> None:
    n, c, k = triple
    hits = sum(comb(c, j) * comb(n - c, k - j) for j in range(1, k + 1))
    exact = Fraction(hits, comb(n, k))
    assert relative_error(float(coverage_at_k(n, c, k)), exact) < 1e-14


def test_coverage_is_exact_for_every_k_and_count_up_to_30() -> None:
    for n in range(1, 31):
        found = coverage_at_k(n, np.arange(n + 1)[:, None], np.arange(1, n + 1)[None, :])
        exact = [[float(1 - Fraction(comb(n - c, k), comb(n, k))) for k in range(1, n + 1)] for c in range(n + 1)]
        np.testing.assert_allclose(found, exact, rtol=1e-14, atol=0)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_coverage_is_exact_at_a_million_samples(data: st.DataObject) -> None:
    n = data.draw(st.integers(10**6, 3 * 10**6))
    few = data.draw(st.integers(1, 60))
    many = data.draw(st.one_of(st.integers(1, n), st.integers(n - 2 * few, n)))
    c, k = data.draw(st.sampled_from([(few, many), (many, few)]))
    assert relative_error(float(coverage_at_k(n, c, k)), 1 - missed(n, c, k)) < 1e-12


@pytest.mark.parametrize("n", [100, 10_000, 10**6])
def test_coverage_equals_the_product_form(n: int) -> None:
    rng = np.random.default_rng(n)
    for c, k in zip(rng.integers(0, n, 60), (n ** rng.random(60)).astype(int), strict=True):
        assert float(coverage_at_k(n, c, k)) == pytest.approx(product_form(n, int(c), int(k)), abs=1e-9)


def test_small_coverage_keeps_its_precision() -> None:
    assert float(coverage_at_k(10**6, 1, 1)) == pytest.approx(1e-6, rel=1e-14)
    assert float(coverage_at_k(10**9, 2, 3)) == pytest.approx(float(1 - missed(10**9, 2, 3)), rel=1e-14)


@given(st.integers(1, 3000), st.data())
@settings(deadline=None)
def test_coverage_is_bounded_and_monotone(n: int, data: st.DataObject) -> None:
    c = data.draw(st.integers(0, n))
    values = coverage_at_k(n, c, np.arange(1, n + 1))
    assert values[0] == pytest.approx(c / n, rel=1e-14)
    assert values[-1] == (1.0 if c else 0.0)
    assert values.min() >= 0 and values.max() <= 1
    assert np.all(np.diff(values) >= -2e-16)
    if c < n:
        assert np.all(coverage_at_k(n, c + 1, np.arange(1, n + 1)) >= values - 2e-16)


def test_shapes_broadcast_and_short_rows_are_nan() -> None:
    found = coverage_at_k(np.array([[2], [4], [0]]), np.array([[1], [2], [0]]), np.array([[1, 3]]))
    np.testing.assert_allclose(found, [[0.5, np.nan], [0.5, 1.0], [np.nan, np.nan]])
    assert coverage_at_k(np.empty(0, int), np.empty(0, int), 1).shape == (0,)
    assert coverage_at_k(5, 2, 1).shape == ()


@pytest.mark.parametrize(
    ("n", "c", "k", "message"),
    [
        (3, 4, 1, r"c is 4 of n = 3; allowed is 0 <= c <= n"),
        (3, -1, 1, r"c is -1"),
        (3, 1, 0, r"k is 0; allowed are whole numbers of at least 1"),
        (3, 1.5, 1, r"c has values of type float64; allowed are whole numbers"),
        (np.inf, 1, 1, r"n has values of type float64"),
        (3, 1, np.nan, r"k has values of type float64"),
    ],
)
def test_impossible_counts_are_refused(n: float, c: float, k: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coverage_at_k(n, c, k)


def test_curve_is_the_mean_over_problems_with_its_interval() -> None:
    table = counts(("a", 10, 3), ("b", 10, 0), ("c", 10, 10), ("d", 10, 3))
    found = coverage(table, [1, 2, 10])
    for k, value, low, high, n in found.rows():
        values = [product_form(10, c, k) for c in (3, 0, 10, 3)]
        assert (value, low, high, n) == pytest.approx(mean_interval(values), rel=1e-12)
    assert found.schema == SCHEMA


def test_problems_with_fewer_than_k_samples_are_left_out() -> None:
    table = counts(("a", 2, 1), ("b", 8, 2), ("c", 30, 0))
    found = coverage(table, [1, 8, 9, 31])
    assert found["n_problems"].to_list() == [3, 2, 1, 0]
    assert found["value"].to_list() == [pytest.approx((1 / 2 + 1 / 4) / 3), 0.5, 0.0, None]
    # One problem has no interval and none has no value: both are null.
    assert found["low"].null_count() == 2
    curve = solved_curve(table, [1, 8])
    assert curve.rows() == [("a", 1, 0.5), ("a", 8, None), ("b", 1, 0.25), ("b", 8, 1.0), ("c", 1, 0.0), ("c", 8, 0.0)]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=30), st.randoms())
@settings(deadline=None)
def test_results_are_bitwise_independent_of_the_row_order(pairs: list[tuple[int, int]], random) -> None:
    rows = [(f"p{i}", n, min(c, n)) for i, (n, c) in enumerate(pairs)]
    shuffled = list(rows)
    random.shuffle(shuffled)
    ks = range(1, 13)
    assert coverage(counts(*rows), ks).equals(coverage(counts(*shuffled), reversed(ks)))
    assert solved_curve(counts(*rows), ks).equals(solved_curve(counts(*shuffled), ks))


def test_the_block_size_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    table = counts(*((f"p{i}", 40, i) for i in range(41)))
    whole = coverage(table, range(1, 41))
    monkeypatch.setattr("cos_assets.metrics.coverage._BLOCK", 100)
    # Matrix products of other widths differ in the last bit.
    np.testing.assert_allclose(coverage(table, range(1, 41)).to_numpy(), whole.to_numpy(), rtol=1e-12)


def test_coverage_is_computed_per_group() -> None:
    table = counts(("a", 4, 1), ("b", 4, 2), ("a2", 4, 4), ("b2", 4, 0), ("x", 4, 1)).with_columns(
        level=pl.Series(["hard", "hard", "easy", "easy", None])
    )
    found = coverage(table, [1, 2], by="level")
    assert found.columns == ["level", *SCHEMA]
    assert found["level"].to_list() == [None, None, "easy", "easy", "hard", "hard"]
    easy = coverage(table.filter(pl.col("level") == "easy"), [1, 2])
    assert found.filter(pl.col("level") == "easy").drop("level").equals(easy)
    twice = pl.concat([table.with_columns(model=pl.lit(name)) for name in ("wc", "se")])
    assert coverage(twice, [1], by=["model", "level"]).select("model", "level").n_unique() == 6


def test_empty_frames_keep_their_schema() -> None:
    assert coverage(counts(), [1, 2]).schema == SCHEMA
    assert coverage(counts(), [1, 2]).height == 0
    levels = counts().with_columns(level=pl.lit(None, dtype=pl.Int32))
    assert coverage(levels, [1], by="level").schema == {"level": pl.Int32, **SCHEMA}
    assert coverage(counts(("a", 1, 1)), []).schema == SCHEMA
    assert solved_curve(counts(), [1]).schema == {"problem_id": pl.String, "k": pl.Int64, "value": pl.Float64}


def test_invalid_frames_are_refused() -> None:
    with pytest.raises(ValueError, match=r"counts: problem 'b' has c = 3 of n = 2; allowed is 0 <= c <= n"):
        coverage(counts(("a", 2, 1), ("b", 2, 3)), [1])
    with pytest.raises(ValueError, match=r"counts: \{'problem_id': 'a'\} occurs 2 times; allowed: once"):
        coverage(counts(("a", 2, 1), ("a", 2, 1)), [1])
    with pytest.raises(ValueError, match=r"counts: column 'c' is missing; found: \['problem_id', 'n'\]"):
        coverage(counts().drop("c"), [1])
    with pytest.raises(ValueError, match=r"counts: 1 of 1 rows have no c"):
        coverage(counts(("a", 2, None)), [1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"k is 0; allowed are whole numbers of at least 1"):
        solved_curve(counts(("a", 2, 1)), [0, 1])
    with pytest.raises(ValueError, match=r"confidence is 95"):
        coverage(counts(("a", 2, 1), ("b", 2, 1)), [1], confidence=95)


def test_counts_and_accuracy_are_computed_from_samples() -> None:
    samples = pl.DataFrame(
        {"problem_id": ["b", "a", "a", "b", "b"], "correct": [True, False, True, True, False], "model": ["m"] * 5}
    )
    assert count_correct(samples).rows() == [("a", 2, 1), ("b", 3, 2)]
    assert count_correct(samples, by="model").rows() == [("m", "a", 2, 1), ("m", "b", 3, 2)]
    accuracy = coverage(count_correct(samples), [1]).row(0)
    assert accuracy[1:] == pytest.approx(mean_interval([1 / 2, 2 / 3]), rel=1e-12)
    assert coverage(count_correct(samples.clear()), [1]).is_empty()
    with pytest.raises(ValueError, match=r"samples: correct has type Int64; allowed is Boolean"):
        count_correct(samples.with_columns(pl.col("correct").cast(pl.Int64)))
