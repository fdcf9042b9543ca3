"""A user's own data: every file format, every form of answer, and the message for every error."""

from __future__ import annotations

import gzip
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets import tasks
from cos_assets.grading.answers import grade
from cos_assets.tasks._task import MAX_CHARACTERS
from cos_assets.tasks.jsonl import Jsonl

ROW = {"question": "How many?", "answer": "6"}


def rows(count: int) -> list[dict[str, Any]]:
    return [{"question": f"What is {n}+1?", "answer": n + 1} for n in range(count)]


def write(file: Path, lines: list[Any]) -> str:
    file.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in lines), encoding="utf-8")
    return str(file)


def load(file: Path, lines: list[Any], **options: Any) -> pl.DataFrame:
    return Jsonl(path=write(file, lines), **options).load()


# --- loading ---------------------------------------------------------------------------------------------------------


def test_configured_columns_are_read(tmp_path: Path) -> None:
    row = {
        "q": {"text": " How many? "}, "a": 6, "i": "first", "w": "2*3 = 6. The answer is 6.", "d": 4, "s": "sums",
        "part": "test",
    }  # fmt: skip
    columns = {
        "question": "q.text", "answer": "a", "problem_id": "i", "solution": "w", "level": "d", "subject": "s",
        "split": "part",
    }  # fmt: skip
    problems = load(tmp_path / "a.jsonl", [row, {**row, "i": "second", "part": "train", "w": None}], columns=columns)
    assert problems.schema == tasks.PROBLEMS
    first = {
        "problem_id": "first", "split": "test", "question": "How many?", "answer": "6",
        "solution": "2*3 = 6. The answer is 6.", "level": "4", "subject": "sums", "truth": None,
    }  # fmt: skip
    assert problems.row(0, named=True) == first
    assert problems.row(1, named=True) == {**first, "problem_id": "second", "split": "train", "solution": None}


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet", "bom.jsonl", "JSONL", "CSV", "Tsv"])
def test_every_file_format_is_read(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pl.DataFrame(rows(3)).write_parquet(file)
    elif kind.lower() in ("csv", "tsv"):
        pl.DataFrame(rows(3)).write_csv(file, separator="," if kind.lower() == "csv" else "\t")
    else:
        text = json.dumps(rows(3)) if kind == "json" else "\n".join(json.dumps(r) for r in rows(3))
        file.write_text(text, encoding="utf-8-sig" if kind == "bom.jsonl" else "utf-8")
    task = Jsonl(path=str(file))
    problems = task.load()
    assert problems["problem_id"].to_list() == [f"jsonl/train/0000{n}" for n in range(3)]
    assert problems["answer"].to_list() == ["1", "2", "3"]
    assert task.provenance()["train_file"] == str(file)
    assert len(task.provenance()["train_sha256"]) == 64


@pytest.mark.parametrize("name", ["P.CSV", "p.CSV.GZ", "p.csv.gz", "P.TSV", "p.Csv"])
def test_a_field_may_have_the_maximum_length_of_texts(tmp_path: Path, name: str) -> None:
    """A longer field is refused by the limit in the message, not by that of Python's csv."""
    separator = "\t" if "tsv" in name.lower() else ","
    for length in (140_000, MAX_CHARACTERS, MAX_CHARACTERS + 1):
        data = f'question{separator}answer\n"{"x" * length}"{separator}1\n'.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)
        if length <= MAX_CHARACTERS:
            assert Jsonl(path=str(tmp_path / name)).load()["question"].str.len_chars().to_list() == [length]
        else:
            with pytest.raises(ValueError, match=f"'question' has {length} characters; at most {MAX_CHARACTERS} are"):
                Jsonl(path=str(tmp_path / name)).load()


def test_long_fields_are_read_in_concurrent_threads(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f'question,answer\n"{"x" * 200_000}",1\n')
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda _: Jsonl(path=str(file)).load().height, range(32))) == [1] * 32


@pytest.mark.parametrize(
    ("label", "expected"),
    [(7, "7"), (7.0, "7"), (2.5, "2.5"), (0, "0"), ("7", "7"), ("algebra", "algebra"), (None, None), (math.nan, None)],
)
def test_levels_and_subjects_may_be_numbers(tmp_path: Path, label: Any, expected: str | None) -> None:
    found = load(tmp_path / "a.jsonl", [{**ROW, "l": label, "s": label}], columns={"level": "l", "subject": "s"})
    assert found.select("level", "subject").row(0) == (expected, expected)


def test_columns_are_read_from_lists(tmp_path: Path) -> None:
    line = {"messages": [{"content": "How many?"}, {"content": "6"}]}
    columns = {"question": "messages.0.content", "answer": "messages[-1].content"}
    found = load(tmp_path / "a.jsonl", [line], columns=columns)
    assert found.select("question", "answer").row(0) == ("How many?", "6")
    with pytest.raises(ValueError, match=r"line 1: column 'messages.2.content' \(columns.answer\) is missing"):
        load(tmp_path / "a.jsonl", [line], columns={**columns, "answer": "messages.2.content"})


def test_missing_splits_are_drawn_from_the_data(tmp_path: Path) -> None:
    problems = load(tmp_path / "a.jsonl", rows(20), test=5, validation=3)
    assert dict(problems.group_by("split").len().iter_rows()) == {"train": 12, "validation": 3, "test": 5}
    assert problems.equals(Jsonl(path=str(tmp_path / "a.jsonl"), test=5, validation=3).load())
    other = Jsonl(path=str(tmp_path / "a.jsonl"), test=5, validation=3, seed=1).load()
    assert other["question"].equals(problems["question"]) and not other.equals(problems)
    more = Jsonl(path=str(tmp_path / "a.jsonl"), test=6).load()
    held_out = [set(f.filter(pl.col("split") == "test")["problem_id"]) for f in (problems, more)]
    assert held_out[0] < held_out[1]
    assert load(tmp_path / "a.jsonl", rows(20), limit={"train": 2}).height == 2


def test_a_folder_with_configured_split_names_is_read(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", rows(3))
    write(tmp_path / "test.jsonl", [{"question": "t", "answer": "1"}])
    problems = Jsonl(path=str(tmp_path), validation=1).load()
    assert sorted(problems["split"]) == ["test", "train", "train", "validation"]
    assert problems["problem_id"].to_list()[-1] == "jsonl/test/00000"
    (tmp_path / "test.jsonl").rename(tmp_path / "TEST.JsonL")
    assert Jsonl(path=str(tmp_path), validation=1).load().equals(problems), "suffixes in upper case are also found"
    only = Jsonl(path=str(tmp_path), splits={"test": "train"}).load()
    assert only["split"].to_list() == ["test"] * 3
    with pytest.raises(ValueError, match="contains no exam file"):
        Jsonl(path=str(tmp_path), splits={"test": "exam"}).load()


def test_a_dataset_is_loaded_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        asked.append((*args, kwargs))
        return rows(2)

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    task = Jsonl(dataset="me/mine", config="c", revision="abc", splits={"train": "a", "test": "b"})
    assert task.load()["split"].to_list() == ["train", "train", "test", "test"]
    assert asked == [("me/mine", "c", {"split": s, "revision": "abc"}) for s in ("a", "b")]
    Jsonl(dataset="me/mine").load()
    assert [a[2]["split"] for a in asked[2:]] == ["train", "test"]
    assert task.provenance() == {
        "dataset": "me/mine", "config": "c", "revision": "abc", "splits": {"train": "a", "test": "b"}
    }  # fmt: skip


LONG = "x" * 10_000_000


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ([ROW, "{broken"], {}, "a.jsonl: line 2: is not JSON"),
        ([ROW, "[1]"], {}, r"line 2: found '\[1\]'; expected an object"),
        ([], {}, "a.jsonl: has no rows"),
        ([ROW, {"question": "q"}], {}, r"line 2: column 'answer' \(columns.answer\) is missing; found: question"),
        ([ROW], {"columns": {"question": "q.x"}}, r"line 1: column 'q.x' \(columns.question\) is missing"),
        ([{**ROW, "question": 7}], {}, "line 1: 'question' is 7; expected a string"),
        ([{**ROW, "question": " \n"}], {}, "line 1: 'question' is empty"),
        ([{**ROW, "answer": ""}], {"grade": "text"}, "line 1: 'answer' is empty"),
        ([{**ROW, "answer": None}], {"grade": "text"}, "line 1: 'answer' is None; expected a string"),
        ([{**ROW, "answer": "a\0"}], {"grade": "text"}, "line 1: 'answer' contains a NUL byte at character 1"),
        ([{**ROW, "question": "\udce9"}], {}, "line 1: 'question' contains a lone surrogate"),
        ([{**ROW, "question": LONG}], {}, "line 1: 'question' has 10000000 characters; at most 1000000 are allowed"),
        ([{**ROW, "answer": "six"}], {}, "line 1: 'answer' is 'six'; expected one number, or grade: math, text"),
        ([{**ROW, "answer": True}], {}, "line 1: 'answer' is 'True'; expected one number"),
        ([{**ROW, "answer": "six"}], {"grade": "choice"}, "line 1: 'answer' is 'six'; expected a letter"),
        ([{**ROW, "answer": "assert ("}], {"grade": "tests"}, r"'answer' is 'assert \('; expected Python code"),
        ([{**ROW, "i": "a"}] * 2, {"columns": {"problem_id": "i"}}, "'a' is a duplicate; the first one is at .*line 1"),
        ([{**ROW, "s": "dev"}], {"columns": {"split": "s"}}, "line 1: 's' is 'dev'; allowed: train, validation, test"),
        ([{**ROW, "s": None}], {"columns": {"split": "s"}}, "line 1: 's' is None; allowed: train"),
        ([{**ROW, "w": "it is 6"}], {"columns": {"solution": "w"}, "answer_pattern": "=> (.*)"},
         "line 1: 'w' states no answer that answer_pattern finds"),
        ([{**ROW, "w": 5}], {"columns": {"solution": "w"}}, "line 1: 'w' is 5; expected a string"),
        ([ROW], {"test": 2}, "test: 2 is not allowed; there are 1 train problems to draw from"),
        ([{**ROW, "s": "test"}], {"columns": {"split": "s"}, "test": 1}, "test: 1 is not allowed; the data have 1"),
        ([ROW], {"limit": {"train": 0}}, "limit.train: 0 is not allowed"),
    ],
)  # fmt: skip
def test_invalid_rows_are_refused_with_the_line(
    tmp_path: Path, lines: list[Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path / "a.jsonl", lines, **options)
    assert "\n" not in str(error.value)


def test_other_encodings_are_refused_with_the_line(tmp_path: Path) -> None:
    good = json.dumps(ROW)
    lines = good + "\n" + good.replace("How", "H\xf6w") + "\n"
    for name, encoding, message in (
        ("a.jsonl", "latin-1", "a.jsonl: line 2: is not JSON"),
        ("a.csv", "latin-1", "a.csv: line 3: is not UTF-8"),
        ("b.jsonl", "utf-16", "b.jsonl: line 1: is not JSON"),
        ("b.csv", "utf-16", "b.csv: line 1: is not UTF-8"),
    ):
        table = "question,answer\nq,1\n\xe9,1\n"
        text = table if name.endswith("csv") else lines
        (tmp_path / name).write_bytes(text.encode(encoding))
        with pytest.raises(ValueError, match=message) as error:
            Jsonl(path=str(tmp_path / name)).load()
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="is neither a file nor a folder with a train, validation or test file"):
        Jsonl(path=str(tmp_path / "none")).load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"give exactly one of path: .* and dataset:"),
        ({"path": "a", "dataset": "b"}, "give exactly one of path:"),
        ({"path": "a", "answer_pattern": "x"}, "'x' has 0 groups; expected one"),
        ({"path": "a", "answer_pattern": "("}, "is not a regular expression"),
        ({"path": "a", "template": "Q:"}, "has {question} 0 times; expected exactly once"),
        ({"path": "a", "grade": "maths"}, "grade"),
        ({"path": "a", "columns": {"anwser": "x"}}, "anwser"),
        ({"path": "a", "splits": {}}, "splits"),
    ],
)
def test_invalid_settings_are_refused_with_the_reason(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tasks.make({"name": "jsonl", **options})


# --- prompts and answers ---------------------------------------------------------------------------------------------


def test_the_template_determines_prompts_and_stop_strings() -> None:
    task = Jsonl(path="a", examples=[{"question": "1+1?", "solution": "The answer is 2."}])  # type: ignore[arg-type]
    assert task.stop == ("\nQuestion:",)
    assert task.prompt({"question": "a {question}?"}, task.exemplars) == (
        "Question: 1+1?\nAnswer:\nThe answer is 2.\n\nQuestion: a {question}?\nAnswer:\n"
    )
    own = Jsonl(path="a", template="{question} = ", between="\n")
    assert own.stop == ()
    assert own.prompt({"question": "2"}, [{"question": "1", "solution": "1"}]) == "1 = 1\n2 = "


@pytest.mark.parametrize(
    ("kind", "text", "answer"),
    [
        ("number", "3*2 = 6. The answer is 6.", "6"),
        ("number", "#### 1,200", "1,200"),
        ("number", "so \\boxed{7}", "7"),
        ("number", "The answer is 6.\nQuestion: next?\nAnswer: The answer is 7.", "6"),
        ("number", "it is 6", None),
        ("math", "The answer is $x^2$.", "x^2"),
        ("math", "\\boxed{1} or rather \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("math", "\\boxed{1}. The answer is $2$", "2"),
        ("math", "#### (1, 2]", "(1, 2]"),
        ("text", "The final answer is: New York.", "New York"),
        ("text", "the answer is Paris. No: the answer is Rome.\nDone", "Rome"),
        ("text", "Paris", None),
        ("choice", "The answer is (B).", "B"),
        ("choice", "So the correct answer is **C**, because", "C"),
        ("choice", "Answer: d", "D"),
        ("choice", "\\boxed{\\text{(E)}}", "E"),
        ("choice", "#### A", "A"),
        ("choice", "(A) is wrong. Option: B", "B"),
        ("choice", " b) ", "B"),
        ("choice", "The answer is a dog", None),
        ("choice", "The answer is A or B", None),
        ("choice", "The answer is I think unclear", None),
        ("choice", "Both are right", None),
        ("tests", "Here:\n```python\ndef f():\n    return 1\n```\nDone.", "def f():\n    return 1\n"),
        ("tests", "```\na = 1\n```\n```py\nb = 2\n```", "b = 2\n"),
        ("tests", "```py\ndef f(): return 1\n```\n```py\nf()\n```", "def f(): return 1\n"),
        ("tests", "def f(): return 1", "def f(): return 1\n"),
        ("tests", " \n", None),
    ],
)
def test_stated_answers_are_read(kind: Any, text: str, answer: str | None) -> None:
    assert Jsonl(path="a", grade=kind).answer(text) == answer


def test_a_configured_answer_pattern_is_used() -> None:
    task = Jsonl(path="a", grade="text", answer_pattern=r"=> (.*)")
    assert task.answer("=> a\n=> b \nQuestion: => c") == "b"
    assert task.answer("The answer is a") is None
    assert task.answer("=> ") is None


def test_settings_change_the_version_that_they_affect() -> None:
    """A new prompt makes samples stale, and a new answer pattern makes verdicts stale."""
    base = Jsonl(path="a")
    prompt = Jsonl(path="a", between="\n")
    reading = Jsonl(path="a", answer_pattern="=> (.*)")
    assert base.prompt_version == Jsonl(path="b").prompt_version == reading.prompt_version != prompt.prompt_version
    assert base.extract_version == prompt.extract_version != reading.extract_version


@pytest.mark.parametrize(
    ("kind", "answer", "gold", "ending"),
    [
        ("number", 6, "6", "\nThe answer is 6."),
        ("number", "1,200", "1,200", "\nThe answer is 1,200."),
        ("math", "\\frac{1}{2}", "\\frac{1}{2}", "\nThe answer is $\\frac{1}{2}$."),
        ("text", "New York", "New York", "\nThe answer is New York."),
        ("text", "Cain, the brother", "Cain, the brother", "\nThe answer is \\boxed{Cain, the brother}."),
        ("choice", "(b)", "B", "\nThe answer is (b)."),
    ],
)
def test_a_reference_solution_states_its_answer(tmp_path: Path, kind: Any, answer: Any, gold: str, ending: str) -> None:
    """The task must grade models trained on its reference solutions as correct."""
    lines = [{"question": "q", "answer": answer, "w": "This way. "}]
    task = Jsonl(path=write(tmp_path / "a.jsonl", lines), grade=kind, columns={"solution": "w"})  # type: ignore[arg-type]
    row = task.load().row(0, named=True)
    assert (row["answer"], row["solution"]) == (gold, "This way." + ending)
    stated = pl.DataFrame({"gold": [gold], "answer": [task.answer(row["solution"])], "finish_reason": ["stop"]})
    assert grade(stated, task.answer_kind)["verdict"].to_list() == ["correct"]


def test_code_is_graded_by_its_tests(tmp_path: Path) -> None:
    lines = [{"question": "q", "answer": ["assert f() == 1", "assert f() != 2"], "w": "def f(): return 1"}]
    task = Jsonl(path=write(tmp_path / "a.jsonl", lines), grade="tests", columns={"solution": "w"})  # type: ignore[arg-type]
    row = task.load().row(0, named=True)
    assert json.loads(row["answer"]) == {
        "prompt": "", "test": "assert f() == 1\nassert f() != 2", "entry_point": None
    }  # fmt: skip
    assert row["solution"] == "def f(): return 1"
    assert task.answer_kind == "tests"
    draft, last = "```\ndef f(): return 2\n```\n", "```\ndef f(): return 1\n```\n"
    assert task.answer(f"{draft}{last}```\ndef g(): return f()\n```\n", row["answer"]) == "def f(): return 1\n"
    assert task.equations(last) == task.equations("def f():\n    return (1)  # one") != task.equations(draft)


UNTESTED = "an empty program passes these tests"
ANYTHING = "functions that return anything pass these tests"


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        ("pass", UNTESTED),
        ("def check():\n    assert f(1) == 2", UNTESTED),
        ("class T:\n    def check(self): assert f(1) == 2", UNTESTED),
        ("import unittest\nclass T(unittest.TestCase):\n    def check(self): assert f(1) == 2", "no test of T"),
        ("f(1) == 2", ANYTHING),
        ("try:\n    assert f(1) == 2\nexcept Exception:\n    pass", UNTESTED),
        ("assert (f(1) == 2, 'message')", ANYTHING),
        ("def check(candidate):\n    assert candidate(1) == 2", r"the function check\(candidate\) is never called"),
        ("def test_f(n): assert f(n) == n + 1", "test_f takes arguments, and no pytest is there to give them"),
        ("import pytest\ndef test_f(): assert f(1) == 2", "ModuleNotFoundError: No module named 'pytest'"),
        ("assert f(1) == 3", r"the reference solution fails these tests: AssertionError \(line 1 of the tests"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("sandbox")
def test_tests_that_every_program_passes_are_refused(tmp_path: Path, tests: str, why: str) -> None:
    lines = [
        {"question": "p", "answer": "assert f(1) == 2", "w": "def f(n): return n + 1"},
        {"question": "q", "answer": tests, "w": "def f(n): return n + 1"},
    ]
    task = Jsonl(path=write(tmp_path / "a.jsonl", lines), grade="tests", columns={"solution": "w"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"a\.jsonl: line 2: 'answer': .*{why}.*expected tests that only a solution"):
        task.load()


@pytest.mark.parametrize(
    "tests",
    [
        "assert f(1) == 2",
        "assert f(1)",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f(1), 2)",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f(1), 2)\nunittest.main()",
        "def test_f():\n    assert f(1) == 2",
        "def check():\n    assert f(1) == 2\nif __name__ == '__main__':\n    check()",
    ],
)
@pytest.mark.usefixtures("sandbox")
def test_each_form_of_tests_distinguishes_correct_and_wrong_programs(tmp_path: Path, tests: str) -> None:
    lines = [{"question": "q", "answer": tests, "w": "def f(n): return n + 1"}]
    task = Jsonl(path=write(tmp_path / "a.jsonl", lines), grade="tests", columns={"solution": "w"})  # type: ignore[arg-type]
    (gold,) = task.load()["answer"]
    rows = pl.DataFrame({"answer": ["def f(n): return n + 1", "def f(n): return n * 0", ""]})
    rows = rows.with_columns(gold=pl.lit(gold), finish_reason=pl.lit("stop"))
    assert grade(rows, "tests")["verdict"].to_list() == ["correct", "wrong", "wrong"]


# --- across tasks ----------------------------------------------------------------------------------------------------


def test_a_question_in_two_splits_is_found(tmp_path: Path) -> None:
    def row(question: str, split: str) -> dict[str, str]:
        return {"question": question, "answer": "1", "s": split}

    lines = [
        row("How  MANY?", "test"), row("other", "test"), row("how many?", "train"), row("How many?", "train"),
        row("how\nmany?", "validation"), row("twice", "train"), row("twice", "train"),
    ]  # fmt: skip
    problems = load(tmp_path / "a.jsonl", lines, columns={"split": "s"})
    found = tasks.in_several_splits(problems)
    ids = [(a[-1], b[-1]) for a, b in found.select("problem_id", "other_id").iter_rows()]
    assert sorted(ids) == [("2", "0"), ("2", "4"), ("3", "0"), ("3", "4"), ("4", "0")]
    assert found.filter(pl.col("split") == "validation").row(0)[1:4] == ("validation", "jsonl/row/00000", "test")


@pytest.mark.parametrize("spec", ["arithmetic", "gsm8k"])
def test_built_in_tasks_have_disjoint_splits(public_data: Path, spec: str) -> None:
    """The other tasks are tested in their own modules."""
    task = tasks.make({"name": spec} if spec == "arithmetic" else {"name": spec, "path": str(public_data / spec)})
    assert tasks.in_several_splits(task.load()).is_empty()
