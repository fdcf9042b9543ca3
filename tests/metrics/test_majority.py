"""maj@k against votes counted by hand, over every subset."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cos_assets.metrics.majority import maj_at_k


def samples(*answers: str | None, gold: str = "a", problem: str = "p") -> pl.DataFrame:
    return pl.DataFrame(
        [(problem, i, a, a == gold) for i, a in enumerate(answers)],
        schema={"problem_id": pl.String, "sample_index": pl.Int32, "answer": pl.String, "correct": pl.Boolean},
        orient="row",
    )


@pytest.mark.parametrize(
    ("answers", "k", "value"),
    [
        ("a", 1, 1.0),
        ("ab", 2, 0.5),  # a tie counts half
        ("abc", 3, 1 / 3),
        ("baa", 3, 1.0),
        ("baa", 1, 2 / 3),  # two of three subsets are correct
        ("baa", 2, 2 / 3),  # ba, ba: 1/2 each; aa: 1
        ("bba", 3, 0.0),
        ("ab", 3, None),
    ],
)
def test_maj_at_k_equals_the_values_computed_by_hand(answers: str, k: int, value: float | None) -> None:
    assert maj_at_k(samples(*answers), k)["value"].to_list() == [value if value is None else pytest.approx(value)]


def test_samples_without_an_answer_do_not_vote() -> None:
    assert maj_at_k(samples(None, None, "a"), 3)["value"].to_list() == [1.0]
    assert maj_at_k(samples(None, None, "a"), 1)["value"].to_list() == [pytest.approx(1 / 3)]
    assert maj_at_k(samples(None, None, None), 3)["value"].to_list() == [0.0]


def test_correct_answers_in_any_form_are_one_class() -> None:
    rows = samples("0.5", "1/2", "7", "7").with_columns(correct=pl.col("answer") != "7")
    assert maj_at_k(rows, 4)["value"].to_list() == [0.5]


def test_many_samples_are_counted_exactly() -> None:
    """By symmetry: 20 classes of 5, of which one is correct, win equally often."""
    rows = samples(*[chr(ord("a") + i % 20) for i in range(100)])
    assert maj_at_k(rows, 64)["value"].to_list() == [pytest.approx(1 / 20, rel=1e-12)]


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=9), min_size=1, max_size=5),
       st.integers(1, 9))  # fmt: skip
def test_maj_at_k_equals_the_mean_over_every_subset(problems: list[list[str | None]], k: int) -> None:
    table = pl.concat([samples(*answers, problem=f"p{i}") for i, answers in enumerate(problems)])
    expected: list[Any] = []
    for answers in problems:
        won = []
        for subset in combinations(answers, k):
            votes = Counter(answer for answer in subset if answer is not None)
            most = max(votes.values(), default=0)
            won.append((votes["a"] == most) / sum(n == most for n in votes.values()) if most else 0.0)
        expected.append(pytest.approx(sum(won) / len(won)) if won else None)
    for rows in (table, table.sample(fraction=1, shuffle=True, seed=0)):
        assert maj_at_k(rows, k)["value"].to_list() == expected


@pytest.mark.parametrize(
    ("table", "k", "message"),
    [
        (samples("a"), 0, "k is 0"),
        (samples("a").drop("answer"), 1, "column 'answer' is missing"),
        (samples(*"a" * 1001), 1, "a problem has 1001; majorities are counted for at most 1000"),
        (samples("a").with_columns(pl.col("correct").cast(pl.Int8)), 1, "correct has type Int8; allowed is Boolean"),
    ],
)
def test_invalid_input_is_refused_with_the_reason(table: pl.DataFrame, k: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        maj_at_k(table, k)
