"""HumanEval: reference solutions pass in the sandbox, broken ones fail, and the example of the harness agrees."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets import tasks
from cos_assets.grading import sandbox
from cos_assets.grading.code import canonical, grade_programs
from cos_assets.tasks.humaneval import HumanEval

ROW = {
    "task_id": "test/0",
    "prompt": "def return1():\n",
    "canonical_solution": "    return 1",
    "test": "def check(candidate):\n    assert candidate() == 1",
    "entry_point": "return1",
}
pytestmark = pytest.mark.usefixtures("sandbox")


@pytest.fixture(scope="module")
def humaneval(public_data: Path, sandbox: None) -> tuple[HumanEval, pl.DataFrame]:
    task = HumanEval(path=str(public_data / "humaneval_mbpp" / "HumanEval.jsonl.gz"))
    return task, task.load()


def write(folder: Path, *rows: dict[str, Any] | str) -> HumanEval:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "HumanEval.jsonl").write_text("\n".join(lines))
    return HumanEval(path=str(folder), check_rows=False)


def verdicts(task: HumanEval, problems: pl.DataFrame, completions: list[str]) -> list[str]:
    answers = [task.answer(*given) or "" for given in zip(completions, problems["answer"], strict=True)]
    return [grade.verdict for grade in grade_programs(list(zip(problems["answer"], answers, strict=True)), 2)]


# --- the public problems ---------------------------------------------------------------------------------------------


def test_problems_have_the_published_ids_and_tests(
    humaneval: tuple[HumanEval, pl.DataFrame], public_data: Path
) -> None:
    task, problems = humaneval
    assert problems.schema == tasks.PROBLEMS
    assert problems.height == problems["problem_id"].n_unique() == problems["question"].n_unique() == 164
    assert problems["split"].unique().to_list() == ["test"]
    assert problems["problem_id"].to_list() == [f"HumanEval/{n}" for n in range(164)]
    assert problems.equals(HumanEval(path=str(public_data / "humaneval_mbpp")).load()), "a folder is also accepted"
    assert task.provenance()["test_sha256"].startswith("b796127e635a67f9")


def test_reference_solutions_pass(humaneval: tuple[HumanEval, pl.DataFrame]) -> None:
    task, problems = humaneval
    assert verdicts(task, problems, problems["solution"].to_list()) == ["correct"] * 164


def test_whole_programs_in_a_block_pass(humaneval: tuple[HumanEval, pl.DataFrame]) -> None:
    """Like replies of chat models: the function is repeated without the helpers that precede it in the prompt."""
    task, problems = humaneval
    chosen = problems.filter(pl.col("question").str.contains(r"\ndef [^$]*\ndef ") | (pl.int_range(pl.len()) % 10 == 0))
    assert "HumanEval/32" in chosen["problem_id"].to_list() and chosen.height >= 19
    replies = []
    for prompt, solution in chosen.select("question", "solution").rows():
        start = prompt.rindex("\ndef ") if "\ndef " in prompt else 0
        replies.append(f"Here it is:\n```python{chr(10)}{prompt[start:]}{solution}\n```\nIt works.")
    assert verdicts(task, chosen, replies) == ["correct"] * chosen.height


@pytest.mark.parametrize("body", ["    return None\n"])
def test_broken_bodies_fail(humaneval: tuple[HumanEval, pl.DataFrame], body: str) -> None:
    task, problems = humaneval
    assert verdicts(task, problems, [body] * 164) == ["wrong"] * 164


def test_the_example_of_the_published_harness_gets_its_recorded_verdicts(
    public_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its README records pass@1 = 0.4999...: three of six pass. One runs a shell command, one sleeps for 10 s."""
    folder = public_data / "humaneval_mbpp"
    lines = (folder / "example_samples.jsonl").read_text().splitlines()
    completions = [json.loads(line)["completion"] for line in lines]
    monkeypatch.setattr(sandbox, "slowness", lambda: 1.0)  # on a slow machine the limit would exceed 10 s
    task = HumanEval(path=str(folder / "example_problem.jsonl"), check_rows=False)
    gold = task.load()["answer"].item()
    grades = grade_programs([(gold, task.answer(completion, gold) or "") for completion in completions], 2)
    assert [grade.verdict for grade in grades] == ["wrong"] * 3 + ["correct"] * 3
    shell, sleeper, reader = (str(grade.reason) for grade in grades[:3])
    assert shell.startswith("FileNotFoundError: [Errno 2] No such file or directory: 'rm -rf tmp'")
    assert sleeper == "time limit: 9 s"
    assert reader.startswith("EOFError: EOF when reading a line")


@pytest.mark.parametrize("model", ["Llama-3.1-8B-Instruct", "Llama-3.1-70B-Instruct", "Yi-Coder-9B-Chat"])
def test_recorded_solutions_of_models_pass(
    public_data: Path, humaneval: tuple[HumanEval, pl.DataFrame], model: str
) -> None:
    """EvalPerf contains solutions that passed. Of 2,404 on HumanEval by five models, only three fail here, because they
    import numpy. This test runs two per task."""
    _, problems = humaneval
    gold = dict(problems.select("problem_id", "answer").rows())
    recorded = json.loads((public_data / "evalperf" / f"{model}.json").read_text())["eval"]
    pairs = [
        (gold[task], solution["solution"])
        for task, result in recorded.items()
        if task in gold
        for solution in result["profiled"][:2]
        if "numpy" not in solution["solution"]
    ]
    assert len(pairs) > 45
    grades = grade_programs(pairs, 2)
    assert {grade.verdict for grade in grades} == {"correct"}
    assert len({canonical(solution) for _, solution in pairs}) < len(pairs) + 1


# --- files and prompts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROW, "{broken"], "HumanEval.jsonl: line 2: is not JSON"),
        ([{**ROW, "test": None}], "line 1: 'test' is None; expected a string"),
        ([{k: v for k, v in ROW.items() if k != "prompt"}], "line 1: 'prompt' is None; expected a string"),
        ([{**ROW, "task_id": 7}], "line 1: 'task_id' is 7; expected a string"),
        (
            [{**ROW, "entry_point": "two words"}],
            "line 1: 'entry_point' is 'two words'; expected the name of a function",
        ),
        ([ROW, ROW], "line 2: 'task_id' 'test/0' is a duplicate; expected one row per task_id"),
        ([], "has no rows"),
    ],
)
def test_invalid_files_are_refused_with_the_reason(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        write(tmp_path, *rows).load()
    assert "\n" not in str(error.value)


def test_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ROW)
    with pytest.raises(ValueError, match="humaneval test has 1 rows; 164 were published"):
        HumanEval(path=str(tmp_path)).load()


def test_the_revision_is_loaded_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*args: Any, **kwargs: Any) -> list[dict[str, str]]:
        asked.append((args, kwargs))
        return [ROW]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert HumanEval(revision="abc", check_rows=False).load().height == 1
    assert asked == [(("openai/openai_humaneval", None), {"split": "test", "revision": "abc"})]


def test_loading_without_a_sandbox_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = write(tmp_path, ROW)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("COS_SANDBOX_URL", raising=False)
    sandbox._try.cache_clear()
    with pytest.raises(RuntimeError, match="apt-get install bubblewrap"):
        task.load()


def test_prompts_continue_the_code_or_ask_for_a_block(tmp_path: Path) -> None:
    task = write(tmp_path, ROW)
    (problem,) = task.load().to_dicts()
    assert task.prompt(problem) == "def return1():\n"
    assert task.prompt(problem, [problem]) == "def return1():\n    return 1\n\ndef return1():\n"
    assert "\ndef" in task.stop
    instruct = HumanEval(style="instruct")
    assert instruct.prompt(problem).endswith("```python\ndef return1():\n```\n\n")
    assert instruct.stops() == ()
    assert "```python\ndef return1():\n    return 1\n```" in instruct.prompt(problem, [problem])


def test_programs_have_no_steps_and_are_compared_canonically(tmp_path: Path) -> None:
    task = write(tmp_path, ROW)
    (problem,) = task.load().to_dicts()
    assert task.check(problem, "    return 1").label == "unreadable"
    assert task.equations("    return 1  # one") == task.equations("\treturn (1)") != task.equations("    return 2")


def test_a_compressed_file_of_any_name_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROW).encode()))
    assert HumanEval(path=str(tmp_path / "mine.jsonl.gz"), check_rows=False).load().height == 1
