"""Final answers: five verdicts, exact numbers, and a grader whose failure does not affect other samples."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cos_assets.grading import math_equality
from cos_assets.grading.answers import grade, normalise_text
from cos_assets.grading.grade import VERDICTS

ROOT = Path(__file__).resolve().parents[2]
HANGS = r"[2^{1/2^{1000}},\infty)"


def rows(*triples: tuple[str | None, str | None, str]) -> pl.DataFrame:
    schema = {"gold": pl.String, "answer": pl.String, "finish_reason": pl.String}
    return pl.DataFrame(triples, schema=schema, orient="row")


def verdicts(kind: Any, *pairs: tuple[str | None, str | None], **options: Any) -> list[str]:
    return grade(rows(*[(g, a, "stop") for g, a in pairs]), kind, **options)["verdict"].to_list()


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_each_sample_gets_one_of_five_verdicts_in_input_order(no_process: None) -> None:
    table = rows(
        ("18", "18", "stop"),
        ("18", "19", "stop"),
        ("18", None, "stop"),
        ("18", "18", "length"),
        ("18", None, "length"),
        ("four", "4", "stop"),
        ("", "4", "stop"),
        (None, "4", "stop"),
        ("18", "eighteen", "stop"),
        ("18", "18", "error"),
        ("18", "18", "stop"),
    ).with_row_index("row")
    out = grade(table, "number")
    assert out["row"].to_list() == list(range(11))
    assert out["verdict"].to_list() == [
        "correct", "wrong", "no_answer", "truncated", "truncated", "grader_error", "grader_error", "grader_error",
        "wrong", "no_answer", "correct",
    ]  # fmt: skip
    assert set(out["verdict"]) <= set(VERDICTS)
    silent = out.filter(pl.col("reason").is_null())["verdict"].unique().to_list()
    assert sorted(silent) == ["correct", "wrong"], "only correct and wrong verdicts have no reason"
    assert out.filter(pl.col("verdict").is_in(["no_answer", "truncated"]))["grader"].null_count() == 4


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("16", "16.5", "wrong"),  # some graders round the answer
        ("2125", "2,125", "correct"),  # some graders refuse any thousands comma
        ("2,125", "2125", "correct"),
        ("-5", "5", "wrong"),  # some graders lose the sign
        ("114,200", "200", "wrong"),  # some graders lose the part before the comma
        ("460", "460.", "correct"),
        ("10{,}000", "10000", "correct"),
        ("1/3", "0.333", "wrong"),
        ("0.5", "1/2", "correct"),
        ("10%", "10", "correct"),
        ("10%", "0.1", "wrong"),
        ("5", "five", "wrong"),
        ("4:30p..", "4:30", "grader_error"),
    ],
)
def test_numbers_are_compared_by_value(gold: str, answer: str, verdict: str, no_process: None) -> None:
    assert verdicts("number", (gold, answer)) == [verdict]


def test_a_number_is_read_through_markup_names_and_units(no_process: None) -> None:
    same = [
        r"72\,\text{clips}", r"\text{72}", r"\mathbf{72}", "x = 72", "n=72", r"\text{Total} = 72", "f(3) = 72",
        "x_1 = 72", "48 + 24 = 72", "72 clips", r"72\;\mathrm{km}", r"\$72", "**72**", "$72$", r"\(72\)", r"\boxed{72}",
        "７２", "٧٢", "72.0", r"\frac{144}{2}", r"72\text{ clips}.", r"72 \mbox{ inches}^2", r"72\%", "₹72",
        r"7.2 \times 10^1", "= 72", "72°",
    ]  # fmt: skip
    other = [
        "73", r"\text{73 clips}", "x = 73", r"72\sqrt{2}", "72x", "72 or 73", "72 million", "x + 1 = 72", "2x = 72",
        "72, 73", "72:30", "72!", "between 70 and 72", r"72\pi", "72 dozen", "-72", r"\frac{72}{73}", "more than 72",
        "72^2", "72/0", "72 of 80", "7 2",
    ]  # fmt: skip
    assert verdicts("number", *[("72", answer) for answer in same]) == ["correct"] * len(same)
    assert verdicts("number", *[("72", answer) for answer in other]) == ["wrong"] * len(other)
    fractions = [r"\frac12", r"\dfrac{1}{2}", "½", ".5", "1/2", r"\text{1/2}", r"0.50"]
    assert verdicts("number", *[("0.5", answer) for answer in fractions]) == ["correct"] * len(fractions)
    assert (
        verdicts("number", ("5000", r"5 \times 10^3"), ("1/3", r"0.\overline{3}"), ("2.5", r"2\frac12"))
        == ["correct"] * 3
    )
    assert verdicts("number", ("$10", "10 €"), ("$10", "10"), ("$10", "10 dollars")) == ["wrong", "correct", "correct"]


@given(st.text())
def test_normalizing_text_is_independent_of_surrounding_space(text: str) -> None:
    assert normalise_text(f" {text.upper()} ") == normalise_text(text.upper())


def test_text_is_compared_after_normalization(no_process: None) -> None:
    pairs = [("Paris", " paris. "), ("Paris", "“Paris”"), ("New York", "new\n york"), ("Paris", "Pariss"), ("A", "B")]
    assert verdicts("text", *pairs) == ["correct", "correct", "correct", "wrong", "wrong"]


def test_markup_around_a_text_is_ignored(no_process: None) -> None:
    same = [
        r"\text{Paris}", r"\textbf{Paris}", r"\mathrm{Paris}", r"\boxed{\text{Paris}}", r"\text{\textbf{Paris}}",
        "`Paris`", "`Paris`.", "**Paris**", "**Paris.**", "*Paris*", "$Paris$", r"$\text{Paris}$", r"\(\text{Paris}\)",
        r"\mbox{Paris}.", r"\emph{Paris}", "“**Paris**”", "Ｐaris",
    ]  # fmt: skip
    assert verdicts("text", *[("Paris", answer) for answer in same]) == ["correct"] * len(same)
    assert verdicts("text", *[(answer, "Paris") for answer in same]) == ["correct"] * len(same)
    phrases = [r"\text{New York}", r"\text{New}\ \text{York}", r"New\ York", "New~York", r"\textbf{New} York"]
    assert verdicts("text", *[("New York", answer) for answer in phrases]) == ["correct"] * len(phrases)
    others = [("A*", "A"), ("C", "C#"), ("Paris", r"\text{Lyon}"), ("{1, 2}", "(1, 2)"), ("$5 or $6", "5 or 6")]
    assert verdicts("text", *others) == ["wrong"] * len(others)
    assert verdicts("text", ("50%", r"\text{50\%}"), ("snake_case", r"\text{snake\_case}")) == ["correct"] * 2


@pytest.mark.parametrize("sign", ["*", "`", "\\text{", "$", '"', ".", "{", "\\boxed{"])
def test_long_texts_are_compared_in_linear_time(sign: str, no_process: None) -> None:
    assert verdicts("text", ("Paris", sign * 300_000)) == ["wrong"]


@pytest.mark.parametrize("kind", ["number", "math"])
def test_a_unit_is_ignored_if_the_gold_has_none(kind: Any) -> None:
    same = [
        "18 apples",
        "18 dollars.",
        "$18 each",
        "18 km/h",
        "18 cm^2",
        r"18 \text{ cm}^2",
        "18 m",
        "18°",
        "36/2 eggs",
    ]
    other = [
        "17 apples",
        "18 million",
        "18 or 19",
        "18 and a half",
        "18x",
        "18 apples 3",
        "18 dozen eggs",
        "18 pi",
        "18k",
    ]
    assert verdicts(kind, *[("18", answer) for answer in same]) == ["correct"] * len(same)
    assert verdicts(kind, *[("18", answer) for answer in other]) == ["wrong"] * len(other)
    assert verdicts("number", ("18 apples", "18")) == ["grader_error"], "units in the gold are not removed"


def test_a_choice_is_compared_by_its_letter(no_process: None) -> None:
    same = ["B", "b", "(B)", "B.", " B) seven", "**B**", "[B]", "B: seven", "$B$"]
    same += [
        r"\text{B}",
        r"\textbf{(B)}\ 25",
        r"\mathbf{B}",
        r"\boxed{\text{(B)}}",
        r"$\text{B}$",
        "`B`",
        "**(B)** seven",
    ]
    other = ["C", "seven", "Because", "B2", "", "AB", "(", "A and B", "Bs"]
    assert verdicts("choice", *[("B", answer) for answer in same]) == ["correct"] * len(same)
    assert verdicts("choice", *[("B", answer) for answer in other]) == ["wrong"] * len(other)
    assert verdicts("choice", ("seven", "B")) == ["grader_error"]


def test_an_empty_table_and_null_columns_can_be_graded(no_process: None) -> None:
    assert grade(rows(), "math").schema["verdict"] == pl.String
    out = grade(pl.DataFrame({"gold": ["1"], "answer": [None], "finish_reason": [None]}), "math")
    assert out["verdict"].to_list() == ["no_answer"]
    assert out.schema["grader"] == pl.String


def test_the_strict_grader_compares_strings_only(no_process: None) -> None:
    table = rows(
        ("1200", "1200", "stop"),
        ("1200", " 1200. ", "stop"),
        ("1200", "1,200", "stop"),
        ("1200", "12", "stop"),
        ("1200", "1200", "length"),
        ("1200", None, "stop"),
        ("", "1200", "stop"),
    )
    out = grade(table, "number")
    assert out["strict"].to_list() == [True, True, False, False, None, None, None]
    assert out["verdict"].to_list()[2] == "correct", "the grader compares numbers by value"
    assert grade(rows(("x", "X", "stop")), "text")["strict"].to_list() == [True]


def test_instructions_are_checked_in_truncated_replies() -> None:
    gold = json.dumps({"prompt": "Write.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]})
    table = rows((gold, "none", "length"), (gold, "a, b", "length"), (gold, "none", "error"), (gold, None, "length"))
    assert grade(table, "instructions")["verdict"].to_list() == ["correct", "wrong", "no_answer", "truncated"]
    assert grade(rows(("5", "5", "length")), "math")["verdict"].to_list() == ["truncated"]


def test_samples_without_a_gold_have_no_verdict(no_process: None) -> None:
    out = grade(rows((None, "a reply", "stop"), (None, None, "stop"), (None, "cut", "length")), None)
    assert out["verdict"].to_list() == [None, "no_answer", "truncated"]
    assert out["reason"].to_list()[0] is out["grader"].to_list()[0] is out["strict"].to_list()[0] is None


def test_regrading_replaces_old_verdicts(no_process: None) -> None:
    once = grade(rows(("1", "2", "stop")), "number")
    assert grade(once, "number").equals(once)


@pytest.mark.parametrize(
    ("table", "kind", "options", "message"),
    [
        (rows(), "maths", {}, "kind: 'maths' is not allowed; allowed: number, math, text"),
        (rows(), "math", {"workers": 0}, "workers: 0"),
        (rows(), "math", {"timeout": 0}, "timeout: 0"),
        (
            pl.DataFrame({"gold": ["1"], "answer": ["1"]}),
            "math",
            {},
            "column 'finish_reason' is missing; found: gold, answer",
        ),
        (
            pl.DataFrame({"gold": [1], "answer": ["1"], "finish_reason": ["stop"]}),
            "number",
            {},
            "column 'gold' is Int64; expected String",
        ),
    ],
)
def test_invalid_input_is_refused_with_the_reason(
    table: pl.DataFrame, kind: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        grade(table, kind, **options)
    assert "\n" not in str(error.value)


# --- mathematics -----------------------------------------------------------------------------------------------------


def test_math_starts_no_process_for_strings_and_numbers(no_process: None) -> None:
    pairs = [("x^2", "x^2"), ("10{,}000", "10000"), ("3", "4"), (r"\frac{1}{2}", "0.5"), ("", "1")]
    assert verdicts("math", *pairs) == ["correct", "correct", "wrong", "correct", "grader_error"]


def test_each_distinct_pair_is_graded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def record(pairs: list[tuple[str, str]], workers: int, timeout: float) -> list[bool]:
        asked.extend(pairs)
        return [True for _ in pairs]

    monkeypatch.setattr(math_equality, "equivalent", record)
    assert verdicts("math", *[("x+1", "1+x"), ("x+1", "y")] * 50) == ["correct"] * 100
    assert asked == [("x+1", "1+x"), ("x+1", "y")]


def test_a_hanging_comparison_costs_one_item_and_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []
    start = subprocess.Popen

    def record(*args: Any, **kwargs: Any) -> subprocess.Popen[str]:
        started.append(start(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", record)
    out = grade(
        rows(
            ("x+1", "1+x", "stop"),
            (HANGS, r"[1,\infty)", "stop"),
            ("x+1", "x\x00+2", "stop"),
            (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", "stop"),
            ("x", "(" * 1999, "stop"),
            (r"(6, \infty)", r"\left(6,\infty\right)", "stop"),
        ),
        "math",
        timeout=2,
    )
    assert out["verdict"][0] == out["verdict"][3] == out["verdict"][5] == "correct"
    assert out["verdict"][2] == "wrong"
    assert out["verdict"][1] == "grader_error"
    assert out["reason"][1] == "no result within 2 s"
    assert out["verdict"][4] in ("wrong", "grader_error")
    assert len(started) >= 2, "the hanging worker was replaced"
    assert all(p.returncode is not None for p in started)


def test_several_workers_agree_with_one() -> None:
    pairs = [(f"x+{i}", f"{i}+x") for i in range(20)] + [(f"x+{i}", f"x-{i + 1}") for i in range(20)]
    expected = ["correct"] * 20 + ["wrong"] * 20
    assert verdicts("math", *pairs, workers=2) == expected


def test_an_escaped_dollar_sign_does_not_delimit_mathematics() -> None:
    pairs = [("\\$18.90", "x+1"), ("\\$x+1", "1+x"), ("$x+1$", "1+x"), ("x+1", "\\$1+x")]
    assert verdicts("math", *pairs) == ["wrong", "correct", "correct", "correct"]


def test_a_division_by_zero_is_not_a_number() -> None:
    """SymPy sometimes evaluates 0/0 to 0. There are several texts, because equal pairs are graded once."""
    zeros = [("0", f"0 {n}*0/0") for n in range(1, 10)] + [("0", "0 0/0"), ("x", "x/(1-1)")]
    assert verdicts("math", *zeros) == ["wrong"] * len(zeros)
    assert verdicts("math", ("x/2", "x\\cdot 2^{-1}"), ("0", "0x+\\frac{0}{2}")) == ["correct"] * 2


def test_huge_answers_are_not_compared(no_process: None) -> None:
    out = grade(rows(("x", "x+" * 500_000, "stop"), ("5", "1" * 1_000_000, "stop")), "math")
    assert out["verdict"].to_list() == ["grader_error"] * 2
    assert "1000000 characters" in out["reason"][0]
    assert verdicts("number", ("5", "1" * 1_000_000)) == ["wrong"]


def test_worker_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_equality, "__name__", "cos_assets.no_such_module")
    with pytest.raises(RuntimeError, match=r"math-verify does not start: .* install math-verify\[antlr4_13_2\]"):
        verdicts("math", ("x+1", "1+x"), workers=2)


def test_a_script_without_main_guard_can_grade() -> None:
    script = (
        "import polars as pl\n"
        "from cos_assets.grading.answers import grade\n"
        "t = pl.DataFrame({'gold': ['x+1'], 'answer': ['1+x'], 'finish_reason': ['stop']})\n"
        "print(grade(t, 'math')['verdict'][0])\n"
    )
    done = subprocess.run([sys.executable, "-"], input=script, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["correct"], done.stderr


# --- public data -----------------------------------------------------------------------------------------------------


def test_verdicts_of_math_samples_equal_the_recorded_flags(public_data: Path) -> None:
    lines = (public_data / "qwen_math_cot_100" / "math_cot_100.jsonl").read_text().splitlines()
    problems = [json.loads(line) for line in lines]
    samples = [(p["gt"], a, s) for p in problems for a, s in zip(p["pred"], p["score"], strict=True)]
    out = grade(rows(*[(g, a, "stop") for g, a, _ in samples]), "math")
    differ = [
        (gold, answer)
        for (gold, answer, flag), verdict in zip(samples, out["verdict"], strict=True)
        if (verdict == "correct") != flag
    ]
    assert len(samples) == 800
    assert differ == [("10{,}000", "10000")], "one recorded flag is wrong"


def test_public_cases_of_other_graders_agree_except_for_listed_ones(public_data: Path) -> None:
    """The texts are unchanged; some are whole solutions, of which a grader reads the box or the end of the last
    sentence. Expected values are those of the projects, which sometimes contradict each other; our deviations are
    listed. A number in a text that states no answer is not an answer: `test_public_outputs` reads these texts as tasks
    do.
    """
    lines = (public_data / "grader_cases" / "cases.jsonl").read_text().splitlines()
    cases = [c for c in map(json.loads, lines) if c.get("kind") != "choice"]
    out = grade(rows(*[(c["gold"], c["pred"], "stop") for c in cases]), "math")
    agree = [(v == "correct") == c["expected"] for v, c in zip(out["verdict"], cases, strict=True)]
    assert len(cases) == 321
    assert sum(agree) >= 266
    accepted = [c["pred"] for v, c in zip(out["verdict"], cases, strict=True) if v == "correct" and not c["expected"]]
    assert sorted(accepted) == sorted(
        [
            "Answer $ \n 9 \n $",
            "Answer \\( \n 9 \n \\)",
            "$\\boxed{1,2,3}$",
            "$-2 \\\\le x \\\\le 7$",  # the same pair is expected to be equal in another case
            "4 4/9%",
            "4 4/9 percent",
        ]
    )
