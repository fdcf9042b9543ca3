"""IFEval: the published rows, their problems, and invalid rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets import tasks
from cos_assets.judging.verdicts import verdicts
from cos_assets.tasks.ifeval import Ifeval

ROW = {"key": 7, "prompt": "Say it.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}


@pytest.mark.parametrize(("folder", "count"), [("ifeval", 540), ("ifeval_multi_model", 541)])
def test_published_rows_are_loaded(public_data: Path, folder: str, count: int) -> None:
    problems = Ifeval(path=str(public_data / folder)).load()
    assert problems.schema == tasks.PROBLEMS
    assert (len(problems), problems["problem_id"].n_unique(), set(problems["split"])) == (count, count, {"test"})
    assert problems["solution"].null_count() == count, "there are no reference replies"
    assert problems["problem_id"][0] == "ifeval/test/01000"
    golds = [json.loads(answer) for answer in problems["answer"]]
    assert [g["prompt"] for g in golds] == problems["question"].to_list()
    assert not [name for g in golds for name in g["instruction_id_list"] if name.startswith("en:")]


def test_both_copies_hold_the_same_problems(public_data: Path) -> None:
    short, full = (Ifeval(path=str(public_data / name)).load() for name in ("ifeval", "ifeval_multi_model"))
    assert full.join(short, on="problem_id", how="anti")["problem_id"].to_list() == ["ifeval/test/02785"]
    assert full.filter(pl.col("problem_id") != "ifeval/test/02785").equals(short)


def test_limits_are_nested(public_data: Path) -> None:
    small, large = (Ifeval(path=str(public_data / "ifeval"), limit={"test": n}).load() for n in (10, 20))
    assert len(small) == 10
    assert set(small["problem_id"]) < set(large["problem_id"])


def test_the_prompt_is_used_unchanged() -> None:
    task = Ifeval()
    assert task.prompt({"question": "Say it, please."}) == "Say it, please."
    with pytest.raises(ValueError, match=r"sampling.shots: 1 is not allowed; allowed: 0, as ifeval"):
        task.prompt({"question": "q"}, [{"question": "a", "solution": "b"}])


def test_the_whole_reply_is_the_answer(tmp_path: Path) -> None:
    task = Ifeval(path=write(tmp_path, [ROW]), check_rows=False)
    assert task.answer(" One,\n\n two \n") == "One,\n\n two"
    assert task.answer(" \n") is None
    assert task.check(ROW, "2 + 2 = 5").label == "unreadable"
    assert task.equations("One  two") == task.equations("one\ntwo") != task.equations("two one")
    samples = pl.DataFrame(
        {
            "problem_id": ["ifeval/test/00007"] * 3,
            "sample_index": [0, 1, 2],
            "completion": ["So be it", "So, be it", ""],
            "finish_reason": ["stop"] * 3,
        }
    )
    assert verdicts(samples, task.load(), task)["verdict"].to_list() == ["correct", "wrong", "no_answer"]


def test_null_keywords_of_the_hub_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        asked.append((args, kwargs))
        return [{**ROW, "kwargs": [{"num_words": None, "relation": "at least"}]}]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    problems = Ifeval(revision="abc", check_rows=False).load()
    assert asked == [(("google/IFEval", None), {"split": "train", "revision": "abc"})]
    assert json.loads(problems["answer"][0])["kwargs"] == [{"relation": "at least"}]
    assert problems["split"].to_list() == ["test"]


def write(folder: Path, rows: list[Any]) -> str:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    (folder / "input_data.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return str(folder)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([ROW, "{broken"], {}, "input_data.jsonl: line 2: is not JSON"),
        ([{**ROW, "prompt": None}], {}, "line 1: 'prompt' is None; expected a string"),
        ([{**ROW, "key": "x"}], {}, "line 1: 'key' is 'x'; expected a whole number"),
        ([ROW, ROW], {}, "line 2: key 7 is a duplicate"),
        ([{**ROW, "instruction_id_list": []}], {}, r"'instruction_id_list' is \[\]; expected a list of names"),
        ([{**ROW, "kwargs": []}], {}, r"'kwargs' is \[\]; expected 1 mappings"),
        ([{**ROW, "kwargs": ["x"]}], {}, r"'kwargs' is \['x'\]; expected 1 mappings"),
        ([ROW], {"check_rows": True}, "ifeval test has 1 rows; 540 or 541 were published"),
        ([], {}, "input_data.jsonl: has no rows"),
    ],
)
def test_invalid_files_are_refused_with_the_reason(
    tmp_path: Path, rows: list[Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Ifeval(path=write(tmp_path, rows), **{"check_rows": False, **options}).load()
    assert "\n" not in str(error.value)
