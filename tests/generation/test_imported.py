"""The imported engine: files in, samples out, every row accounted for."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets.generation.engines.imported import ImportedEngine, fingerprint, open_engine
from cos_assets.generation.types import Completion, Model, Request, Sampling

QUESTIONS = {"p/0": "How many\n apples?", "p/1": "How many pears?"}
COLUMNS = {"question": "q", "completion": "text"}
ROWS = [
    {"q": "How many apples?", "text": "one"},
    {"q": "How many pears?", "text": "two"},
    {"q": "How many apples?", "text": "three"},
    {"q": "How many plums?", "text": "four"},
]


def write(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return file


def engine(path: Path | str, columns: dict[str, str] | None = None, **options: Any) -> ImportedEngine:
    merged: dict[str, Any] = {"path": str(path), "columns": columns or COLUMNS, "questions": QUESTIONS, **options}
    return open_engine(Model("label", "fingerprint", "imported", engine_options=merged))


def ask(source: ImportedEngine, problem_id: str = "p/0", *indices: int) -> list[Completion]:
    request = Request(problem_id, "prompt", indices or (0, 1, 2))
    return [c for batch in source.stream([request], Sampling()) for c in batch]


def test_rows_are_a_problems_samples_in_file_order(tmp_path: Path) -> None:
    source = engine(write(tmp_path / "a.jsonl", ROWS))
    assert [source.available(p) for p in ("p/0", "p/1", "p/2")] == [2, 1, 0]
    assert source.unmatched == 1
    found = ask(source)
    assert [(c.index, c.text) for c in found] == [(0, "one"), (1, "three")], "index 2 is not there and not made up"
    assert found[0] == Completion("p/0", "prompt", 0, "one", "stop", None, None, None, 0.0)
    assert ask(source, "p/0", 1)[0].text == "three"
    assert ask(source, "p/9") == []


def test_problem_ids_nested_columns_and_counts(tmp_path: Path) -> None:
    rows = [
        {"id": "p/0", "m": {"text": "a", "why": "length", "in": 7, "out": 9}, "n": 1},
        {"id": "p/0", "m": {"text": "b", "why": "eos", "in": 7, "out": None}, "n": 0},
        {"id": "p/0", "m": {"text": "c", "why": None, "in": None, "out": 0}, "n": 4},
    ]
    columns = {
        "problem_id": "id", "completion": "m.text", "finish_reason": "m.why",
        "prompt_tokens": "m.in", "completion_tokens": "m.out", "sample_index": "n",
    }  # fmt: skip
    source = engine(write(tmp_path / "a.jsonl", rows), columns, questions=None)
    assert source.available("p/0") == 2, "up to the first gap"
    found = ask(source, "p/0", 0, 1, 4)
    assert [(c.text, c.finish_reason, c.prompt_tokens, c.completion_tokens) for c in found] == [
        ("b", "stop", 7, None),
        ("a", "length", 7, 9),
        ("c", "stop", None, 0),
    ]


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "json", "json.gz", "array.jsonl", "parquet"])
def test_file_kinds(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"a.{kind}"
    array = json.dumps(ROWS, indent=1).encode()
    lines = "\n\n".join(json.dumps(r) for r in ROWS).encode()
    if kind == "parquet":
        pl.DataFrame(ROWS).write_parquet(file)
    else:
        data = array if kind.startswith(("json.", "array")) or kind == "json" else lines
        file.write_bytes(gzip.compress(data) if kind.endswith(".gz") else data)
    assert [c.text for c in ask(engine(file))] == ["one", "three"]


def test_glob_reads_files_in_name_order(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", ROWS[2:3])
    write(tmp_path / "a.jsonl", ROWS[:1])
    assert [c.text for c in ask(engine(tmp_path / "*.jsonl"))] == ["one", "three"]


def test_a_list_holds_several_samples(tmp_path: Path) -> None:
    columns = {**COLUMNS, "finish_reason": "why"}
    file = write(tmp_path / "a.jsonl", [{"q": "How many pears?", "text": ["a", "b"], "why": ["stop", "length"]}])
    assert [(c.text, c.finish_reason) for c in ask(engine(file, columns), "p/1")] == [("a", "stop"), ("b", "length")]
    write(file, [{"q": "How many pears?", "text": ["a", "b"], "why": "length"}])
    with pytest.raises(ValueError, match=r"line 1: finish_reason: 'length' is not allowed; expected a list of 2"):
        engine(file, columns)


def test_tokens_are_counted_only_with_a_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"</s>": 0, "<unk>": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", unk_token="<unk>").save_pretrained(
        tmp_path / "tok"
    )
    rows = [
        {"q": "How many pears?", "text": "a b c", "why": "stop"},
        {"q": "How many pears?", "text": "a b c", "why": "length"},
    ]
    columns = {**COLUMNS, "finish_reason": "why"}
    source = engine(write(tmp_path / "a.jsonl", rows), columns, tokenizer=str(tmp_path / "tok"))
    assert [c.completion_tokens for c in ask(source, "p/1")] == [4, 3], "the end token is one that the model wrote"
    assert [c.prompt_tokens for c in ask(source, "p/1")] == [None, None], "the prompt behind the file is not known"


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([ROWS[0], "{broken"], COLUMNS, r"a.jsonl: line 2: is not JSON"),
        ([ROWS[0], {"q": "How many pears?"}], COLUMNS, r"line 2: column 'text' \(columns.completion\) .* found: q"),
        ([ROWS[0]], {**COLUMNS, "completion": "text.deep"}, r"line 1: column 'text.deep' .* is missing; found: 'one'"),
        ([{"q": "How many pears?", "text": None}], COLUMNS, r"line 1: column 'text': None is not text"),
        ([{"q": 5, "text": "x"}], COLUMNS, r"line 1: column 'q': 5 is not text"),
        ([ROWS[0], "[1]"], COLUMNS, r"line 2: found '\[1\]'; expected an object"),
        (["[1]"], COLUMNS, r"item 1: found '1'; expected an object"),
        ([], COLUMNS, r"a.jsonl: holds no rows"),
        ([ROWS[3]], COLUMNS, r"a.jsonl: none of 1 rows matches a problem of this study by column 'q'"),
        ([ROWS[0]], {**COLUMNS, "text": "q"}, r"columns.text: unknown key; allowed: problem_id, question, completion"),
        ([ROWS[0]], {"question": "q"}, r"columns.completion: is missing"),
        ([ROWS[0]], {"completion": "text"}, r"exactly one of question: and problem_id:"),
        ([ROWS[0]], {**COLUMNS, "problem_id": "q"}, r"exactly one of question: and problem_id:"),
        ([ROWS[0] | {"n": -1}], {**COLUMNS, "sample_index": "n"}, r"line 1: sample_index -1 of 'p/0' is not allowed"),
        ([ROWS[0] | {"n": None}], {**COLUMNS, "sample_index": "n"}, r"line 1: sample_index None"),
        ([ROWS[0] | {"n": 1}] * 2, {**COLUMNS, "sample_index": "n"}, r"line 2: sample_index 1 .* each once"),
        ([ROWS[0] | {"n": 1.5}], {**COLUMNS, "completion_tokens": "n"}, r"line 1: completion_tokens 1.5"),
    ],
)  # fmt: skip
def test_bad_input_is_named(tmp_path: Path, rows: list[Any], columns: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        engine(write(tmp_path / "a.jsonl", rows), columns)
    assert "\n" not in str(error.value)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path: .*none.jsonl' is no file and matches none"):
        engine(tmp_path / "none.jsonl")
    for name, message in (("a.jsonl.gz", "is not a gzip file"), ("a.parquet", "is not Parquet")):
        (tmp_path / name).write_bytes(b"neither")
        with pytest.raises(ValueError, match=message):
            engine(tmp_path / name)
    (tmp_path / "b.jsonl").write_bytes(b'{"q": "\xff"}\n')
    with pytest.raises(ValueError, match=r"b.jsonl: line 1: is not JSON"):
        engine(tmp_path / "b.jsonl")


def test_questions_must_tell_problems_apart(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(ValueError, match=r"'b' and 'a' have the same question; match by columns.problem_id"):
        engine(file, questions={"a": "same", "b": " same"})
    with pytest.raises(ValueError, match="questions: is missing"):
        engine(file, questions=None)


def test_unmatched_ids_are_counted(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"id": i, "text": "x"} for i in ("p/0", "p/7", "p/8")])
    assert engine(file, {"problem_id": "id", "completion": "text"}).unmatched == 2


def test_fingerprint_follows_contents_and_columns(tmp_path: Path) -> None:
    one = {"path": str(write(tmp_path / "a.jsonl", ROWS)), "columns": COLUMNS}
    same = {
        "path": str(write(tmp_path / "b.jsonl", ROWS)),
        "columns": dict(reversed(COLUMNS.items())),
        "questions": QUESTIONS,
    }
    assert fingerprint(one) == fingerprint(same)
    assert fingerprint(one) != fingerprint({**one, "columns": {**COLUMNS, "completion": "q"}})
    assert fingerprint(one) != fingerprint({**one, "tokenizer": "t"})
    before = fingerprint(one)
    write(tmp_path / "a.jsonl", ROWS[:2])
    assert fingerprint(one) != before


def test_public_solutions(public_data: Path) -> None:
    from cos_assets.tasks.gsm8k import Gsm8k

    test = Gsm8k(path=str(public_data / "gsm8k")).load().filter(pl.col("split") == "test")
    source = engine(
        public_data / "gsm8k" / "example_model_solutions.jsonl",
        {"question": "question", "completion": "175b_verification.solution"},
        questions=dict(test.select("problem_id", "question").iter_rows()),
    )
    assert source.unmatched == 0
    requests = [Request(p, "prompt", (0, 1)) for p in test["problem_id"]]
    found = [c for batch in source.stream(requests, Sampling()) for c in batch]
    assert [c.problem_id for c in found] == test["problem_id"].to_list()
    assert sum("\nA: " in c.text for c in found) == 1318


# --- texts that go wrong elsewhere -----------------------------------------------------------------------------------

AWKWARD = {
    "ten megabytes, right": "Let me think.\n" * 700_000 + "1 + 1 = 2\n#### 2",
    "ten megabytes, no answer": "x" * 10_000_000,
    "an answer of ten megabytes": "#### " + "1" * 10_000_000,
    "NUL bytes, right": "\0so\0\n#### 2\0",
    "nothing but NUL": "\0" * 1000,
    "half a character, right": "an emoji cut in two: \ud83d\n#### 2",
    "two halves, right": "\ud83d\ude00 #### 2",
    "empty": "",
    "control characters, right": "\x01\x1b[31m\u202e\ufeff#### 2",
    "line ends of all kinds, right": "a\r\nb\rc\u2028d\x85#### 2",
}


def test_awkward_texts_pass_through_ledger_tables_views_and_graders(tmp_path: Path) -> None:
    from cos_assets import catalogue, store
    from cos_assets.generation.door import Buyer, generate
    from cos_assets.generation.model import resolve
    from cos_assets.judging.verdicts import verdicts
    from cos_assets.tasks.gsm8k import Gsm8k

    problem = {"problem_id": "p/0", "question": "1+1?", "answer": "2", "split": "test", "level": "1"}
    problems = pl.DataFrame([problem])
    file = write(tmp_path / "a.jsonl", [{"q": "1+1?", "text": text} for text in AWKWARD.values()])
    options = {"path": str(file), "columns": COLUMNS, "questions": {"p/0": "1+1?"}}
    model = resolve("made elsewhere", engine="imported", options=options)
    asked = problems.select("problem_id", prompt="question")
    for new in (len(AWKWARD), 0):
        bought = generate(model, asked, len(AWKWARD), Sampling(), Buyer(tmp_path, "s", "sampling", "run", "wc"))
        assert (bought.new, bought.missing) == (new, 0)
    # Half a character is in no UTF-8, two halves are one; everything else is kept to the byte.
    halves = {
        "half a character, right": "an emoji cut in two: \ufffd\n#### 2",
        "two halves, right": "\U0001f600 #### 2",
    }
    expected = list((AWKWARD | halves).values())
    assert bought.rows["completion"].to_list() == expected
    graded = verdicts(bought.rows, problems, Gsm8k())
    assert graded["correct"].to_list() == [name.endswith("right") for name in AWKWARD]
    silent = [n for n, v in zip(AWKWARD, graded["verdict"], strict=True) if v == "no_answer"]
    assert silent == ["ten megabytes, no answer", "nothing but NUL", "empty"]
    for asset, frame in (("samples", bought.rows), ("verdicts", graded)):
        lineage = {"inputs": [], "facts": {}}
        store.write(tmp_path, "s", asset, {"budget": "low", "model": "wc"}, frame, lineage)
        assert store.scan(tmp_path, "s", asset, [{"budget": "low", "model": "wc"}]).collect().height == len(AWKWARD)
    catalogue.build(tmp_path)
    for view in ("samples", "ledger"):
        seen = catalogue.query(tmp_path, f"SELECT completion FROM {view} ORDER BY sample_index")["completion"].to_list()
        assert seen == expected
    counts = catalogue.query(tmp_path, "SELECT verdict, count(*) AS n FROM verdicts GROUP BY verdict ORDER BY verdict")
    assert counts.rows() == [("correct", 6), ("no_answer", 3), ("wrong", 1)]
    answers = catalogue.query(tmp_path, "SELECT max(length(answer)) AS n FROM verdicts")
    assert answers["n"].item() == 10_000_000


@pytest.mark.parametrize("task", ["arithmetic", "gsm8k", "math", {"name": "jsonl", "path": "a", "grade": "text"}])
def test_every_task_reads_awkward_texts(task: Any) -> None:
    from cos_assets import tasks

    found = tasks.make(task)
    for name, text in AWKWARD.items():
        answer = found.answer(text)
        if not name.endswith("right") and not name.startswith("an answer"):
            assert answer is None, name
