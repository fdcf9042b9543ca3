"""The imported engine: it reads samples from files and accounts for every row."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets.generation.engines.imported import ImportedEngine, fingerprint
from cos_assets.generation.generate import open_engine
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


def test_rows_become_the_samples_of_their_problem_in_file_order(tmp_path: Path) -> None:
    source = engine(write(tmp_path / "a.jsonl", ROWS))
    assert [len(ask(source, p)) for p in ("p/0", "p/1", "p/2")] == [2, 1, 0]
    assert source.unmatched == 1
    found = ask(source)
    assert [(c.index, c.text) for c in found] == [(0, "one"), (1, "three")], "a missing index 2 is not invented"
    assert found[0] == Completion("p/0", "prompt", 0, "one", "stop", None, None, None, 0.0)
    assert ask(source, "p/0", 1)[0].text == "three"
    assert ask(source, "p/9") == []


def test_nested_columns_ids_and_token_counts_are_read(tmp_path: Path) -> None:
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
    assert [c.index for c in ask(source, "p/0", 0, 1, 2, 3, 4)] == [0, 1, 4], "gaps in the indices are kept"
    found = ask(source, "p/0", 0, 1, 4)
    assert [(c.text, c.finish_reason, c.prompt_tokens, c.completion_tokens) for c in found] == [
        ("b", "stop", 7, None),
        ("a", "length", 7, 9),
        ("c", "stop", None, 0),
    ]


KINDS = ["jsonl", "jsonl.gz", "json", "json.gz", "array.jsonl", "parquet", "csv", "csv.gz", "tsv", "tsv.gz", "tar.gz"]


@pytest.mark.parametrize("kind", [*KINDS, *map(str.upper, KINDS), "Json", "Tgz"])
def test_every_file_format_is_read(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"a.{kind}"
    content = {
        "json": json.dumps(ROWS, indent=1).encode(),
        "jsonl": "\n\n".join(json.dumps(r) for r in ROWS).encode(),
        "csv": pl.DataFrame(ROWS).write_csv().encode(),
        "tsv": pl.DataFrame(ROWS).write_csv(separator="\t").encode(),
    }
    inner = kind.lower().removeprefix("array.").removesuffix(".gz")
    if inner == "parquet":
        pl.DataFrame(ROWS).write_parquet(file)
    elif inner in ("tar", "tgz"):
        with tarfile.open(file, "w:gz") as archive:
            for number, row in enumerate(ROWS):
                data = json.dumps(row).encode()
                member = tarfile.TarInfo(f"{number}.{'JSON' if number % 2 else 'json'}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    else:
        data = content["json" if kind.lower().startswith("array") else inner]
        file.write_bytes(gzip.compress(data) if kind.lower().endswith(".gz") else data)
    assert [c.text for c in ask(engine(file))] == ["one", "three"]


def test_csv_fields_may_be_long_and_contain_quotes_and_line_ends(tmp_path: Path) -> None:
    long = 'a "quoted", text\nof two lines\t' + "x" * 2_000_000
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        pl.DataFrame([{**ROWS[0], "text": long}]).write_csv(tmp_path / name, separator=separator)
        assert ask(engine(tmp_path / name))[0].text == long


def test_an_invalid_csv_file_is_refused_with_the_line(tmp_path: Path) -> None:
    for kind, separator in (("csv", ","), ("tsv", "\t")):
        file = tmp_path / f"a.{kind}"
        file.write_text(f'q{separator}text\nHow many apples?{separator}"one\n')
        with pytest.raises(ValueError, match=rf"a.{kind}: line 1: is not {kind.upper()} "):
            engine(file)
        file.write_text(f"q{separator}text\nHow many apples?\n")
        with pytest.raises(ValueError, match=rf"a.{kind}: line 2: has 1 columns; expected 2"):
            engine(file)


def test_glob_reads_files_in_name_order(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", ROWS[2:3])
    write(tmp_path / "a.jsonl", ROWS[:1])
    assert [c.text for c in ask(engine(tmp_path / "*.jsonl"))] == ["one", "three"]


def test_a_list_in_a_column_gives_several_samples(tmp_path: Path) -> None:
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
    assert [c.completion_tokens for c in ask(source, "p/1")] == [4, 3], (
        "the end token is counted, since the model wrote it"
    )
    assert [c.prompt_tokens for c in ask(source, "p/1")] == [None, None], "the prompt of the file is unknown"


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([ROWS[0], "{broken"], COLUMNS, r"a.jsonl: line 2: is not JSON"),
        ([ROWS[0], {"q": "How many pears?"}], COLUMNS, r"line 2: column 'text' \(columns.completion\) .* found: q"),
        ([ROWS[0]], {**COLUMNS, "completion": "text.deep"}, r"line 1: column 'text.deep' .* is missing; found: 'one'"),
        ([{"q": "How many pears?", "text": 5}], COLUMNS, r"line 1: column 'text': 5 is not text"),
        ([{"q": "How many pears?", "text": ["a", 5]}], COLUMNS, r"line 1: column 'text': 5 is not text"),
        ([{"q": "How many pears?", "text": {"a": 5}}], COLUMNS, r"line 1: column 'text': {'a': 5} is not text"),
        ([{"q": "How many pears?", "text": [[[-1.5, False]]]}], COLUMNS, r"line 1: column 'text': -1.5 is not text"),
        ([ROWS[0], {"q": "?"}], {**COLUMNS, "completion": "text.0"}, r"line 2: column 'text.0' .* found: q"),
        ([ROWS[0] | {"m": ["a"]}], {**COLUMNS, "completion": "m.1"}, r"line 1: column 'm.1' .* found: \['a'\]"),
        ([{"q": 5, "text": "x"}], COLUMNS, r"line 1: column 'q': 5 is not text"),
        ([ROWS[0], "[1]"], COLUMNS, r"line 2: found '\[1\]'; expected an object"),
        (["[1]"], COLUMNS, r"item 1: found '1'; expected an object"),
        ([], COLUMNS, r"a.jsonl: has no rows"),
        ([ROWS[3]], COLUMNS, r"a.jsonl: none of 1 rows matches a problem of this study by column 'q'"),
        ([ROWS[0]], {**COLUMNS, "text": "q"}, r"columns.text: unknown key; allowed: problem_id, question, completion"),
        ([ROWS[0]], {"question": "q"}, r"columns.completion: is missing"),
        ([ROWS[0]], {"completion": "text"}, r"exactly one of question: and problem_id:"),
        ([ROWS[0]], {**COLUMNS, "problem_id": "q"}, r"exactly one of question: and problem_id:"),
        ([ROWS[0] | {"n": -1}], {**COLUMNS, "sample_index": "n"}, r"line 1: sample_index -1 of 'p/0' is not allowed"),
        ([ROWS[0] | {"n": None}], {**COLUMNS, "sample_index": "n"}, r"line 1: sample_index None"),
        ([ROWS[0] | {"n": 1}] * 2, {**COLUMNS, "sample_index": "n"}, r"line 2: sample_index 1 .* each once"),
        ([ROWS[0] | {"n": 1.5}], {**COLUMNS, "completion_tokens": "n"}, r"line 1: completion_tokens 1.5"),
        ([ROWS[0] | {"n": "1.5"}], {**COLUMNS, "completion_tokens": "n"}, r"line 1: completion_tokens '1.5'"),
        ([ROWS[0] | {"n": "many"}], {**COLUMNS, "prompt_tokens": "n"}, r"line 1: prompt_tokens 'many'"),
        ([ROWS[0] | {"n": True}], {**COLUMNS, "prompt_tokens": "n"}, r"line 1: prompt_tokens True"),
        ([ROWS[0] | {"n": -2.0}], {**COLUMNS, "prompt_tokens": "n"}, r"line 1: prompt_tokens -2.0"),
        ([ROWS[0] | {"n": "x"}], {**COLUMNS, "sample_index": "n"}, r"line 1: sample_index 'x' of 'p/0'"),
    ],
)  # fmt: skip
def test_invalid_columns_and_rows_are_refused_with_the_reason(
    tmp_path: Path, rows: list[Any], columns: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        engine(write(tmp_path / "a.jsonl", rows), columns)
    assert "\n" not in str(error.value)


def test_missing_and_damaged_files_are_refused_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path: .*none.jsonl' is not a file and matches no file"):
        engine(tmp_path / "none.jsonl")
    for name, message in (("a.jsonl.gz", "is not a gzip file"), ("a.parquet", "is not Parquet")):
        (tmp_path / name).write_bytes(b"neither")
        with pytest.raises(ValueError, match=message):
            engine(tmp_path / name)
    packed = bytearray(gzip.compress(b'{"q": "?"}\n' * 1000))
    packed[20] ^= 0xFF
    (tmp_path / "c.jsonl.gz").write_bytes(packed)
    with pytest.raises(ValueError, match=r"c.jsonl.gz: is not a gzip file"):
        engine(tmp_path / "c.jsonl.gz")
    (tmp_path / "d.jsonl").write_bytes(b'{"q": ' + b"[" * 200_000 + b"]" * 200_000 + b"}")
    with pytest.raises(ValueError, match=r"d.jsonl: line 1: is not JSON"):
        engine(tmp_path / "d.jsonl")
    (tmp_path / "b.jsonl").write_bytes(b'{"q": "\xff"}\n')
    with pytest.raises(ValueError, match=r"b.jsonl: line 1: is not JSON"):
        engine(tmp_path / "b.jsonl")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.tar.gz"])
def test_a_file_that_unpacks_to_more_than_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("cos_assets.readers._LARGEST", 1000)
    data = b'{"q": "1+1?", "text": "2"}\n' * 100
    if name.endswith(".tar.gz"):
        with tarfile.open(tmp_path / name, "w:gz") as archive:
            member = tarfile.TarInfo("b.jsonl")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    else:
        (tmp_path / name).write_bytes(gzip.compress(data))
    with pytest.raises(ValueError, match=rf"{name}.*: unpacks to more than 1,000 bytes; split it"):
        engine(tmp_path / name)


def test_an_import_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="questions: is missing"):
        engine(write(tmp_path / "a.jsonl", ROWS), questions=None)


def texts(source: ImportedEngine, problem_id: str, *indices: int) -> list[str]:
    return [c.text for c in ask(source, problem_id, *indices)]


def test_problems_with_one_question_share_its_samples(tmp_path: Path) -> None:
    """Two of MATH's training problems have one question: a file may contain one of them, or both."""
    twice = {**QUESTIONS, "p/0-2": " How many apples?"}
    source = engine(write(tmp_path / "a.jsonl", ROWS), questions=twice)
    assert texts(source, "p/0") == texts(source, "p/0-2") == ["one", "three"] and source.unmatched == 1
    rows = [{"q": "How many apples?", "text": text, "n": n} for text, n in (("a", 0), ("b", 1), ("c", 0), ("d", 1))]
    columns = {**COLUMNS, "sample_index": "n"}
    source = engine(write(tmp_path / "b.jsonl", rows), columns, questions=twice)
    assert texts(source, "p/0") == texts(source, "p/0-2") == ["a", "b"]


def test_rows_match_a_problem_by_any_of_its_texts(tmp_path: Path) -> None:
    """A text of two problems matches neither."""
    named = {"p/0": ["Write f. Tests: f()", "Write f."], "p/1": ["Write g. Tests: g()", "Write it."],
             "p/2": ["Write h. Tests: h()", "Write it."]}  # fmt: skip
    rows = [{"q": q, "text": q} for q in ("Write f.", "Write  f. Tests: f()", "Write it.", "Write h. Tests:\nh()")]
    source = engine(write(tmp_path / "a.jsonl", rows), questions=named)
    assert texts(source, "p/0") == ["Write f.", "Write  f. Tests: f()"] and source.unmatched == 1
    assert texts(source, "p/1") == [] and texts(source, "p/2") == ["Write h. Tests:\nh()"]


@pytest.mark.parametrize(
    ("problem", "ids"),
    [
        ("mbpp/011", ["mbpp/011", "MBPP/11", "Mbpp/11", "mbpp/11", 11, 11.0, "11", "011"]),
        ("HumanEval/0", ["HumanEval/0", "humaneval/0", 0, "0", 0.0]),
        ("ifeval/test/01000", ["ifeval/test/01000", 1000, "1000", "ifeval/test/1000"]),
        ("math/train/00442a60c676", ["math/train/00442a60c676", "MATH/train/00442A60C676", "00442a60c676"]),
    ],
)
def test_published_forms_of_an_id_match_the_problem(tmp_path: Path, problem: str, ids: list[Any]) -> None:
    others = {"mbpp/111": "", "mbpp/012": "", "HumanEval/10": "", "ifeval/test/10000": "", "math/train/442a60c676": ""}
    rows = [{"id": one, "text": f"{number}"} for number, one in enumerate(ids)]
    file = write(tmp_path / "a.jsonl", rows)
    source = engine(file, {"problem_id": "id", "completion": "text"}, questions={problem: "", **others})
    assert texts(source, problem, *range(len(ids))) == [str(number) for number in range(len(ids))]
    assert source.unmatched == 0


def test_an_ambiguous_part_of_an_id_matches_no_problem(tmp_path: Path) -> None:
    rows = [{"id": one, "text": "x"} for one in (7, "train/7", "gsm8k/train/00007", "GSM8K/test/7", 8)]
    named = {"gsm8k/train/00007": "", "gsm8k/test/00007": ""}
    source = engine(write(tmp_path / "a.jsonl", rows), {"problem_id": "id", "completion": "text"}, questions=named)
    assert source.unmatched == 3 and [len(ask(source, problem)) for problem in named] == [1, 1]


def message(text: Any, role: str = "assistant", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": text, **more}


ASKED = message("How many apples?", "user")
SHAPES: dict[str, tuple[str, Any, list[str]]] = {
    "messages": ("messages.1.content", {"messages": [ASKED, message("one")]}, ["one"]),
    "last message": ("messages.-1.content", {"messages": [ASKED, message("one")]}, ["one"]),
    "brackets": ("conversations[1].value", {"conversations": [{"value": "?"}, {"value": "one"}]}, ["one"]),
    "conversation": ("messages", {"messages": [ASKED, message("draft"), ASKED, message("one")]}, ["one"]),
    "conversation, asked last": ("messages", {"messages": [ASKED, message("one"), ASKED]}, ["one"]),
    "sharegpt": ("c", {"c": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "one"}]}, ["one"]),
    "gemini": ("c", {"c": [{"role": "model", "parts": [{"text": "so", "thought": True}, {"text": "one"}]}]}, ["one"]),
    "two conversations": ("c", {"c": [[ASKED, message("one")], [ASKED, message("two")]]}, ["one", "two"]),
    "message": ("choices.0.message", {"choices": [{"message": message("one")}]}, ["one"]),
    "parts": ("m.content", {"m": message([{"type": "text", "text": "o"}, {"type": "text", "text": "ne"}])}, ["one"]),
    "reasoning": ("m", {"m": message([{"type": "thinking", "thinking": "so"}, {"text": "one"}])}, ["one"]),
    "reasoning aside": ("m", {"m": message("one", reasoning_content="so")}, ["one"]),
    "resps": ("resps", {"resps": [["one"]]}, ["one"]),
    "resps, repeated": ("resps", {"resps": [["one", "two"]]}, ["one", "two"]),
    "lists": ("resps", {"resps": [["one"], ["two"]]}, ["one", "two"]),
    "responses": ("output", {"output": [{"type": "reasoning", "summary": []},
                                        {"type": "message", "content": [{"type": "output_text", "text": "one"}]}]},
                  ["one"]),
    "choices": ("choices", {"choices": [{"index": 0, "message": message("one")}, {"message": message("two")}]},
                ["one", "two"]),
    "outputs": ("outputs", {"outputs": [{"text": "one", "index": 0}, {"text": "two", "index": 1}]}, ["one", "two"]),
    "messages in a list": ("c", {"c": [message("one"), message("two")]}, ["two"]),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_solutions_are_read_from_every_shape_of_cell(
    tmp_path: Path, shape: tuple[str, Any, list[str]], kind: str
) -> None:
    path, cells, expected = shape
    file = tmp_path / f"a.{kind}"
    rows = [{"q": "How many apples?", **cells}]
    if kind == "parquet":
        pl.DataFrame(rows, strict=False).write_parquet(file)
    else:
        write(file, rows)
    assert texts(engine(file, {"question": "q", "completion": path}), "p/0") == expected


def test_a_column_name_takes_precedence_over_an_equal_path(tmp_path: Path) -> None:
    rows = [{"q": "How many apples?", "text.0": "one", "text": ["two"]}]
    assert texts(engine(write(tmp_path / "a.jsonl", rows), {**COLUMNS, "completion": "text.0"}), "p/0") == ["one"]


def test_null_becomes_a_failed_sample_with_a_reason(tmp_path: Path) -> None:
    rows = [
        {"q": "How many apples?", "text": None, "why": "stop", "out": 9},
        {"q": "How many apples?", "text": "two", "why": None, "out": None},
        {"q": "How many apples?", "text": None, "why": "length", "out": 50},
        {"q": "How many apples?", "text": None, "why": None, "out": None},
        {"q": "How many apples?", "text": "half a", "why": "content_filter", "out": 3},
        {"q": "How many apples?", "text": "six", "why": "NEW", "out": 3},
        {"q": "How many apples?", "text": "", "why": None, "out": 0},
    ]
    columns = {**COLUMNS, "finish_reason": "why", "completion_tokens": "out"}
    found = ask(engine(write(tmp_path / "a.jsonl", rows), columns), "p/0", *range(7))
    assert [(c.text, c.finish_reason, c.completion_tokens, c.error) for c in found] == [
        ("", "error", 9, "no text in column 'text'"),
        ("two", "stop", None, None),
        ("", "length", 50, None),
        ("", "error", None, "no text in column 'text'"),
        ("half a", "error", 3, "content_filter"),
        ("six", "stop", 3, "unknown finish reason 'NEW'"),
        ("", "stop", 0, None),
    ]


@pytest.mark.parametrize(
    "cell",
    [
        None,
        [None],
        [[None]],
        {"content": None},
        {"message": {"content": None}},
        [{"text": None}],
        [message(None)],
        [ASKED],
    ],
    ids=str,
)
def test_null_in_any_shape_of_cell_becomes_a_failed_sample(tmp_path: Path, cell: Any) -> None:
    file = write(tmp_path / "a.jsonl", [{"q": "How many apples?", "text": cell}, ROWS[2]])
    assert [(c.text, c.finish_reason) for c in ask(engine(file))] == [("", "error"), ("three", "stop")]


def test_a_failed_sample_is_booked_once(tmp_path: Path) -> None:
    from cos_assets.generation.generate import Buyer, generate
    from cos_assets.generation.model import resolve

    file = write(tmp_path / "a.jsonl", [ROWS[0], {"q": "How many apples?", "text": None}])
    options = {"path": str(file), "columns": COLUMNS, "questions": QUESTIONS}
    model = resolve("made elsewhere", engine="imported", options=options)
    asked = pl.DataFrame({"problem_id": ["p/0"], "prompt": ["How many apples?"]})
    for new in (2, 0):
        bought = generate(model, asked, 3, Sampling(), Buyer(tmp_path, "s", "sampling", "run", "wc"))
        assert (bought.new, bought.missing) == (new, 1)
        assert bought.rows["finish_reason"].to_list() == ["stop", "error"]


@pytest.mark.parametrize("count", [12, 12.0, "12", "12.0", " 12 "])
def test_token_counts_are_read_from_floats_and_strings(tmp_path: Path, count: Any) -> None:
    rows = [ROWS[0] | {"n": count, "i": 0.0}, ROWS[2] | {"n": None, "i": "1"}, ROWS[2] | {"n": "", "i": "2.0"}]
    columns = {**COLUMNS, "completion_tokens": "n", "prompt_tokens": "n", "sample_index": "i"}
    found = ask(engine(write(tmp_path / "a.jsonl", rows), columns))
    assert [(c.completion_tokens, c.prompt_tokens) for c in found] == [(12, 12), (None, None), (None, None)]


def test_a_missing_count_in_a_float_column_is_unknown(tmp_path: Path) -> None:
    pl.DataFrame({"q": ["How many apples?"] * 2, "text": ["a", "b"], "n": [7.0, float("nan")]}).write_parquet(
        tmp_path / "a.parquet"
    )
    found = ask(engine(tmp_path / "a.parquet", {**COLUMNS, "completion_tokens": "n"}))
    assert [c.completion_tokens for c in found] == [7, None]
    (tmp_path / "a.csv").write_text("q,text,n\nHow many apples?,a,12.0\nHow many apples?,b,\n")
    found = ask(engine(tmp_path / "a.csv", {**COLUMNS, "completion_tokens": "n"}))
    assert [c.completion_tokens for c in found] == [12, None]


def test_output_files_of_openai_batches_are_read(tmp_path: Path) -> None:
    """As documented in docs/engines.md; a failed request is a failed sample."""

    def line(custom_id: str, body: Any, status: int = 200, error: Any = None) -> dict[str, Any]:
        response = None if body is None else {"status_code": status, "request_id": "r", "body": body}
        return {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": error}

    def answer(text: Any, reason: str) -> dict[str, Any]:
        usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
        return {"id": "c", "choices": [{"index": 0, "message": message(text), "finish_reason": reason}], "usage": usage}

    rows = [
        line("p/0", answer("one", "stop")),
        line("p/1", answer("two", "length")),
        line("p/0", None, error={"code": "batch_expired", "message": "expired"}),
        line("p/1", {"error": {"message": "bad request"}}, status=400),
        line("p/9", answer("nine", "stop")),
    ]
    columns = {
        "problem_id": "custom_id",
        "completion": "response.body.choices.0.message.content",
        "finish_reason": "response.body.choices.0.finish_reason",
        "prompt_tokens": "response.body.usage.prompt_tokens",
        "completion_tokens": "response.body.usage.completion_tokens",
    }
    source = engine(write(tmp_path / "batch_output.jsonl", rows), columns)
    assert source.unmatched == 1
    found = [
        [(c.text, c.finish_reason, c.prompt_tokens, c.completion_tokens) for c in ask(source, p)] for p in QUESTIONS
    ]
    assert found == [
        [("one", "stop", 100, 7), ("", "error", None, None)],
        [("two", "length", 100, 7), ("", "error", None, None)],
    ]


def test_sample_logs_of_the_lm_evaluation_harness_are_read(tmp_path: Path) -> None:
    """It writes a sample once for each of its filters."""
    rows = [
        {
            "doc_id": number, "doc": {"question": question, "answer": "#### 2"}, "target": "#### 2",
            "arguments": {"gen_args_0": {"arg_0": f"Q: {question}", "arg_1": {"until": ["Q:"]}}},
            "resps": [[f"{question} 2", "3"]], "filtered_resps": ["2"], "filter": name, "exact_match": 1.0,
        }
        for number, question in enumerate(QUESTIONS.values()) for name in ("strict-match", "flexible-extract")
    ]  # fmt: skip
    file = write(tmp_path / "samples_gsm8k_2026.jsonl", rows)
    columns = {"question": "doc.question", "completion": "resps"}
    source = engine(file, columns, where={"filter": "strict-match"})
    assert texts(source, "p/1") == ["How many pears? 2", "3"] and texts(source, "p/0", 2) == []
    with pytest.raises(ValueError, match=r"none of 0 rows with {'filter': 'none'} matches"):
        engine(file, columns, where={"filter": "none"})
    options = {"path": str(file), "columns": columns}
    chosen = [fingerprint({**options, "where": where}) for where in ({}, {"filter": "strict-match"}, {"doc_id": 1})]
    assert len(set(chosen)) == 3 and fingerprint(options) == chosen[0]


@pytest.mark.parametrize(("path", "value"), [("n", 1), ("n", "1"), ("a.b", True), ("a.b", "True")])
def test_rows_are_filtered_by_their_values(tmp_path: Path, path: str, value: Any) -> None:
    rows = [ROWS[0] | {"n": 0, "a": {"b": False}}, ROWS[0] | {"text": "two", "n": 1, "a": {"b": True}}]
    rows.append(ROWS[0] | {"n": 2, "a": {}})
    assert texts(engine(write(tmp_path / "a.jsonl", rows), where={path: value}), "p/0") == ["two"]


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


def test_published_gsm8k_solutions_are_imported(public_data: Path) -> None:
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


def test_math_solutions_are_matched_by_their_question(tmp_path: Path, public_data: Path) -> None:
    """The published training rows contain two questions twice."""
    from cos_assets.readers import rows
    from cos_assets.tasks.math import Math

    train = Math(path=str(public_data / "math")).problems().filter(pl.col("split") == "train")
    published = [row for _, row in rows(public_data / "math" / "math_train_7500_problem_answer.json")]
    made = [{"problem": row["problem"], "generation": f"So {row['problem']}"} for row in published]
    questions = dict(train.select("problem_id", "question").iter_rows())
    source = engine(
        write(tmp_path / "a.jsonl", made), {"question": "problem", "completion": "generation"}, questions=questions
    )
    assert source.unmatched == 0 and len(questions) == 7500
    held = {problem_id: len(ask(source, problem_id)) for problem_id in questions}
    twice = [problem_id for problem_id, samples in held.items() if samples == 2]
    assert set(held.values()) == {1, 2} and "math/train/442a60c676c5" in twice and "math/train/442a60c676c5-2" in twice
    for problem_id, question in questions.items():
        assert {" ".join(text.split()) for text in texts(source, problem_id)} == {f"So {' '.join(question.split())}"}


@pytest.mark.parametrize("column", ["task_id", "text", "published id"])
def test_mbpp_solutions_are_matched_by_published_ids_and_texts(tmp_path: Path, public_data: Path, column: str) -> None:
    from cos_assets.readers import rows
    from cos_assets.tasks.mbpp import Mbpp

    file = public_data / "humaneval_mbpp" / "mbpp.jsonl"
    task = Mbpp(path=str(file))
    problems = task.problems()
    questions = {i: task.texts(question) for i, question in problems.select("problem_id", "question").iter_rows()}
    made = [{**row, "published id": f"MBPP/{row['task_id']}"} for _, row in rows(file)]
    match = {"question": column} if column == "text" else {"problem_id": column}
    source = engine(write(tmp_path / "a.jsonl", made), {**match, "completion": "code"}, questions=questions)
    ambiguous = 8 if column == "text" else 0  # four texts of two problems each, with other tests
    assert source.unmatched == 10 + ambiguous, "ten tasks are for prompts only"
    right = {i: solution.split() for i, solution in problems.select("problem_id", "solution").iter_rows()}
    found = {problem_id: texts(source, problem_id) for problem_id in questions}
    assert sum(len(one) for one in found.values()) == 964 - ambiguous
    assert all(one[0].split() == right[problem_id] for problem_id, one in found.items() if one)


# --- texts that other programs misread -------------------------------------------------------------------------------

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
    from cos_assets.generation.generate import Buyer, generate
    from cos_assets.generation.model import resolve
    from cos_assets.judging.verdicts import verdicts
    from cos_assets.storage import catalog, tables
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
    # A lone surrogate is not valid UTF-8, a pair is one character; everything else is kept byte for byte.
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
        tables.write(tmp_path, "s", asset, {"budget": "low", "model": "wc"}, frame, lineage)
        assert tables.scan(tmp_path, "s", asset, [{"budget": "low", "model": "wc"}]).collect().height == len(AWKWARD)
    catalog.build(tmp_path)
    for view in ("samples", "ledger"):
        seen = catalog.query(tmp_path, f"SELECT completion FROM {view} ORDER BY sample_index")["completion"].to_list()
        assert seen == expected
    counts = catalog.query(tmp_path, "SELECT verdict, count(*) AS n FROM verdicts GROUP BY verdict ORDER BY verdict")
    assert counts.rows() == [("correct", 6), ("no_answer", 3), ("wrong", 1)]
    answers = catalog.query(tmp_path, "SELECT max(length(answer)) AS n FROM verdicts")
    assert answers["n"].item() == 10_000_000


@pytest.mark.parametrize("task", ["arithmetic", "gsm8k", "math", {"name": "jsonl", "path": "a", "grade": "text"}])
def test_every_task_reads_awkward_texts(task: Any) -> None:
    from cos_assets import tasks

    found = tasks.make(task)
    for name, text in AWKWARD.items():
        answer = found.answer(text)
        if not name.endswith("right") and not name.startswith("an answer"):
            assert answer is None, name
