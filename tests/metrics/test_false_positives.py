"""False positive rates: known answers, clustering, unread rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from cos_assets.metrics.differences import better, paired_ratio_difference
from cos_assets.metrics.false_positives import (
    corrected_rate,
    false_positive_rate,
    false_positive_sums,
    false_positives,
)


def judged(**wrong: Sequence[bool | None]) -> pl.DataFrame:
    rows = [(problem, label) for problem, labels in wrong.items() for label in labels]
    return pl.DataFrame(rows, schema={"problem_id": pl.String, "wrong_reasoning": pl.Boolean}, orient="row")


def test_the_rate_is_over_samples_and_n_counts_problems() -> None:
    found = false_positive_rate(judged(a=[True, True, False], b=[False], c=[False, False]))
    assert found.value == pytest.approx(2 / 6)
    assert found.n == 3
    assert 0 <= found.low < found.value < found.high <= 1


def test_repeated_samples_of_a_problem_do_not_narrow_the_interval() -> None:
    """40 problems judged once, and the same 40 problems judged ten times with equal outcomes, give equal intervals."""
    once = {f"p{i}": [i < 8] for i in range(40)}
    tenfold = {problem: labels * 10 for problem, labels in once.items()}
    assert false_positive_rate(judged(**tenfold)) == pytest.approx(false_positive_rate(judged(**once)), rel=1e-12)


def test_a_rate_of_zero_has_an_interval_of_positive_width() -> None:
    found = false_positive_rate(judged(**{f"p{i}": [False] * 5 for i in range(50)}))
    assert found.value == found.low == 0
    # One sample per problem: the rule of three gives 3/50.
    assert 0.05 < found.high < 0.1


def test_unread_rows_are_counted_and_left_out() -> None:
    rows = judged(a=[True, None], b=[None], c=[False])
    table = false_positives(rows)
    assert table.select("value", "n_problems", "n_samples", "n_unread").rows() == [(0.5, 2, 2, 2)]
    assert false_positive_sums(rows).rows() == [("a", 1, 1), ("c", 0, 1)]
    unread = false_positives(judged(a=[None]))
    assert unread.rows() == [(None, None, None, 0, 0, 1)]


def test_rates_are_computed_per_group_and_for_empty_frames() -> None:
    rows = judged(a=[True], b=[False], c=[False]).with_columns(model=pl.Series(["wc", "wc", "se"]))
    table = false_positives(rows, by="model")
    assert table.select("model", "value", "n_problems").rows() == [("se", 0.0, 1), ("wc", 0.5, 2)]
    assert false_positives(rows.clear(), by="model").schema == table.schema
    assert np.isnan(false_positive_rate(judged()).value)


def test_the_difference_of_two_models_is_paired_by_problem() -> None:
    wc = false_positive_sums(judged(**{f"p{i}": [i < 60, False] for i in range(200)}))
    se = false_positive_sums(judged(**{f"p{i}": [i < 10] for i in range(150)}))
    found = paired_ratio_difference(wc, se)
    assert found.value == pytest.approx(60 / 400 - 10 / 150)
    assert found.n == 200
    assert better(found, higher="se", lower="wc") == "se"
    back = paired_ratio_difference(se, wc)
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))
    assert better(paired_ratio_difference(wc, wc)) == "cannot tell"


def test_invalid_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"judged: wrong_reasoning has type Int64; allowed is Boolean"):
        false_positive_rate(pl.DataFrame({"problem_id": ["a"], "wrong_reasoning": [1]}))
    with pytest.raises(ValueError, match=r"judged: column 'wrong_reasoning' is missing"):
        false_positives(pl.DataFrame({"problem_id": ["a"]}))
    with pytest.raises(ValueError, match=r"judged: 1 of 1 rows have no problem_id"):
        false_positives(pl.DataFrame({"problem_id": [None], "wrong_reasoning": [True]}))


def test_rows_count_with_their_weight() -> None:
    """One problem has ten correct samples, of which one was judged; another has only one."""
    rows = judged(a=[True], b=[False], c=[None]).with_columns(weight=pl.Series([10.0, 1.0, 5.0]))
    assert false_positive_sums(rows).rows() == [("a", 10.0, 10.0), ("b", 0.0, 1.0)]
    assert false_positive_rate(rows).value == pytest.approx(10 / 11)


def labels(*counts: tuple[bool, bool, int]) -> pl.DataFrame:
    """(judge, human, count); every row has its own problem."""
    rows = [(judge, human) for judge, human, often in counts for _ in range(often)]
    frame = pl.DataFrame(rows, schema={"judge": pl.Boolean, "human": pl.Boolean}, orient="row")
    return frame.with_columns(problem_id=pl.int_range(pl.len()).cast(pl.String))


def test_the_corrected_rate_is_that_of_rogan_and_gladen() -> None:
    """Worked by hand: 30 % are judged wrong; 80 % of wrong ones are detected, 90 % of correct ones pass:
    (0.3 + 0.9 - 1) / (0.8 + 0.9 - 1) = 2/7."""
    read = judged(**{f"p{i}": [i < 30] for i in range(100)})
    found = corrected_rate(read, labels((True, True, 40), (False, True, 10), (False, False, 90), (True, False, 10)))
    assert found.value == pytest.approx(2 / 7)
    assert found.low < 2 / 7 < found.high and found.n == 100
    # Lang & Reiczigel's formula with z = 1.96. The effective sizes of clusters of one are
    # those of n - 1: 99, 49, 99.
    p, m, s, ms, t, mt = (99 * 0.3 + 1.92073) / 102.84146, 102.84146, (49 * 0.8 + 1) / 51, 51, (99 * 0.9 + 1) / 101, 101
    j = s + t - 1
    x = (p + t - 1) / j
    a, b = s * (1 - s) / ms, t * (1 - t) / mt
    centre = x + 2 * 3.84146 * (x * a - (1 - x) * b)
    half = 1.959964 * np.sqrt(p * (1 - p) / m + x * x * a + (1 - x) ** 2 * b) / j
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half), abs=1e-5)


def test_correction_keeps_a_perfect_judge_and_is_undefined_for_a_random_one() -> None:
    read = judged(**{f"p{i}": [i < 20] for i in range(200)})
    perfect = corrected_rate(read, labels((True, True, 2000), (False, False, 2000)))
    assert perfect.value == pytest.approx(0.1)
    assert perfect[1:3] == pytest.approx(false_positive_rate(read)[1:3], abs=0.01)
    for blind in (
        labels((True, True, 30), (False, True, 30), (True, False, 30), (False, False, 30)),
        labels((True, True, 30)),
        labels((False, False, 30)),
    ):
        found = corrected_rate(read, blind)
        assert np.isnan(found.value) and found[1:] == (0.0, 1.0, 200)
    fewer = corrected_rate(read, labels((True, True, 8), (False, True, 2), (False, False, 18), (True, False, 2)))
    assert fewer.value == 0.0 and fewer.low == 0.0 < fewer.high, "a rate below the false alarms is set to 0"


def simulate(rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """300 problems whose samples have correlated errors, two judged samples of each; sensitivity 0.8, specificity 0.9;
    people labelled one sample each of 100 of these problems."""
    chance = rng.beta(0.4, 1.6, 300)  # mean 0.2
    truth = rng.random((300, 2)) < chance[:, None]
    said = rng.random((300, 2)) < np.where(truth, 0.8, 0.1)
    ids = pl.Series([f"p{i}" for i in range(300)])
    read = pl.DataFrame({"problem_id": ids.append(ids), "wrong_reasoning": said.T.ravel()})
    seen = slice(0, 100)
    return read, pl.DataFrame({"problem_id": ids[seen], "judge": said[seen, 0], "human": truth[seen, 0]})


def test_the_corrected_interval_covers_the_true_rate() -> None:
    rng = np.random.default_rng(0)
    held, naive = 0, 0
    for _ in range(400):
        read, known = simulate(rng)
        found, plain = corrected_rate(read, known), false_positive_rate(read)
        held += found.low <= 0.2 <= found.high
        naive += plain.low <= 0.2 <= plain.high
    assert held / 400 >= 0.92
    assert naive / 400 < 0.5, "the test requires that the uncorrected rate is biased"
