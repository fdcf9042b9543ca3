"""diversity@k against every subset of small draws, and against the formula of the paper."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cos_assets.metrics.coverage import count_correct, coverage
from cos_assets.metrics.diversity import diversity, diversity_curve

# One problem: a class per sample, None where the sample is wrong.
Problem = list[str | None]
problems_of = st.lists(st.lists(st.sampled_from([None, "x", "y", "z"]), min_size=1, max_size=7), min_size=1, max_size=5)


def samples(problems: list[Problem]) -> pl.DataFrame:
    rows = [(f"p{i}", j, key is not None, key) for i, keys in enumerate(problems) for j, key in enumerate(keys)]
    schema = {"problem_id": pl.String, "sample_index": pl.Int32, "correct": pl.Boolean, "key": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def enumerated(keys: Problem, k: int) -> tuple[Fraction, Fraction, Fraction]:
    """Mean over all k-subsets: distinct correct, correct, solved."""
    subsets = [[key for key in subset if key] for subset in combinations(keys, k)]
    size = len(subsets)
    return (
        Fraction(sum(len(set(subset)) for subset in subsets), size),
        Fraction(sum(len(subset) for subset in subsets), size),
        Fraction(sum(bool(subset) for subset in subsets), size),
    )


@given(problems_of)
@settings(max_examples=60, deadline=None)
def test_diversity_equals_the_mean_over_every_subset(problems: list[Problem]) -> None:
    found = diversity(samples(problems), range(1, 8))
    value = {row[:3]: (row[3], row[6]) for row in found.rows()}
    for k in range(1, 8):
        cases = [enumerated(keys, k) for keys in problems if len(keys) >= k]
        solved = sum(case[2] for case in cases)
        for column, label in ((0, "exact"), (1, "none")):
            total = sum(case[column] for case in cases)
            expected = pytest.approx(float(total / len(cases)), rel=1e-12, abs=1e-15) if cases else None
            assert value[label, "all", k] == (expected, len(cases))
            share = pytest.approx(float(total / solved), rel=1e-12) if solved else None
            assert value[label, "solved", k] == (share, sum(case[2] > 0 for case in cases))


@given(problems_of)
@settings(max_examples=40, deadline=None)
def test_diversity_curve_equals_the_mean_over_subsets_of_each_problem(problems: list[Problem]) -> None:
    frame = samples(problems)
    for key, column in (("key", 0), (None, 1)):
        for problem, k, numerator, denominator in diversity_curve(frame, [1, 3], key=key).rows():
            keys = problems[int(problem[1:])]
            if len(keys) < k:
                assert (numerator, denominator) == (None, None)
                continue
            exact = enumerated(keys, k)
            assert numerator == pytest.approx(float(exact[column]), rel=1e-12, abs=1e-15)
            assert denominator == pytest.approx(float(exact[2]), rel=1e-12, abs=1e-15)


@given(problems_of)
@settings(max_examples=40, deadline=None)
def test_diversity_stays_within_its_limits(problems: list[Problem]) -> None:
    found = diversity(samples(problems), range(1, 8)).drop_nulls("value")
    least = pl.when(pl.col("denominator") == "solved").then(1.0).otherwise(0.0)
    assert found.filter((pl.col("value") < least - 1e-12) | (pl.col("value") > pl.col("k") + 1e-12)).is_empty()
    known = found.drop_nulls("low")
    assert known.filter(
        (pl.col("low") > pl.col("value") + 1e-12) | (pl.col("high") < pl.col("value") - 1e-12)
    ).is_empty()
    pairs = found.pivot(on="distinct", index=["denominator", "k"], values="value")
    assert pairs.filter(pl.col("exact") > pl.col("none") + 1e-12).is_empty()


def test_the_papers_diversity_is_k_times_pass_1_over_coverage() -> None:
    rng = np.random.default_rng(5)
    correct = rng.random((200, 30)) < rng.beta(0.301, 0.835, (200, 1))
    frame = pl.DataFrame(
        {
            "problem_id": np.repeat(np.arange(200), 30),
            "sample_index": np.tile(np.arange(30), 200),
            "correct": correct.ravel(),
            "key": "same",
        }
    )
    ks = [1, 3, 10, 30]
    found = diversity(frame, ks)
    curve = coverage(count_correct(frame), ks)["value"]
    paper = found.filter(distinct="none", denominator="solved")
    np.testing.assert_allclose(paper["value"], np.array(ks) * correct.mean() / curve, rtol=1e-12)
    # At one sample it is 1 by definition, not by measurement.
    assert paper.row(0)[3:6] == pytest.approx((1, 1, 1))
    # A single class: distinct is the chance of being solved, over all problems and over solved ones.
    exact = found.filter(distinct="exact")
    np.testing.assert_allclose(exact.filter(denominator="all")["value"], curve, rtol=1e-12)
    np.testing.assert_allclose(exact.filter(denominator="solved")["value"], 1, rtol=1e-12)


@pytest.mark.parametrize(("a", "b", "k", "bar"), [(0.301, 0.835, 30, 11.38), (0.313, 0.644, 10, 5.04)])
def test_simulated_beta_fits_give_the_bars_of_the_paper(a: float, b: float, k: int, bar: float) -> None:
    """Bansal et al. 2024, figure 3b (MATH, high budget), simulated at its 7,500 problems.

    The fit's pass@1 is 2 % below the one plotted, and bars are read off a figure.
    """
    rng = np.random.default_rng(k)
    correct = rng.random((7_500, k)) < rng.beta(a, b, (7_500, 1))
    frame = pl.DataFrame(
        {
            "problem_id": np.repeat(np.arange(7_500), k),
            "sample_index": np.tile(np.arange(k), 7_500),
            "correct": correct.ravel(),
        }
    )
    found = diversity(frame, [k], confidence=0.999, keys={}).filter(denominator="solved").row(0, named=True)
    assert found["distinct"] == "none"
    unsolved = np.prod([(b + i) / (a + b + i) for i in range(k)])
    assert found["low"] < k * a / (a + b) / (1 - unsolved) < found["high"]
    assert found["value"] == pytest.approx(bar, rel=0.04)


def test_diversity_is_computed_per_key_and_group() -> None:
    frame = samples([["x", "y", None], ["x", "x", "z"]]).with_columns(
        equations=pl.Series(["e", "e", None, "f", "f", "f"]), level=pl.Series([1] * 3 + [2] * 3)
    )
    found = diversity(frame, [3], keys={"exact": "key", "equations": "equations"}, by="level")
    values = {row[:3]: row[4] for row in found.rows()}
    expected = {}
    for denominator in ("all", "solved"):
        for level, none, exact, equations in ((1, 2, 2, 1), (2, 3, 2, 1)):
            for label, number in (("none", none), ("exact", exact), ("equations", equations)):
                expected[level, label, denominator] = number
    assert values == pytest.approx(expected)


@given(problems_of, st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_results_are_bitwise_independent_of_the_row_order(problems: list[Problem], seed: int) -> None:
    frame = samples(problems)
    shuffled = frame.sample(fraction=1, shuffle=True, seed=seed)
    assert diversity(frame, [1, 2, 5]).equals(diversity(shuffled, [1, 2, 5]))
    assert diversity_curve(frame, [1, 2, 5]).equals(diversity_curve(shuffled, [1, 2, 5]))


def test_the_block_size_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = samples([["x", "y", None, "x"], ["x", "x", "z", None], [None] * 4])
    numbers = ["value", "low", "high", "n_problems"]
    whole, curve = diversity(frame, range(1, 5)), diversity_curve(frame, range(1, 5))
    monkeypatch.setattr("cos_assets.metrics.coverage._BLOCK", 1)
    single = diversity(frame, range(1, 5))
    assert single.drop(numbers).equals(whole.drop(numbers))
    np.testing.assert_allclose(single.select(numbers).to_numpy(), whole.select(numbers).to_numpy(), rtol=1e-12)
    assert diversity_curve(frame, range(1, 5)).equals(curve)


def test_diversity_is_defined_without_correct_samples_and_without_samples() -> None:
    none = diversity(samples([[None, None], [None]]), [1])
    assert none.filter(denominator="all")["value"].to_list() == [0.0, 0.0]
    # Without a solved problem the value is unknown, not 0.
    assert none.filter(denominator="solved").select("value", "n_problems").rows() == [(None, 0)] * 2
    assert none.filter(denominator="all").filter(pl.col("high") > 0).height == 2
    empty = diversity(samples([]), [1])
    assert empty.schema == none.schema and empty.is_empty()
    assert diversity_curve(samples([]), [1]).schema == diversity_curve(samples([["x"]]), [1]).schema


def test_invalid_samples_are_refused() -> None:
    frame = samples([["x", "y"]])
    with pytest.raises(ValueError, match=r"samples: 2 of 2 correct samples have no key"):
        diversity(frame.with_columns(key=pl.lit(None, dtype=pl.String)), [1])
    with pytest.raises(ValueError, match=r"\{'problem_id': 'p0', 'sample_index': 0\} occurs 2 times"):
        diversity(pl.concat([frame, frame]), [1])
    with pytest.raises(ValueError, match=r"samples: column 'text' is missing"):
        diversity(frame, [1], keys={"exact": "text"})
    with pytest.raises(ValueError, match=r"samples: 1 of 2 rows have no correct"):
        diversity(frame.with_columns(correct=pl.Series([True, None])), [1])
    with pytest.raises(ValueError, match=r"k is -1"):
        diversity_curve(frame, [-1])
