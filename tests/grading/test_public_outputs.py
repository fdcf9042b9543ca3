"""Recorded outputs and verdicts of others, graded by ours from the raw text on, with every disagreement listed.

`test_answers` grades the answers that others extracted. Here the answers are extracted by our tasks.
"""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets.grading.answers import Kind, grade
from cos_assets.grading.extraction import stated
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


def test_800_raw_solutions_of_math_problems(public_data: Path) -> None:
    """799 of 800 agree; the other flag is recorded wrong: `10{,}000` is 10000."""
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
def test_golds_with_thousands_commas(public_data: Path, model: str, correct: int, commas: int) -> None:
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
    f"{SUITE}test_all.py": (174, 184),
    f"{SUITE}test_open_thoughts.py": (28, 28),
    f"{SUITE}test_numina_cases.py": (28, 28),
    f"{SUITE}test_yujianll.py": (14, 14),
    f"{SUITE}test_boxed.py": (3, 3),
    f"{SUITE}test_strict.py": (1, 2),
    f"{SUITE}test_mixed_number_extraction.py": (28, 36),
    "huggingface/lighteval:tests/unit/metrics/test_extractive_match.py": (19, 26),
}
"""(agreeing, cases) of each source."""
CAUSES = {
    "a decimal comma may be a list: ours reads none": [("1000.99", "1000,99"), ("1,22", "1.22"), ("0,111", "0.111")],
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
    "a doubled backslash is a line break": [("$x \\in [-2,7]$", "$-2 \\\\le x \\\\le 7$")],
    "another letter is another function": [("$f(x)$", "$f(y)$")],
    "answers inside prose of other languages": [
        ("99", "首先，我们知道Haley的班上有11个喜欢玩弹珠的男孩。如果她给每个男孩9颗弹珠"),
        ("220", "Réponse: Janeth aura encore 220 $ à paye"),
        ("2/5", "} \\times \\frac{1}{3} = \\frac{6}{15} = \\f"),
        ("13/28", "计划的比例为13/28"),
    ],
    "several equations in one box": [("\\boxed{ p = 5, q = 2 \\quad \\text{and} \\q", "$p=5,q=2;p=7,q=2$")],
    "percent is a mark, not a factor": [
        ("40/900", "4 4/9%"), ("40/9", "4 4/9%"), ("40/900", "4 4/9 percent"), ("40/9", "4 4/9 percent"),
        ("7/25", "28%"),
    ],
    "mixed numbers inside a sentence": [
        ("40/9", "The answer is 4 4/9."), ("4", "The answer is 4 4/9."), ("2", "4 4/9 2"),
    ],
}  # fmt: skip
"""Every disagreement, as the first 40 characters of gold and prediction."""


def test_agreement_with_the_test_suites_of_other_graders(public_data: Path) -> None:
    cases = [c for c in lines(public_data / "grader_cases" / "cases.jsonl") if c.get("kind") != "choice"]
    golds, answers = ([_answer(c[role]) for c in cases] for role in ("gold", "pred"))
    verdicts = right(golds, answers, "math")
    agree = [ok == c["expected"] for ok, c in zip(verdicts, cases, strict=True)]
    of, agreeing = Counter(c["source"] for c in cases), Counter()
    agreeing.update(c["source"] for c, same in zip(cases, agree, strict=True) if same)
    assert {source: (agreeing[source], of[source]) for source in of} == AGREEMENT
    # MATH-style are those of Math-Verify, but for its mixed numbers, which are newer than its release 0.9.0.
    mathematics = [s for s in of if s.startswith(SUITE) and "mixed" not in s]
    assert sum(agreeing[s] for s in mathematics) >= 0.9 * sum(of[s] for s in mathematics)
    differ = [(c["gold"][:40], c["pred"][:40]) for c, same in zip(cases, agree, strict=True) if not same]
    assert sorted(differ) == sorted(case for listed in CAUSES.values() for case in listed)


def _answer(text: str) -> str:
    """Whole solutions, which some cases are, come to a grader of ours by way of the extraction."""
    return stated(text, "math") or text if len(text) >= 300 else text
