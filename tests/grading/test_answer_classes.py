"""Classes of equal answers."""

from __future__ import annotations

import polars as pl
import pytest

from cos_assets.grading.answer_classes import answer_classes
from cos_assets.grading.grade import Kind


def rows(*given: tuple[str, str | None, str]) -> pl.DataFrame:
    schema = {"problem_id": pl.String, "answer": pl.String, "verdict": pl.String}
    return pl.DataFrame(list(given), schema=schema, orient="row")


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [("number", ["7", "7.0", "8", "$7", "7"]), ("math", ["\\frac{1}{2}x", "x/2", "x", "0.5x", "x/2"])],
)
def test_equal_wrong_answers_are_one_class(kind: Kind, wrong: list[str]) -> None:
    given = rows(("p", "3", "correct"), *(("p", answer, "wrong") for answer in wrong), ("q", wrong[0], "wrong"))
    assert answer_classes(given, kind).to_list() == [0, 1, 1, 2, 1, 1, 1]


def test_a_sample_without_an_answer_has_no_vote() -> None:
    given = rows(("p", None, "no_answer"), ("p", "3", "truncated"), ("p", "3", "correct"), ("p", "?", "grader_error"))
    assert answer_classes(given, "number").to_list() == [None, None, 0, 1]


def test_programs_have_no_vote() -> None:
    assert answer_classes(rows(("p", "def f(): pass", "wrong")), "tests").to_list() == [None]
    assert answer_classes(rows().clear(), "number").to_list() == []
