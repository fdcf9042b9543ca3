"""IFEval: verdicts on replies, the flags recorded with public replies, and graders that cannot start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets.grading import instructions
from cos_assets.grading.answers import grade
from cos_assets.grading.instructions import grade_replies, ifeval_figures, ifeval_scores

QWEN = ("0.5B", "3B", "32B")


def gold(*named: tuple[str, dict[str, Any]], prompt: str = "Write.") -> str:
    ids, kwargs = [name for name, _ in named], [keywords for _, keywords in named]
    return json.dumps({"prompt": prompt, "instruction_id_list": ids, "kwargs": kwargs})


NO_COMMA = ("punctuation:no_comma", {})
TWO_SENTENCES = ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 2})
LOWER = ("change_case:english_lowercase", {})


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_all_instructions_must_be_followed_and_violations_are_named() -> None:
    both = gold(NO_COMMA, TWO_SENTENCES)
    replies = ["One is here. Another too.", "One, two. Three.", "Mr. Smith, alone."]
    grades = grade_replies([(both, reply) for reply in replies], 1)
    assert [g.verdict for g in grades] == ["correct", "wrong", "wrong"]
    assert [g.reason for g in grades] == [
        None,
        "not followed: punctuation:no_comma",
        "not followed: punctuation:no_comma, length_constraints:number_sentences",
    ]
    assert {g.grader for g in grades} == {"lm-eval 0.4.13"}


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        (None, 'the gold \'\' is not {"prompt", "instruction_id_list", "kwargs"} of equal lists'),
        ("no json", "the gold 'no json' is not"),
        ('{"prompt": "p"}', "of equal lists"),
        ('["a"]', "of equal lists"),
        (json.dumps({"prompt": "p", "instruction_id_list": ["a", "b"], "kwargs": [{}]}), "of equal lists"),
        (json.dumps({"prompt": "p", "instruction_id_list": ["a"], "kwargs": ["x"]}), "of equal lists"),
        (gold(("no:such", {})), "the instruction 'no:such' is unknown to lm-eval"),
        (gold(("punctuation:no_comma", {"odd": 1})), "lm-eval failed: TypeError"),
    ],
)
def test_invalid_golds_are_grader_errors(gold: str | None, reason: str) -> None:
    [grade] = grade_replies([(gold, "a reply")], 1)
    assert grade.verdict == "grader_error"
    assert grade.reason is not None
    assert reason in grade.reason
    assert "\n" not in grade.reason


def test_samples_with_instructions_get_verdicts() -> None:
    rows = pl.DataFrame(
        {
            "gold": [gold(NO_COMMA)] * 4,
            "answer": ["fine", "not, fine", None, "cut, off"],
            "finish_reason": ["stop", "stop", "stop", "length"],
        }
    )
    out = grade(rows, "instructions", workers=2)
    assert out["verdict"].to_list() == ["correct", "wrong", "no_answer", "wrong"], "truncated replies are checked"
    assert out["strict"].null_count() == 4, "a reply is not compared as a string"


def test_unusual_replies_are_graded() -> None:
    """NUL bytes, a lone surrogate, ten million characters, and text in no language."""
    texts = ["\x00", "\ud800 half", "a," * 5_000_000, "123 456", "。。。"]
    grades = grade_replies([(gold(NO_COMMA, LOWER), text) for text in texts], 2)
    assert {g.verdict for g in grades} <= {"correct", "wrong"}
    assert grades[2].reason is not None
    assert "no_comma" in grades[2].reason


def test_a_reply_that_takes_too_long_is_a_grader_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "TIMEOUT", 0.5)
    slow = "word and so on. " * 1_000_000
    grades = grade_replies([(gold(TWO_SENTENCES), text) for text in ("One. Two.", slow, "Two. Three.")], 1)
    assert [g.verdict for g in grades] == ["correct", "grader_error", "correct"]
    assert grades[1].reason == "no result within 0.5 s"


def test_a_missing_package_is_reported_with_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "langdetect.py").write_text("raise ModuleNotFoundError('No module named langdetect')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RuntimeError, match=r"lm-eval does not start: .*langdetect; install 'cos-assets\[ifeval\]'"):
        grade_replies([(gold(NO_COMMA), "a")], 1)


def test_missing_sentence_data_is_reported_and_not_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nltk.py").write_text(
        "class data:\n"
        "    path = []\n"
        "    def find(name):\n"
        "        raise LookupError(name)\n"
        "def download(name):\n"
        "    raise AssertionError('downloaded')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        RuntimeError,
        match=r"punkt_tab is missing \(run `python -m nltk.downloader punkt_tab`, or install llama-index-core",
    ):
        grade_replies([(gold(NO_COMMA), "a")], 1)


# --- figures ---------------------------------------------------------------------------------------------------------


def test_strict_and_loose_figures_are_computed() -> None:
    both = gold(NO_COMMA, LOWER)
    quoted = "Here it is:\nall of this is written in small letters"
    rows = pl.DataFrame({"gold": [both, both, both, "{}"], "answer": [quoted, "a, b", None, "x"], "row": [0, 1, 2, 3]})
    out = ifeval_scores(rows)
    assert out["row"].to_list() == [0, 1, 2, 3]
    assert out["strict_list"].to_list()[0] == [True, False]
    assert out["loose_list"].to_list()[0] == [True, True], "the text after the first line is in lower case"
    assert out["strict_all"].to_list() == [False, False, False, None]
    assert out["loose_all"].to_list() == [True, False, False, None]
    assert out["strict_list"].to_list()[2] == [False, False], "a missing reply follows no instruction"
    assert out["unscored"].to_list()[:3] == [None] * 3
    figures = ifeval_figures(out)
    strict = [flag for flags in out["strict_list"].drop_nulls() for flag in flags]
    assert figures["prompt_strict"] == 0
    assert figures["prompt_loose"] == pytest.approx(1 / 3)
    assert figures["instruction_strict"] == pytest.approx(sum(strict) / 6)
    assert figures["unscored"] == 1
    assert ifeval_figures(out.clear())["prompt_strict"] is None


# --- public data -----------------------------------------------------------------------------------------------------


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def flags(data: list[dict[str, Any]], recorded: list[dict[str, Any]]) -> pl.DataFrame:
    prompts = {row["prompt"]: row for row in data}
    golds = []
    for row in recorded:
        found = prompts[row["prompt"]]
        names = [name.removeprefix("en:") for name in found["instruction_id_list"]]
        golds.append(gold(*zip(names, found["kwargs"], strict=True), prompt=row["prompt"]))
    rows = pl.DataFrame({"gold": golds, "answer": [row["response"] for row in recorded]})
    return rows.with_columns(key=pl.Series([prompts[row["prompt"]]["key"] for row in recorded]))


def differences(rows: pl.DataFrame, column: str, recorded: list[dict[str, Any]]) -> list[tuple[int, str]]:
    found = []
    for row, record in zip(rows.iter_rows(named=True), recorded, strict=True):
        names = json.loads(row["gold"])["instruction_id_list"]
        for name, ours, theirs in zip(names, row[column], record["follow_instruction_list"], strict=True):
            if ours != theirs:
                found.append((row["key"], name.partition(":")[2]))
    return found


def test_verdicts_equal_the_flags_recorded_for_gpt4(public_data: Path) -> None:
    """All 832 strict flags of 540 replies agree. One loose flag differs: key 1122 counts the "letter" `#`, for which
    the checker draws a random letter."""
    folder = public_data / "ifeval"
    strict, loose = (read(folder / f"eval_results_{name}.jsonl") for name in ("strict", "loose"))
    out = ifeval_scores(flags(read(folder / "input_data.jsonl"), strict), workers=2)
    assert (len(out), out["strict_list"].list.len().sum()) == (540, 832)
    assert differences(out, "strict_list", strict) == []
    assert differences(out, "loose_list", loose) == [(1122, "letter_frequency")]
    assert out["strict_all"].sum() == sum(row["follow_all_instructions"] for row in strict) == 417
    assert ifeval_scores(out.select("gold", "answer"), workers=1)["loose_list"].equals(out["loose_list"])


# By cause: keys 1122 and 1129 ask to count the "letters" `#` and `!`, for which the checkers draw a random letter;
# keys 3150 and 3424 ask for the language of a reply in one case, and the detector had no seed at recording.
LOTS = [(1122, "letter_frequency"), (1129, "letter_frequency")]
DIFFERENT = {
    "0.5B": {"strict": LOTS, "loose": LOTS},
    "3B": {"strict": [LOTS[1], (3150, "english_lowercase"), (3424, "english_capital")], "loose": []},
    "32B": {"strict": LOTS[:1], "loose": []},
}


@pytest.mark.parametrize("size", QWEN)
def test_verdicts_equal_the_flags_recorded_for_qwen_except_for_listed_ones(public_data: Path, size: str) -> None:
    folder = public_data / "ifeval_multi_model"
    strict, loose = (read(folder / f"Qwen__Qwen2.5-{size}-Instruct-GPTQ-Int4_{n}.jsonl") for n in ("strict", "loose"))
    out = ifeval_scores(flags(read(folder / "en_input_data.jsonl"), strict), workers=2)
    assert (len(out), out["strict_list"].list.len().sum()) == (541, 834)
    found = {"strict": differences(out, "strict_list", strict), "loose": differences(out, "loose_list", loose)}
    assert found == DIFFERENT[size]
