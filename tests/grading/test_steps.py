"""Checks whether a chain of equations computes the answer to the problem."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cos_assets.grading import steps
from cos_assets.grading.steps import check_program

# Ann has 12 apples, gets 3 crates of 4, loses 5; Ben has twice as many.
TRUTH = json.dumps(
    {"literals": [12, 3, 4, 5, 2], "constants": [4], "program": [["*", 1, 2], ["+", 0, 5], ["-", 6, 3], ["*", 7, 4]]}
)

CHAINS = [
    ("3 * 4 = 12 . 12 + 12 = 24 . 24 - 5 = 19 . 19 * 2 = 38 . The answer is 38 .", "right", None),
    ("4 * 3 = 12 . 12 - 5 = 7 . 7 + 12 = 19 . 2 * 19 = 38 . The answer is 38 .", "right", None),  # reordered
    ("3 * 4 = 12 . 12 + 12 - 5 = 19 . 19 + 19 = 38 . The answer is 38 .", "right", None),  # twice is x + x
    ("( 12 + 3 * 4 - 5 ) * 2 = 38 . The answer is 38 .", "right", None),
    ("- 5 + 3 * 4 + 12 = 19 . 19 * 2 = 38 .", "right", None),
    ("3*4=12. 12+12=24. 24-5=19. 19*2=38.", "right", None),  # no stated answer: the last result is used
    ("3 * 4 = 12 .\n12 + 12 = 24 .\n24 - 5 = 19 .\n19 * 2 = 38 .\nThe answer is 38 .", "right", None),
    ("3 * 4 = 12 . 12 + 12 = 24 . 24 - 5 = 19 . 19 * 2 = 38 . 38 + 5 = 43 . The answer is 38 .", "right", None),
    (
        "3 * 4 = 12 . 12 + 12 = 24 . 24 - 5 = 18 . 19 * 2 = 38 . The answer is 38 .",
        "wrong",
        3,
    ),  # an error that is corrected
    ("3 * 4 = 13 . 12 + 13 = 25 . 25 - 5 = 19 . 19 * 2 = 38 . The answer is 38 .", "wrong", 1),  # errors that cancel
    ("3 * 4 = 12 . 12 + 12 = 24 . 24 - 5 = 19 . 20 * 2 = 40 . The answer is 40 .", "wrong", 4),  # 20 from nowhere
    ("12 + 5 = 17 . 17 + 2 = 19 . 19 * 2 = 38 . The answer is 38 .", "wrong", None),  # true but irrelevant
    ("3 * 4 = 12 . 12 + 12 = 24 . 24 - 5 = 19 . 19 * 2 = 38 . The answer is 19 .", "wrong", None),
    ("3 * 4 = 12 . 12 + 12 = 24 . 24 - 5 = 19 . The answer is 19 .", "wrong", None),  # stops early
    ("3 * 4 = 12 . 12 + = 24 . The answer is 24 .", "unreadable", 2),
    ("I guess . The answer is 38 .", "unreadable", 1),
    ("The answer is 38 .", "unreadable", None),
    ("", "unreadable", None),
    ("5 / 0 = 0 .", "wrong", 1),
]


@pytest.mark.parametrize(("text", "label", "step"), CHAINS)
def test_chains_get_the_expected_label_and_first_wrong_step(text: str, label: str, step: int | None) -> None:
    check = check_program(TRUTH, text)
    assert (check.label, check.first_wrong_step) == (label, step), check
    assert (check.reason is None) == (label == "right")
    assert check == check_program(TRUTH, text)


def test_a_sum_with_the_result_of_the_product_is_wrong() -> None:
    truth = json.dumps({"literals": [2, 2], "constants": [], "program": [["*", 0, 1]]})
    assert check_program(truth, "2 * 2 = 4 . The answer is 4 .").label == "right"
    assert check_program(truth, "2 + 2 = 4 . The answer is 4 .").label == "wrong"


def test_equal_numbers_are_read_in_either_role() -> None:
    # 9 - 4 = 5, and 5 is also a number of the problem.
    truth = json.dumps({"literals": [9, 4, 5], "constants": [], "program": [["-", 0, 1], ["*", 3, 2]]})
    assert check_program(truth, "9 - 4 = 5 . 5 * 5 = 25 . The answer is 25 .").label == "right"


def test_a_chain_with_too_many_readings_is_unreadable() -> None:
    truth = json.dumps({"literals": [1] * 70, "constants": [], "program": [["*", 0, 1]]})
    check = check_program(truth, "1 * 1 = 1 . The answer is 1 .")
    assert (check.label, check.first_wrong_step) == ("unreadable", 1)
    assert str(steps.MAX_READINGS) in str(check.reason)


@pytest.mark.parametrize(
    "truth",
    [
        "",
        "[]",
        "{}",
        '{"literals": [1], "constants": [], "program": []}',
        '{"literals": [1], "constants": [], "program": [["+", 0, 7]]}',
        '{"literals": [1], "constants": [], "program": [["^", 0, 0]]}',
        '{"literals": ["a"], "constants": [], "program": [["+", 0, 0]]}',
    ],
)
def test_invalid_truth_is_refused(truth: str) -> None:
    with pytest.raises(ValueError, match=r"truth: .*allowed: "):
        check_program(truth, "1 + 1 = 2 .")


@given(st.lists(st.integers(2, 99), min_size=3, max_size=3, unique=True), st.permutations([0, 1, 2]))
def test_a_sum_is_right_in_any_order(numbers: list[int], order: list[int]) -> None:
    truth = json.dumps({"literals": numbers, "constants": [], "program": [["+", 0, 1], ["+", 3, 2]]})
    a, b, c = (numbers[i] for i in order)
    assert check_program(truth, f"{a} + {b} = {a + b} . {c} + {a + b} = {a + b + c} .").label == "right"
    assert check_program(truth, f"{a} + {b} = {a + b} . {a + b} - {c} = {a + b - c} .").label != "right"
