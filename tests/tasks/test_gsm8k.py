"""GSM8K: splits, prompts, stated answers, and the flags recorded by the authors of the data."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets import tasks
from cos_assets.grading.answers import grade
from cos_assets.tasks.gsm8k import Gsm8k

ROW = {"question": "How many?", "answer": "He has 2*3=<<2*3=6>>6.\nSo 6+1,000=<<6+1000=1006>>1006.\n#### 1,006"}


@pytest.fixture(scope="module")
def gsm8k(public_data: Path) -> tuple[Gsm8k, pl.DataFrame]:
    task = Gsm8k(path=str(public_data / "gsm8k"))
    return task, task.load()


def write(folder: Path, train: list[Any], test: list[Any] | None = None) -> str:
    for name, rows in (("train", train), ("test", [ROW] if test is None else test)):
        (folder / f"{name}.jsonl").write_text(
            "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows)
        )
    return str(folder)


# --- loading ---------------------------------------------------------------------------------------------------------


def test_splits_are_disjoint_and_stable(gsm8k: tuple[Gsm8k, pl.DataFrame]) -> None:
    task, problems = gsm8k
    assert problems.schema == tasks.PROBLEMS
    sizes = dict(problems.group_by("split").len().iter_rows())
    assert sizes == {"train": 6973, "validation": 500, "test": 1319}
    assert problems["problem_id"].n_unique() == problems["question"].n_unique() == len(problems)
    assert problems.equals(task.load())
    first = problems.filter(pl.col("split") == "validation")["problem_id"][0]
    assert first == "gsm8k/train/00027", "the split is part of the data: it must not change between versions"
    other = Gsm8k(path=task.path, seed=1).load()
    assert problems.drop("split").equals(other.drop("split")), "ids do not depend on the seed"
    assert not problems.equals(other)


def test_limits_are_nested(gsm8k: tuple[Gsm8k, pl.DataFrame]) -> None:
    task, problems = gsm8k
    small = Gsm8k(path=task.path, limit={"train": 10, "test": 5}).load()
    large = Gsm8k(path=task.path, limit={"train": 20, "test": 5}).load()
    assert dict(small.group_by("split").len().iter_rows()) == {"train": 10, "validation": 500, "test": 5}
    assert set(small["problem_id"]) < set(large["problem_id"]) < set(problems["problem_id"])


def test_reference_solutions_state_their_answers(gsm8k: tuple[Gsm8k, pl.DataFrame]) -> None:
    task, problems = gsm8k
    assert not problems["solution"].str.contains("<<").any()
    assert not problems["answer"].str.contains(",").any()
    truth = problems["truth"].str.json_decode(pl.Struct({"answer": pl.String})).struct.field("answer")
    commas = truth.str.contains(r"#### .*,").alias("comma")
    counts = dict(problems.filter(commas).group_by(pl.col("problem_id").str.contains("/test/")).len().iter_rows())
    assert counts == {False: 79, True: 14}
    stated = problems.select(
        gold="answer", answer=pl.col("solution").map_elements(task.answer, pl.String), finish_reason=pl.lit("stop")
    )
    assert set(grade(stated, "number")["verdict"]) == {"correct"}


@pytest.mark.parametrize(
    ("model", "correct", "silent"),
    [
        ("6b_finetuning", 286, 4),
        ("6b_verification", 515, 1),
        ("175b_finetuning", 458, 5),
        ("175b_verification", 742, 1),
    ],
)
def test_verdicts_equal_the_recorded_flags(
    public_data: Path, gsm8k: tuple[Gsm8k, pl.DataFrame], model: str, correct: int, silent: int
) -> None:
    """Every flag is compared, not only the total. The solution that ends in `A: 10+John's age` is wrong, not
    unanswered."""
    task, problems = gsm8k
    lines = (public_data / "gsm8k" / "example_model_solutions.jsonl").read_text(encoding="utf-8").splitlines()
    recorded = [json.loads(line) for line in lines]
    gold = problems.filter(pl.col("split") == "test")
    assert gold["question"].to_list() == [r["question"].strip() for r in recorded]
    answers = [task.answer(r[model]["solution"]) for r in recorded]
    out = grade(
        gold.select(gold="answer").with_columns(answer=pl.Series(answers), finish_reason=pl.lit("stop")), "number"
    )
    right = out["verdict"] == "correct"
    assert right.sum() == correct
    assert right.to_list() == [r[model]["is_correct"] for r in recorded]
    assert (out["verdict"] == "no_answer").sum() == silent


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_every_file_format_is_read(tmp_path: Path, suffix: str) -> None:
    for split in ("train", "test"):
        file = tmp_path / f"{split}{suffix}"
        if suffix == ".parquet":
            pl.DataFrame([ROW, ROW]).write_parquet(file)
        else:
            data = "\n".join([json.dumps(ROW)] * 2).encode()
            file.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    problems = tasks.make({"name": "gsm8k", "path": str(tmp_path), "validation": 1, "check_rows": False}).load()
    assert problems["problem_id"].to_list() == [f"gsm8k/{s}/0000{i}" for s in ("train", "test") for i in (0, 1)]
    row = problems.row(0, named=True)
    assert row["answer"] == "1006"
    assert row["solution"] == "He has 2*3=6.\nSo 6+1,000=1006.\n#### 1006"
    assert row["level"] == "2"
    assert json.loads(row["truth"]) == {"answer": ROW["answer"]}


@pytest.mark.parametrize(
    ("train", "options", "message"),
    [
        ([ROW, "{broken"], {}, "train.jsonl: line 2: is not JSON"),
        ([ROW, {"question": "q"}], {}, "train.jsonl: line 2: 'answer' is None; expected a string"),
        ([ROW, {"question": 7, "answer": "#### 1"}], {}, "line 2: 'question' is 7"),
        (
            [ROW, {"question": "q", "answer": "so 5"}],
            {},
            "line 2: 'answer' ends in 'so 5'; expected a last line `#### <number>`",
        ),
        ([ROW, {"question": "q", "answer": "#### None"}], {}, "line 2: 'answer' ends in '#### None'"),
        ([ROW, "[1, 2]"], {}, r"line 2: found '\[1, 2\]'; expected an object"),
        ([], {}, "train.jsonl: has no rows"),
        ([ROW], {"check_rows": True}, "train.jsonl: gsm8k train has 1 rows; 7473 were published"),
        ([ROW], {"validation": 1}, "validation: 1 is not allowed; there are 1 train rows"),
        ([ROW], {"validation": 0, "limit": {"test": 0}}, "limit.test: 0 is not allowed"),
    ],
)
def test_invalid_files_are_refused_with_the_reason(
    tmp_path: Path, train: list[Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Gsm8k(path=write(tmp_path, train), **{"check_rows": False, **options}).load()
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_utf8_is_refused_with_the_line(tmp_path: Path) -> None:
    (Path(write(tmp_path, [ROW])) / "train.jsonl").write_bytes(json.dumps(ROW).encode() + b'\n{"question": "\xff"}\n')
    with pytest.raises(ValueError, match=r"train.jsonl: line 2: is not JSON"):
        Gsm8k(path=str(tmp_path)).load()


def test_missing_files_are_refused_with_the_expected_names(tmp_path: Path) -> None:
    shutil.copy(Path(write(tmp_path, [ROW])) / "train.jsonl", tmp_path / "other.jsonl")
    (tmp_path / "test.jsonl").unlink()
    with pytest.raises(
        ValueError, match=r"contains no test file; expected one of test.jsonl, test.jsonl.gz, test.json"
    ):
        Gsm8k(path=str(tmp_path), validation=0, check_rows=False).load()


def test_the_pinned_revision_is_loaded_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*args: Any, **kwargs: Any) -> list[dict[str, str]]:
        asked.append((args, kwargs))
        return [ROW, ROW]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    problems = Gsm8k(revision="abc", validation=1, check_rows=False).load()
    assert asked == [(("openai/gsm8k", "main"), {"split": s, "revision": "abc"}) for s in ("train", "test")]
    assert len(problems) == 4


def test_an_unreachable_hub_is_reported_with_both_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(
        ValueError, match=r"'openai/gsm8k' .*ConnectionError: no route\); set path: .* or allow access to the hub"
    ) as error:
        Gsm8k().load()
    assert "\n" not in str(error.value)


# --- prompts and answers ---------------------------------------------------------------------------------------------


def test_prompt_ends_where_the_solution_starts() -> None:
    task = Gsm8k()
    shot = {"question": "1+1?", "solution": "1+1=2\n#### 2"}
    assert task.prompt({"question": "2+2?"}) == "Question: 2+2?\nAnswer:\n"
    assert task.prompt({"question": "2+2?"}, [shot, shot]) == (
        "Question: 1+1?\nAnswer:\n1+1=2\n#### 2\n\n" * 2 + "Question: 2+2?\nAnswer:\n"
    )
    assert all(stop not in task.prompt(shot) for stop in task.stop)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("#### 42", "42"),
        ("so it is\n####42", "42"),
        ("#### 460.", "460"),
        ("#### 1,200", "1,200"),
        ("#### $1,200.50 in all", "$1,200.50"),
        ("#### -5", "-5"),
        ("#### −5", "-5"),
        ("#### -$5", "-$5"),
        ("#### 16.5", "16.5"),
        ("#### 25% of them", "25%"),
        ("#### 3/4", "3/4"),
        ("#### 18 apples, not 20", "18"),
        ("A: 18", "18"),
        ("text\nA: 5\n", "5"),
        ("The answer is 7.", "7"),
        ("the final answer is: $7", "$7"),
        ("#### 5\n#### 6", "6"),
        ("The answer is 5. No, wait.\n#### 6", "6"),
        ("#### 6\n\nQuestion: another?\nAnswer:\n#### 7", "6"),
        ("the last number is 9", None),
        ("I paid A: nothing", None),
        ("he got an A: 5", None),
        ("####", None),
        ("#### unknown", None),
        ("$\\boxed{72}$ clips", "72"),
        ("**Answer:** 72 clips", "72"),
        ("A: 10+John's age", "10+John's age"),
        ("The answer is 12 - 4 = 8", "8"),
        ("#### 12 x 3", "12 x 3"),
        ("#### 5-10", "5-10"),
        ("", None),
        ("\x00#### 4\x00", "4"),
        ("#### " + "9" * 100_000, "9" * 100_000),
    ],
)
def test_stated_answers_are_read(text: str, answer: str | None) -> None:
    assert Gsm8k().answer(text) == answer


def test_huge_completion_is_read() -> None:
    text = "A: " * 300_000 + "#### 1,2,3," * 100_000
    assert Gsm8k().answer(text) == "1,2,3"


def test_unknown_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match="pat"):
        tasks.make({"name": "gsm8k", "pat": "x"})


def test_exemplars_are_correct_and_not_in_the_data(gsm8k: tuple[Gsm8k, pl.DataFrame]) -> None:
    task, problems = gsm8k
    assert len(task.exemplars) == 8
    asked = {tasks.same_text(question) for question in problems["question"]}
    stated = []
    for shot in task.exemplars:
        assert tasks.same_text(shot["question"]) not in asked
        assert task.check(shot, shot["solution"]).label == "right"
        last = shot["solution"].splitlines()[-2]
        stated.append(task.answer(shot["solution"]))
        assert re.search(rf"= \$?{stated[-1]}\b", last), "the answer is the result of the last step"
    assert stated == ["68", "30", "84", "10", "13", "30", "50", "9"]
