from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest

from cos_assets import tasks
from cos_assets.grading.grade import Kind
from cos_assets.judging.verdicts import VERDICT_COLUMNS, second_opinion, verdicts
from cos_assets.metrics.summary import sample_metrics
from cos_assets.tasks.arithmetic import Arithmetic

TASK = tasks.make({"name": "arithmetic", "train": 3, "validation": 1, "test": 1})
PROBLEMS = TASK.load()
PROBLEM = PROBLEMS.row(0, named=True)


def graded(*rows: tuple[str, str]) -> pl.DataFrame:
    samples = pl.DataFrame(
        {
            "problem_id": [PROBLEM["problem_id"]] * len(rows),
            "sample_index": range(len(rows)),
            "completion": [text for text, _ in rows],
            "finish_reason": [reason for _, reason in rows],
        },
        schema={
            "problem_id": pl.String,
            "sample_index": pl.Int32,
            "completion": pl.String,
            "finish_reason": pl.String,
        },
    )
    return verdicts(samples, PROBLEMS, TASK)


def test_verdicts_have_the_expected_columns_and_values() -> None:
    right, wrong = f"The answer is {PROBLEM['answer']} .", "The answer is 1000 ."
    frame = graded((right, "stop"), (wrong, "stop"), ("no idea", "stop"), (right, "length"), ("", "error"))
    assert frame.columns == list(VERDICT_COLUMNS)
    assert frame["verdict"].to_list() == ["correct", "wrong", "no_answer", "truncated", "no_answer"]
    assert frame["correct"].to_list() == [True, False, False, False, False]
    assert frame["answer"].to_list()[:3] == [PROBLEM["answer"], "1000", None]
    assert set(frame["level"]) == {PROBLEM["level"]}


def test_equal_solutions_have_equal_keys() -> None:
    answer = int(PROBLEM["answer"])
    end = f"The answer is {answer} ."
    texts = [
        f"{answer} + 0 = {answer} . {end}",
        f"{answer}  + 0  = {answer} . {end}",
        f"0 + {answer} = {answer} . {end}",
    ]
    frame = graded(
        *((text, "stop") for text in [*texts, f"1 + {answer - 1} = {answer} . {end}", "The answer is 1000 ."])
    )
    by_text, by_equations = frame["text_key"].to_list(), frame["equations_key"].to_list()
    assert by_text[0] == by_text[1] != by_text[2]  # white space is ignored, order is not
    assert by_equations[0] == by_equations[1] == by_equations[2] != by_equations[3]  # 0 + 5 equals 5 + 0
    assert by_text[4] is None
    assert by_equations[4] is None


def test_solutions_without_equations_are_distinguished_by_their_text() -> None:
    end = f"The answer is {PROBLEM['answer']} ."
    texts = [f"By counting. {end}", f"By symmetry. {end}", f"**By  counting.** {end}", f"1 + 1 = 2 . {end}"]
    keys = graded(*((text, "stop") for text in texts))["equations_key"].to_list()
    assert keys[0] == keys[2]
    assert len(set(keys)) == 3


def test_distinct_published_solutions_are_counted_by_each_key(public_data: Path) -> None:
    """100 problems with 8 samples each: solutions with equations are compared by equations, the others by text."""
    task = tasks.make("math")
    by_text, by_identity, by_equations = 0, 0, 0
    for line in (public_data / "qwen_math_cot_100" / "math_cot_100.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        right = [text for text, correct in zip(row["code"], row["score"], strict=True) if correct]
        by_text += len({" ".join(text.split()) for text in right})
        by_identity += len({task.identity(text) for text in right})
        by_equations += len({task.equations(text) for text in right})
    assert (by_text, by_identity, by_equations) == (652, 316, 224)


def test_samples_of_a_task_without_golds_have_no_verdict() -> None:
    class Unverified(Arithmetic):
        answer_kind: ClassVar[Kind | None] = None

    samples = pl.DataFrame(
        {
            "problem_id": [PROBLEM["problem_id"]] * 3,
            "sample_index": [0, 1, 2],
            "completion": ["The answer is 3 .", "cut", "The answer is 4 ."],
            "finish_reason": ["stop", "length", "stop"],
        }
    )
    frame = verdicts(samples, PROBLEMS.with_columns(answer=pl.lit(None, pl.String)), Unverified())
    assert frame["verdict"].to_list() == [None, "truncated", None]
    assert frame["correct"].null_count() == frame["text_key"].null_count() == 3, "unverified is neither right nor wrong"
    assert second_opinion(frame, PROBLEMS)[0] is None
    assert sample_metrics(frame).is_empty()


def test_disagreements_of_the_second_grader_are_listed() -> None:
    answer = PROBLEM["answer"]
    sure = f"The answer is {answer} ."
    frame = graded(
        (sure, "stop"), (f"The answer is 0{answer} .", "stop"), (sure, "length"), ("The answer is 1000 .", "stop")
    )
    assert frame["strict"].to_list() == [True, False, None, False]
    rate, shown = second_opinion(frame, PROBLEMS)
    assert rate == pytest.approx(1 / 3)
    assert shown.rows(named=True) == [{"gold": answer, "answer": f"0{answer}", "verdict": "correct", "samples": 1}]
    assert second_opinion(frame.head(1), PROBLEMS)[0] == 0


def test_a_sample_of_an_unknown_problem_is_refused() -> None:
    samples = pl.DataFrame(
        {"problem_id": ["other"], "sample_index": [0], "completion": ["x"], "finish_reason": ["stop"]}
    )
    with pytest.raises(ValueError, match="1 rows belong to no problem of this study"):
        verdicts(samples, PROBLEMS, TASK)


def test_no_samples_give_no_verdicts() -> None:
    assert graded().columns == list(VERDICT_COLUMNS)
