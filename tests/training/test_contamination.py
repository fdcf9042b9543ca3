from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cos_assets.training.contamination import N, overlaps

LONG = "A farmer has twelve sheep and buys seven more on each of the first three days of the week, how many?"


def frame(**questions: str) -> pl.DataFrame:
    return pl.DataFrame({"problem_id": list(questions), "question": list(questions.values())})


def found(problems: pl.DataFrame, scored: pl.DataFrame, completion: str = "So 4 .", **more: Any) -> list[tuple]:
    rows = problems.select("problem_id", completion=pl.lit(completion))
    return overlaps(rows, problems, scored, **more).drop("shared").rows()


def test_an_equal_question_is_found_despite_length_and_notation() -> None:
    assert found(frame(a="What is 2 + 2?", b="else"), frame(t="what is 2+2")) == [("a", "question", "t", 1.0)]
    assert found(frame(a=LONG), frame(t=LONG.upper() + "!")) == [("a", "question", "t", 1.0)]


def test_a_question_contained_in_another_text_is_found() -> None:
    assert found(frame(a="Read: " + LONG + " Explain."), frame(t=LONG)) == [("a", "question", "t", 1.0)]
    assert found(frame(a="else"), frame(t=LONG), f"So 4.\nQuestion: {LONG}") == [("a", "completion", "t", 1.0)]


def test_the_share_counts_words_in_long_runs() -> None:
    words = LONG.split()
    half = " ".join([*words[:N], "and", "nothing", "else"])
    ((_, _, _, share),) = found(frame(a=half), frame(t=LONG))
    assert share == pytest.approx(N / len(words))
    assert not found(frame(a=" ".join(words[: N - 1])), frame(t=LONG))
    mixed = " ".join([*words[:10], "x", *words[10:]])
    assert not found(frame(a=mixed), frame(t=LONG)), "no run of 13 words"
    assert found(frame(a=mixed), frame(t=LONG), n=5)[0][3] == 1.0


def test_only_training_rows_are_searched() -> None:
    problems = frame(a=LONG, b="else")
    rows = pl.DataFrame({"problem_id": ["b"], "completion": ["4"]})
    assert overlaps(rows, problems, frame(t=LONG)).is_empty()
    assert overlaps(rows.clear(), problems, frame(t=LONG)).is_empty()
