"""MBPP: the published splits, both subsets in all their forms, and every reference solution in the sandbox."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets import tasks
from cos_assets.grading.code import grade_programs
from cos_assets.tasks import in_several_splits
from cos_assets.tasks import mbpp as module
from cos_assets.tasks.mbpp import Mbpp

FULL = {
    "text": "Write a function to add.",
    "code": "def add(a, b):\r\n\treturn a + b\r\n",
    "task_id": 601,
    "test_setup_code": "one = 1 \r\ntwo = 2",
    "test_list": ["assert add(one, two) == 3", "assert add(two, two) == 4"],
    "challenge_test_list": [],
}
SANITIZED = {
    "source_file": "notebook",
    "task_id": 11,
    "prompt": "Write a function to add.",
    "code": "def add(a, b):\n  return a + b",
    "test_imports": ["import math"],
    "test_list": ["assert math.isclose(add(1, 2), 3)"],
}
CODET = {
    "task_id": "MbppEval/511",
    "prompt": "import os\ndef add(a, b):\n    '''\n    Write a function to add.\n    '''\n",
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert add(1, 2) == 3\n    assert math.isclose(add(2, 2), 4)\n",
}
pytestmark = pytest.mark.usefixtures("sandbox")


@pytest.fixture
def whole(public_data: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load a subset including the ten tasks for prompts."""

    def load(subset: str) -> pl.DataFrame:
        monkeypatch.setitem(module._SPLITS, "train", [*range(1, 11), *range(601, 975)])
        return Mbpp(path=str(public_data / "humaneval_mbpp"), subset=subset).load()

    return load


def write(folder: Path, *rows: Any, name: str = "mbpp.jsonl", **options: Any) -> Mbpp:
    (folder / name).write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return Mbpp(path=str(folder), check_rows=False, **options)


def verdicts(answers: pl.Series, programs: list[str | None]) -> list[str]:
    pairs = list(zip(answers, [program or "" for program in programs], strict=True))
    return [grade.verdict for grade in grade_programs(pairs, 2)]


def broken(program: str) -> str:
    """The program with functions that return nothing."""
    names = [node.name for node in ast.parse(program).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return program + "".join(f"\ndef {name}(*given, **named): return None\n" for name in names)


# --- the public problems ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subset", "sizes"),
    [
        ("full", {"train": 374, "validation": 90, "test": 500}),
        ("sanitized", {"train": 120, "validation": 43, "test": 257}),
    ],
)
def test_splits_equal_the_published_ones(public_data: Path, subset: str, sizes: dict[str, int]) -> None:
    task = Mbpp(path=str(public_data / "humaneval_mbpp"), subset=subset)
    problems = task.load()
    assert problems.schema == tasks.PROBLEMS
    assert dict(problems.group_by("split").len().iter_rows()) == sizes
    assert problems["problem_id"].n_unique() == problems.height
    assert in_several_splits(problems).is_empty()
    assert not problems.select(pl.col("question", "solution", "answer").str.contains("\r")).to_numpy().any()
    first = problems.filter(pl.col("split") == "train")["problem_id"].sort()[0]
    assert first >= "mbpp/601"
    assert len(task.provenance()[f"{subset}_sha256"]) == 64


def test_limits_draw_from_the_published_splits(public_data: Path) -> None:
    """The sizes of the paper are drawn from the published splits."""
    path = str(public_data / "humaneval_mbpp")
    problems = Mbpp(path=path, limit={"train": 324, "validation": 50}).load()
    assert dict(problems.group_by("split").len().iter_rows()) == {"train": 324, "validation": 50, "test": 500}


def test_all_sanitized_solutions_pass_and_fail_when_broken(whole: Any) -> None:
    problems = whole("sanitized")
    assert problems.height == 427
    assert verdicts(problems["answer"], problems["solution"].to_list()) == ["correct"] * 427
    assert verdicts(problems["answer"], [broken(s) for s in problems["solution"]]) == ["wrong"] * 427


def test_all_974_solutions_pass(whole: Any) -> None:
    problems, task = whole("full"), Mbpp()
    assert problems.height == 974
    golds = problems["answer"]
    replies = [f"{solution}[DONE]\n" for solution in problems["solution"]]
    assert verdicts(golds, list(map(task.answer, replies, golds))) == ["correct"] * 974


def test_all_974_solutions_are_found_in_replies_of_chat_models(whole: Any) -> None:
    """The replies have an explanation, a draft, an example call and its output; no program is run."""
    task = Mbpp()
    forms = (
        "```python\n{}```\nUse it:\n```python\nprint(1)\n```\nOutput:\n```\n1\n```\n",
        "```python\ndef draft(x):\n    return x\n```\nBetter:\n```\n{}```\n",
        "Sure! Here it is:\n\n{}\nThis works because it's right.\n",
        "Sure:\n[BEGIN]\n{}[DONE]\n",
        "{}```\nThis is it.\n",
        "1. Do it:\n\n~~~python\n{}~~~\n",
    )
    for gold, solution in whole("full").select("answer", "solution").rows():
        for form in forms:
            assert (task.answer(form.replace("{}", solution), gold) or "").strip() == solution.strip()


# --- files and prompts -----------------------------------------------------------------------------------------------


def test_every_published_file_format_is_read(tmp_path: Path) -> None:
    (full,) = write(tmp_path, FULL).load().to_dicts()
    assert (full["problem_id"], full["split"]) == ("mbpp/601", "train")
    assert full["solution"] == "def add(a, b):\n\treturn a + b\n"
    assert json.loads(full["answer"]) == {
        "prompt": "",
        "test": "one = 1 \ntwo = 2\nassert add(one, two) == 3\nassert add(two, two) == 4",
        "entry_point": None,
    }
    ask = "Write a function to add. Your code should pass these tests:\n\n"
    assert full["question"] == f"{ask}assert add(one, two) == 3\nassert add(two, two) == 4"

    (tmp_path / "google").mkdir()
    task = write(tmp_path / "google", "[", SANITIZED, "]", name="sanitized-mbpp.json", subset="sanitized")
    (google,) = task.load().to_dicts()
    assert (google["problem_id"], google["split"]) == ("mbpp/011", "test")
    assert json.loads(google["answer"])["test"] == "import math\nassert math.isclose(add(1, 2), 3)"
    assert google["question"] == f"{ask}assert math.isclose(add(1, 2), 3)"

    task = write(tmp_path, CODET, name="mbpp_sanitized_for_code_generation.jsonl", subset="sanitized")
    (codet,) = task.load().to_dicts()
    assert (codet["problem_id"], codet["split"]) == ("mbpp/511", "validation")
    assert codet["solution"] == "import os\ndef add(a, b):\n    return a + b\n"
    assert codet["question"] == f"{ask}assert add(1, 2) == 3\nassert math.isclose(add(2, 2), 4)"
    assert (
        verdicts(pl.Series([full["answer"], google["answer"], codet["answer"]]), [codet["solution"]] * 3)
        == ["correct"] * 3
    )
    by_name = Mbpp(path=str(tmp_path / "google" / "sanitized-mbpp.json"), subset="sanitized", check_rows=False)
    assert by_name.load().height == 1 and "sanitized-mbpp.json" in by_name.provenance()["sanitized_file"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([FULL, "{broken"], "mbpp.jsonl: line 2: is not JSON"),
        ([{**FULL, "code": None}], "line 1: 'code' is None; expected a string"),
        ([{**FULL, "task_id": 975}], "line 1: 'task_id' is 975; expected a number from 1 to 974"),
        ([{**FULL, "task_id": "x"}], "line 1: 'task_id' is 'x'; expected a number from 1 to 974"),
        ([{**FULL, "task_id": None}], "line 1: 'task_id' is None; expected a number from 1 to 974"),
        ([{**FULL, "test_list": []}], r"line 1: 'test_list' is \[\]; expected a list of lines of code"),
        ([{**FULL, "test_list": "assert"}], "line 1: 'test_list' is 'assert'; expected a list of lines of code"),
        ([{**FULL, "test_setup_code": 7}], "line 1: 'test_setup_code' is 7; expected a string"),
        ([FULL, FULL], "line 2: 'task_id' 601 is a duplicate; expected one row per task_id"),
        ([{**CODET, "test": "assert add(1, 2) == 3"}], "line 1: 'prompt' or 'test' is not allowed"),
        ([{**CODET, "prompt": "def add(a, b):\n"}], "line 1: 'prompt' or 'test' is not allowed"),
        ([], "has no rows"),
    ],
)
def test_invalid_files_are_refused_with_the_reason(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        write(tmp_path, *rows).load()
    assert "\n" not in str(error.value)


def test_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    write(tmp_path, FULL)
    with pytest.raises(ValueError, match="mbpp full has 1 rows; 974 were published"):
        Mbpp(path=str(tmp_path)).load()
    with pytest.raises(ValueError, match="contains no sanitized-mbpp or mbpp_sanitized_for_code_generation file"):
        Mbpp(path=str(tmp_path), subset="sanitized").load()


def test_all_splits_are_loaded_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        asked.append((args, kwargs))
        return [SANITIZED]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    task = Mbpp(subset="sanitized", revision="abc", check_rows=False)
    assert task.load()["problem_id"].to_list() == ["mbpp/011"]
    split = "prompt+test+validation+train"
    assert asked == [(("google-research-datasets/mbpp", "sanitized"), {"split": split, "revision": "abc"})]
    assert task.provenance() == {"dataset": task.dataset, "config": "sanitized", "revision": "abc"}


def test_prompts_contain_the_task_and_its_tests(tmp_path: Path) -> None:
    task = write(tmp_path, FULL)
    (problem,) = task.load().to_dicts()
    ask = (
        "You are an expert Python programmer, and here is your task: Write a function to add. Your code should pass"
        " these tests:\n\nassert add(one, two) == 3\nassert add(two, two) == 4\n[BEGIN]\n"
    )
    assert task.prompt(problem) == ask
    assert task.prompt(problem, [problem]) == f"{ask}def add(a, b):\n\treturn a + b\n[DONE]\n\n{ask}"
    assert task.stop == ("[DONE]",)
    assert task.answer_kind == "tests"


def test_programs_have_no_steps_and_are_compared_canonically() -> None:
    task = Mbpp()
    assert task.check({}, "def f(): pass").label == "unreadable"
    one, same = "def f(x):\n  'Doc.'\n  return x+1\n[DONE] more", "```python\ndef f(x): return (x + 1)  # x\n```"
    assert task.equations(one) == task.equations(same) != task.equations("def f(x): return x")
    assert task.answer("") is None and task.equations("") == ("",)
