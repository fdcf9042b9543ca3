"""Published outputs and verdicts, graded by our graders from the raw text, with every disagreement listed.

`test_answers` grades the answers that others extracted. Here the answers are extracted by our tasks.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets.grading.answers import grade
from cos_assets.grading.extraction import last_number_anywhere, stated
from cos_assets.grading.grade import Kind
from cos_assets.tasks.gsm8k import Gsm8k
from cos_assets.tasks.math import Math


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def right(golds: list[Any], answers: list[Any], kind: Kind) -> list[bool]:
    schema = {"gold": pl.String, "answer": pl.String, "finish_reason": pl.String}
    table = pl.DataFrame({"gold": golds, "answer": answers, "finish_reason": ["stop"] * len(golds)}, schema=schema)
    graded = grade(table, kind, workers=2)
    assert not graded["reason"].str.contains("no result within|died").any(), "no case reaches a limit"
    return (graded["verdict"] == "correct").to_list()


def test_verdicts_of_800_raw_math_solutions_equal_the_recorded_flags(public_data: Path) -> None:
    """799 of 800 agree; one recorded flag is wrong: `10{,}000` is 10000."""
    problems = lines(public_data / "qwen_math_cot_100" / "math_cot_100.jsonl")
    samples = [(p["gt"], t, s) for p in problems for t, s in zip(p["code"], p["score"], strict=True)]
    answers = [Math().answer(text) for _, text, _ in samples]
    verdicts = right([gold for gold, _, _ in samples], answers, "math")
    assert len(samples) == 800
    assert answers.count(None) == 0
    differ = [
        (gold, answer) for (gold, _, flag), answer, ok in zip(samples, answers, verdicts, strict=True) if ok != flag
    ]
    assert differ == [("10{,}000", "10000")]


def number(text: str) -> Decimal | None:
    try:
        return Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None


@pytest.mark.parametrize(("model", "correct", "commas"), [("tora-70b", 1112, 10), ("tora-code-34b", 1062, 11)])
def test_golds_with_thousands_commas_are_graded_by_value(
    public_data: Path, model: str, correct: int, commas: int
) -> None:
    """Golds from the data set, not from the output file; every verdict as a numeric regrade with Python's Decimal has
    it, by both graders, so also for the 14 golds with a comma. The others are wrong answers, one of them no number."""
    rows = lines(public_data / "gsm8k_model_outputs" / f"{model}-v1.0.jsonl")
    test = Gsm8k(path=str(public_data / "gsm8k")).load().filter(pl.col("split") == "test")
    assert test["question"].to_list() == [r["question"].strip() for r in rows]
    truth = test["truth"].str.json_decode(pl.Struct({"answer": pl.String})).struct.field("answer")
    published = [text.rpartition("####")[2].strip() for text in truth]
    assert [number(gold) for gold in published] == [number(r["gt"]) for r in rows]
    answers = [r["pred"][0] for r in rows]
    regraded = [number(gold) == number(answer) for gold, answer in zip(published, answers, strict=True)]
    assert sum(regraded) == correct
    with_comma = [i for i, gold in enumerate(published) if "," in gold]
    for kind, golds in (("number", published), ("number", test["answer"].to_list()), ("math", published)):
        verdicts = right(golds, answers, kind)  # type: ignore[arg-type]
        assert verdicts == regraded
        assert (len(with_comma), sum(verdicts[i] for i in with_comma)) == (14, commas)


SUITE = "huggingface/Math-Verify:tests/"
AGREEMENT = {
    f"{SUITE}test_all.py": (170, 184),
    f"{SUITE}test_open_thoughts.py": (28, 28),
    f"{SUITE}test_numina_cases.py": (27, 28),
    f"{SUITE}test_yujianll.py": (14, 14),
    f"{SUITE}test_boxed.py": (3, 3),
    f"{SUITE}test_strict.py": (1, 2),
    f"{SUITE}test_mixed_number_extraction.py": (29, 36),
    "huggingface/lighteval:tests/unit/metrics/test_extractive_match.py": (19, 26),
}
"""(agreeing, cases) of each source."""
MISTAKEN = ("$1 - \\frac{1}{\\mathrm{e}}$", "$1 + \\frac{1}{\\mathrm{e}}$")
"""Equal in Math-Verify's suite: it cannot read `\\mathrm{e}` and compares what is left of both. They are not."""
CAUSES = {
    "a decimal comma may be a list: ours reads none": [
        ("1000.99", "1000,99"), ("1,22", "1.22"), ("0,111", "0.111"), ("2.74", "Soucis : 2,74 $ a.."),
    ],
    "numbers are compared exactly, not rounded": [
        ("$\\frac{1}{12}$", "$0.0833333333333333$"),
        ("$(\\begin{pmatrix}\\frac{1}{3}\\\\ \\frac{1}{", "$\\begin{pmatrix}0.33\\\\0.2 \\end{pmatrix}$"),
        ("$(\\frac{3}{5},\\frac{8}{3}]$", "$(0.6,2.6667]$"),
    ],
    "line breaks inside a formula: ours takes it": [("$9$", "Answer $ \n 9 \n $"), ("$9$", "Answer \\( \n 9 \n \\)")],
    "of several boxes the last one counts, they are not joined": [
        ("Setting $x = y = 0,$ we get \\[2f(0) = f(", "<think> Okay, so I have this functional "),
        ("\\boxed{1} and and and or thus but \\boxed", "$\\boxed{2,3}$"),
        ("\\boxed{1} and and and or thus but \\boxed", "$\\boxed{1,2,3}$"),
    ],
    "the same pair is expected to be equal in another case": [("$x \\in [-2,7]$", "$-2 \\\\le x \\\\le 7$")],
    "another letter is another function": [
        ("$f(x)$", "$f(y)$"), ("\\\\boxed{W(n) = 1 \\\\text{ and } W(n) = -1", "W(x)=1orW(x)=-1"),
    ],
    "an unknown command is not read": [("$1 = \\zzz = x = 0$", "$0$")],
    "a number that no sentence states as its end": [
        ("1", "how many $? just about 1$"), ("4/9", "There are 4 objects and 4/9 remain."),
        ("$3$", "Let $t$ be the number of hours since Jan"), ("$(7,6)$", "First, let's simplify the second equatio"),
    ],
    "answers inside prose of other languages": [
        ("99", "首先，我们知道Haley的班上有11个喜欢玩弹珠的男孩。如果她给每个男孩9颗弹珠"),
        ("220", "Réponse: Janeth aura encore 220 $ à paye"),
        ("13/28", "计划的比例为13/28"),
    ],
    "several equations in one box": [("\\boxed{ p = 5, q = 2 \\quad \\text{and} \\q", "$p=5,q=2;p=7,q=2$")],
    "percent is a mark, not a factor": [
        ("40/900", "4 4/9%"), ("40/9", "4 4/9%"), ("40/900", "4 4/9 percent"), ("40/9", "4 4/9 percent"),
        ("7/25", "28%"),
    ],
    "two numbers are not the last of them": [("2", "4 4/9 2")],
}  # fmt: skip
"""Every disagreement, as the first 40 characters of gold and prediction."""


def test_verdicts_agree_with_the_test_suites_of_other_graders(public_data: Path) -> None:
    cases = [c for c in lines(public_data / "grader_cases" / "cases.jsonl") if c.get("kind") != "choice"]
    expected = [c["expected"] and (c["gold"], c["pred"]) != MISTAKEN for c in cases]
    golds, answers = ([_answer(c[role]) for c in cases] for role in ("gold", "pred"))
    verdicts = right(golds, answers, "math")
    agree = [ok == wanted for ok, wanted in zip(verdicts, expected, strict=True)]
    of, agreeing = Counter(c["source"] for c in cases), Counter()
    agreeing.update(c["source"] for c, same in zip(cases, agree, strict=True) if same)
    differ = [(c["gold"][:40], c["pred"][:40]) for c, same in zip(cases, agree, strict=True) if not same]
    assert sorted(differ) == sorted(case for listed in CAUSES.values() for case in listed)
    assert {source: (agreeing[source], of[source]) for source in of} == AGREEMENT
    # The MATH-style cases are those of Math-Verify, except its mixed numbers, which are newer than release 0.9.0.
    mathematics = [s for s in of if s.startswith(SUITE) and "mixed" not in s]
    assert sum(agreeing[s] for s in mathematics) >= 0.9 * sum(of[s] for s in mathematics)


_SEVERAL_SENTENCES = re.compile(r"[^\d\s][.?!]\s+[A-Z\\]|[\u0600-\u1fff\u3040-\ud7ff]")


def _answer(text: str) -> str:
    """Some cases are whole solutions; a task extracts their answers, here leniently."""
    if len(text) < 300 and not _SEVERAL_SENTENCES.search(text):
        return text
    reply = text.partition("<|im_start|>")[0]
    return stated(reply, "math") or last_number_anywhere(reply) or text
