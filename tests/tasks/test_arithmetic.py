"""The built-in task."""

from __future__ import annotations

import pydantic
import pytest

from cos_assets import tasks
from cos_assets.tasks.arithmetic import Arithmetic

TASK = Arithmetic(train=5, validation=3, test=4, seed=2)


def test_the_task_is_made_by_name() -> None:
    task = tasks.make({"name": "arithmetic", "train": 5, "seed": 2})
    assert isinstance(task, Arithmetic)
    assert (task.train, task.validation, task.test, task.seed) == (5, 200, 1500, 2)
    assert task.answer_kind == "number"


@pytest.mark.parametrize(
    ("field", "value"),
    [(f, v) for f in ("train", "validation", "test") for v in (-1, 0, "many", 10**9)] + [("seed", -1), ("seed", "x")],
)
def test_sizes_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(pydantic.ValidationError, match=field):
        Arithmetic.model_validate({field: value})


def test_unknown_field_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="path"):
        tasks.make({"name": "arithmetic", "path": "somewhere"})


def test_gold_solutions_pass_their_own_task() -> None:
    frame = TASK.load()
    assert frame["split"].to_list() == ["train"] * 5 + ["validation"] * 3 + ["test"] * 4
    for row in frame.iter_rows(named=True):
        assert TASK.answer(row["solution"]) == row["answer"]
        assert TASK.check(row, row["solution"]).label == "right"
        assert len(TASK.equations(row["solution"])) == int(row["level"])


def test_prompt_ends_the_line_and_shots_come_first() -> None:
    train = TASK.load().filter(split="train").to_dicts()
    assert TASK.prompt(train[0]) == train[0]["question"] + "\n"
    assert TASK.prompt(train[0], train[1:3]) == "".join(
        [*(f"{s['question']}\n{s['solution']}\n" for s in train[1:3]), train[0]["question"], "\n"]
    )


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3 + 4 = 7 . The answer is 7 .", "7"),
        ("The answer is 7 . The answer is 8 .", "8"),
        ("3 + 4 = 7 .", None),
        ("The answer is", None),
        ("The answer is 12", "12"),
        ("The answer is - 3 .", "- 3"),
        ("The answer is 1 2 .", "1 2"),  # not read as 1, so it is graded as wrong
        ("", None),
    ],
)
def test_the_stated_answer_is_read(text: str, answer: str | None) -> None:
    assert TASK.answer(text) == answer


def test_equations_with_swapped_operands_are_equal() -> None:
    assert TASK.equations("3 + 4 = 7 . 2 * 7 = 14 .") == TASK.equations("4 + 3 = 7 . 7 * 2 = 14 .")
    assert TASK.equations("9 - 4 = 5 .") != TASK.equations("4 - 9 = 5 .")
