"""MATH: published counts, splits, the two forms of stated answers, and the two hub datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets import tasks
from cos_assets.grading.answers import grade
from cos_assets.grading.extraction import boxed
from cos_assets.tasks.math import Math

ROW = {
    "problem": "What is $1+1$?",
    "level": "Level 2",
    "type": "Algebra",
    "solution": "It is \\boxed{1} and\n\\boxed{2}.",
}
ENDING = "\nFinal Answer: The final answer is $2$. I hope it is correct."


@pytest.fixture(scope="module")
def math(public_data: Path) -> tuple[Math, pl.DataFrame]:
    task = Math(path=str(public_data / "math"))
    return task, task.load()


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    made = ({"problem": f"What is ${n}+1$?", "solution": f"\\boxed{{{n + 1}}}"} for n in range(start, start + count))
    return [{**ROW, **row} for row in made]


def write(folder: Path, **parts: list[Any]) -> str:
    for name, part in parts.items():
        (folder / f"{name}.jsonl").write_text(
            "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in part)
        )
    return str(folder)


# --- loading ---------------------------------------------------------------------------------------------------------


def test_splits_are_disjoint_and_stable(math: tuple[Math, pl.DataFrame]) -> None:
    task, problems = math
    assert problems.schema == tasks.PROBLEMS
    assert dict(problems.group_by("split").len().iter_rows()) == {"train": 7500, "validation": 500, "test": 500}
    assert problems["problem_id"].n_unique() == problems.height
    assert tasks.in_several_splits(problems).is_empty()
    assert problems.equals(task.load())
    levels = problems.filter(pl.col("split") == "test").group_by("level").len().sort("level").rows()
    assert levels == [("1", 43), ("2", 90), ("3", 105), ("4", 128), ("5", 134)]
    assert problems.filter(pl.col("split") != "train")["subject"].n_unique() == 7
    other = Math(path=task.path, seed=1).load()
    for split, same in (("train", True), ("test", True), ("validation", False)):
        assert problems.filter(pl.col("split") == split).equals(other.filter(pl.col("split") == split)) is same
    first = problems.filter(pl.col("split") == "validation")["problem_id"][0]
    assert first == "math/test/d8866c89b8a4", "the split is part of the data: it must not change between versions"


def test_all_but_one_of_the_other_test_problems_can_be_validation(math: tuple[Math, pl.DataFrame]) -> None:
    """One of the 4,500 questions is also a training problem, with other capitals or spaces."""
    problems = Math(path=math[0].path, validation=4499).load()
    held_out = problems.filter(pl.col("split") != "train")
    levels = held_out.group_by("level").len().sort("level")["len"].to_list()
    assert levels == [437, 894, 1131 - 1, 1214, 1324]
    assert tasks.in_several_splits(problems).is_empty()
    with pytest.raises(ValueError, match="validation: 4500 is not allowed; 4499 test problems are outside MATH-500"):
        Math(path=math[0].path, validation=4500).load()


def test_two_training_problems_have_no_answer(math: tuple[Math, pl.DataFrame]) -> None:
    task, problems = math
    silent = problems.filter(pl.col("answer").is_null())
    assert silent["split"].to_list() == ["train", "train"]
    assert "prime numbers greater than $n!+1$" in silent["question"][0]
    assert problems.filter(pl.col("split") == "train")["solution"].null_count() == 7500, (
        "this copy has no training solutions"
    )
    one = grade(pl.DataFrame({"gold": [None], "answer": ["A"], "finish_reason": ["stop"]}), task.answer_kind)
    assert one["verdict"].to_list() == ["grader_error"]
    repeated = problems.filter(pl.col("problem_id").str.ends_with("-2"))
    assert repeated["answer"].to_list() == ["2"]


def test_every_gold_equals_the_answer_of_its_solution(public_data: Path, math: tuple[Math, pl.DataFrame]) -> None:
    """The published text is graded, without our normalization; of the 5,000 test solutions, each must have a box."""
    task, problems = math
    published = [json.loads(line) for line in (public_data / "math" / "math500.jsonl").read_text().splitlines()]
    as_published = pl.DataFrame({"gold": [r["answer"] for r in published]}).with_columns(
        answer=pl.Series([task.answer(r["solution"]) for r in published]), finish_reason=pl.lit("stop")
    )
    assert set(grade(as_published, "math")["verdict"]) == {"correct"}
    ours = problems.filter(pl.col("split") == "test")
    assert [task.answer(s) for s in ours["solution"]] == ours["answer"].to_list()
    lines = (public_data / "math" / "math_test_5000.jsonl").read_text().splitlines()
    answers = [boxed(json.loads(line)["solution"]) for line in lines]
    assert len(answers) == 5000
    assert all(answers)
    assert max(map(len, map(str, answers))) < 200


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_every_published_file_format_is_read(tmp_path: Path, suffix: str) -> None:
    parts = {"train": rows(3), "test": rows(4, 10), "MATH-500": [{**r, "answer": "3", "level": 4} for r in rows(2, 10)]}
    for name, part in parts.items():
        if suffix == ".parquet":
            pl.DataFrame(part).write_parquet(tmp_path / f"{name}.parquet")
        else:
            write(tmp_path, **{name: part})
    problems = Math(path=str(tmp_path), validation=1, check_rows=False).load()
    assert problems["split"].to_list() == ["train"] * 3 + ["validation"] + ["test"] * 2
    train, test = problems.row(0, named=True), problems.row(-1, named=True)
    assert train["solution"] == "\\boxed{1}\nFinal Answer: The final answer is $1$. I hope it is correct."
    assert (train["answer"], train["level"], train["subject"]) == ("1", "2", "Algebra")
    assert (test["answer"], test["level"]) == ("3", "4")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": [ROW, "{broken"]}, "train.jsonl: line 2: is not JSON"),
        ({"train": [{**ROW, "problem": 7}]}, "train.jsonl: line 1: 'problem' is 7; expected a string"),
        ({"train": [{**ROW, "problem": " "}]}, "train.jsonl: line 1: 'problem' is empty"),
        ({"train": [{"problem": "q", "x": 1}]}, "has no 'answer', 'final_answer' or 'solution'; found: problem, x"),
        ({"train": [{**ROW, "problem": "a\0b"}]}, "line 1: 'problem' contains a NUL byte at character 1"),
        ({"train": [{**ROW, "solution": "\ud800"}]}, "line 1: 'solution' contains a lone surrogate"),
        ({"test": [{**ROW, "solution": "none"}]}, "test.jsonl: line 1: the solution boxes no answer"),
        ({"math500": [{**ROW, "answer": ""}]}, "math500.jsonl: line 1: the answer is empty"),
        ({"math500": []}, "math500.jsonl: has no rows"),
    ],
)  # fmt: skip
def test_invalid_files_are_refused_with_the_reason(tmp_path: Path, parts: dict[str, list[Any]], message: str) -> None:
    good = {"train": rows(1), "test": rows(2, 10), "math500": rows(1, 10)}
    with pytest.raises(ValueError, match=message) as error:
        Math(path=write(tmp_path, **{**good, **parts}), validation=0, check_rows=False).load()
    assert "\n" not in str(error.value)


def test_an_unexpected_number_of_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, train=rows(2), test=rows(3, 10), math500=rows(1, 20))
    with pytest.raises(ValueError, match=r"train.jsonl: math train has 2 rows; 7500 were published"):
        Math(path=folder).load()
    monkeypatch.setattr(Math, "published", {"train": 2, "test": 3, "math500": 1})
    with pytest.raises(ValueError, match="math: 3 test problems are outside MATH-500; 2 were published"):
        Math(path=folder, validation=0).load()
    (tmp_path / "math500.jsonl").unlink()
    with pytest.raises(ValueError, match="contains no math500 or math_500 or MATH-500 or test500 file"):
        Math(path=folder, validation=0).load()


def test_math500_is_loaded_from_its_own_hub_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(dataset: str, config: str | None, **where: Any) -> list[dict[str, Any]]:
        asked.append((dataset, config, where))
        return rows(2, 10) if "500" in dataset else rows(3, 0 if where["split"] == "train" else 10)

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    problems = Math(revision="abc", test_revision="def", validation=1, check_rows=False).load()
    assert asked == [
        ("DigitalLearningGmbH/MATH-lighteval", None, {"split": "train", "revision": "abc"}),
        ("DigitalLearningGmbH/MATH-lighteval", None, {"split": "test", "revision": "abc"}),
        ("HuggingFaceH4/MATH-500", None, {"split": "test", "revision": "def"}),
    ]
    assert problems["split"].to_list() == ["train"] * 3 + ["validation", "test", "test"]


# --- prompts and answers ---------------------------------------------------------------------------------------------


def test_the_prompt_is_that_of_minerva() -> None:
    task = Math()
    shot = {"question": "q1", "solution": "s1" + ENDING}
    assert task.prompt({"question": "q2"}) == "Problem:\nq2\n\nSolution:\n"
    assert task.prompt({"question": "q2"}, [shot]) == (
        f"Problem:\nq1\n\nSolution:\ns1{ENDING}\n\nProblem:\nq2\n\nSolution:\n"
    )
    assert all(stop not in task.prompt(shot) for stop in task.stop)


def test_exemplars_are_correct_and_not_in_the_data(math: tuple[Math, pl.DataFrame]) -> None:
    task, problems = math
    assert len(task.exemplars) == 4
    asked = {tasks.same_text(question) for question in problems["question"]}
    for shot, gold in zip(task.exemplars, ["65", "9", "\\frac{13}{18}", "(-5, 2]"], strict=True):
        assert tasks.same_text(shot["question"]) not in asked
        assert task.answer(shot["solution"]) == boxed(shot["solution"]) == gold
        assert shot["solution"].endswith("I hope it is correct.")
    from sympy import Rational, solve, sqrt, symbols

    x = symbols("x", real=True)
    assert solve(sqrt(2 * x + 7) - x + 4, x) == [9]
    assert 2 * (5 + 13) == 36 and 13 == 2 * 5 + 3 and 5 * 13 == 65
    even = [(a, b) for a in range(1, 10) for b in range(a + 1, 10) if a * b % 2 == 0]
    assert Rational(len(even), 36) == Rational(13, 18)
    holds = [t for t in range(-20, 20) if t != -5 and (t - 2) * (t + 5) <= 0]
    assert holds == list(range(-4, 3))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so" + ENDING, "2"),
        ("Final Answer: The final answer is $\\frac{1}{2}$. I hope it is correct.", "\\frac{1}{2}"),
        ("Final Answer: The final answer is \\$5. I hope it is correct.", "\\$5"),
        ("The final answer is $x$ or $y$. I hope it is correct.", "$x$ or $y$"),
        ("The final answer is $$\\begin{pmatrix} 1 \\\\\n 2 \\end{pmatrix}$$. I hope it is correct.",
         "\\begin{pmatrix} 1 \\\\\n 2 \\end{pmatrix}"),
        ("the final answer is: $\\boxed{7}$.", "7"),
        ("The final answer is $2$\nand that is all", "2"),
        ("The final answer is:\n\n\\[\n\\boxed{5}\n\\]\nDone.", "5"),
        ("The final answer is:\n$$\nx + 1\n$$", "x + 1"),
        ("**Final Answer:** The final answer is **7**.", "7"),
        ("The final answer is \\[ 1, and no more", "\\[ 1, and no more"),
        ("\\boxed{3} and then" + ENDING, "2"),
        (ENDING + "\n\nProblem:\nnext\n\nSolution:\n\\boxed{9}", "2"),
        ("\\boxed{3}\n\nProblem:\n" + ENDING, "3"),
        ("\\boxed{1} no, \\boxed{\\frac{1}{\\sqrt{2}}}", "\\frac{1}{\\sqrt{2}}"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{x \\text{ if } \\boxed{3}}", "3"),
        ("\\boxed 5$ done", "5"),
        ("\\fbox{6}", "6"),
        ("\\boxed{3} and \\boxed{4", "3"),
        ("\\boxed{open", None),
        ("\\boxed{}", None),
        ("The final answer is . I hope it is correct.", None),
        ("x = 4", None),
        ("the answer is 4", "4"),
        ("", None),
        ("\0\\boxed{4}\0", "4"),
    ],
)  # fmt: skip
def test_stated_answers_are_read(text: str, answer: str | None) -> None:
    assert Math().answer(text) == answer


def test_huge_completions_are_read() -> None:
    task = Math()
    for text in ("\\boxed{" * 300_000, "\\boxed{1}" * 300_000, "the final answer is " * 100_000, "{" * 2_000_000):
        task.answer(text)
    assert task.answer("\\boxed{1" * 200_000 + ENDING) == "2"
