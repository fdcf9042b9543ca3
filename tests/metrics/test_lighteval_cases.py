"""Our metrics on lighteval's metric cases: pass@k, maj@k, avg@k, and the two extremes of G-Pass@k.

The graders are also ours. Cases in which lighteval has another convention are in `OTHERWISE`, with the reason and our
value.

pass@k     coverage@k
maj@k      maj@k
avg@k      the mean of the first k samples
G-Pass@k   at threshold 0 at least one of k samples is correct, which is coverage@k; at threshold 1 all k are. The
           thresholds between, and their mean, are not among our metrics.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets.grading.answers import grade
from cos_assets.grading.grade import Kind
from cos_assets.metrics.coverage import count_correct, coverage, coverage_at_k
from cos_assets.metrics.majority import maj_at_k

GRADERS: dict[str, Kind] = {
    "pass_at_k": "text", "pass_at_k_math": "math", "pass_at_k_letters": "choice", "maj_at_k": "text",
    "avg_at_k": "text", "avg_at_k_math": "math", "g_pass_at_k": "text", "g_pass_at_k_math": "math",
    "g_pass_at_k_latex": "math",
}  # fmt: skip
# Of three answers that occur once, lighteval takes the first; ours gives each the same weight.
TIED = "Maj at K - No Majority"
BARE = "lighteval reads no bare formula as mathematics, ours wraps it in dollar signs"
OTHERWISE: dict[tuple[str, str], tuple[str, dict[str, float]]] = {
    ("g_pass_at_k", "Au"): ("ours folds case: 'au' is 'Au'", {"0.0": 1.0, "1.0": 1.0}),
    ("g_pass_at_k", ""): ("an empty gold answer is a grader error of ours", {"0.0": 0.0, "1.0": 0.0}),
    ("g_pass_at_k_math", "x^2/2"): (BARE, {"0.0": 5 / 6, "1.0": 1 / 6}),
    ("g_pass_at_k_math", "n(n+1)/2"): (BARE, {"0.0": 1.0, "1.0": 1 / 56}),
}


def graded(suite: str, case: dict[str, Any]) -> pl.DataFrame:
    """[problem_id, sample_index, answer, correct] of a case. lighteval compares with the first gold only, and the gold
    of a letter case is the letter of the gold's place, not its text."""
    index = case["doc"]["gold_index"]
    index = index[0] if isinstance(index, list) else index
    gold = chr(ord("A") + index) if suite == "pass_at_k_letters" else case["doc"]["choices"][index]
    texts = case["model_response"]["text"]
    rows = pl.DataFrame({"gold": gold, "answer": texts, "finish_reason": "stop"})
    out = grade(rows, GRADERS[suite]).with_row_index("sample_index")
    return out.select("sample_index", "answer", problem_id=pl.lit("p"), correct=pl.col("verdict") == "correct")


@pytest.mark.parametrize(("suite", "cases"), [
    ("pass_at_k", 3), ("pass_at_k_math", 3), ("pass_at_k_letters", 3), ("maj_at_k", 4), ("avg_at_k", 3),
    ("avg_at_k_math", 3), ("g_pass_at_k", 10), ("g_pass_at_k_math", 11), ("g_pass_at_k_latex", 7),
])  # fmt: skip
def test_metrics_equal_the_cases_of_lighteval(public_data: Path, suite: str, cases: int) -> None:
    held = json.loads((public_data / "lighteval_metric_cases" / f"{suite}.json").read_text())["test_cases"]
    assert len(held) == cases
    for case in held:
        samples, k = graded(suite, case), case["metric_params"]["k"]
        n, c = count_correct(samples).select("n", "c").row(0)
        if suite.startswith("maj"):
            ours = {f"maj@k:k={k}": maj_at_k(samples, k)["value"].item()}
            if case["name"] == TIED:
                assert ours == pytest.approx({f"maj@k:k={k}": 1 / 3})
                continue
        elif suite.startswith("avg"):
            ours = {f"avg@k:k={k}": coverage(count_correct(samples.head(k)), [1])["value"].item()}
        elif suite.startswith("pass"):
            assert n == case["metric_params"]["n"]
            ours = {f"pass@k:k={k}&n={n}": float(coverage_at_k(n, c, k))}
        else:
            name = next(iter(case["expected_output"])).rpartition("_")[0]
            ours = {f"{name}_0.0": float(coverage_at_k(n, c, k)), f"{name}_1.0": 1 - float(coverage_at_k(n, n - c, k))}
        expected = {name: case["expected_output"][name] for name in ours}
        _, values = OTHERWISE.get((suite, case["doc"]["choices"][0]), ("", {}))
        expected |= {name: values[name.rpartition("_")[2]] for name in expected if values}
        assert ours == pytest.approx(expected, abs=case["tolerance"]), case["name"]


def test_every_listed_convention_changes_the_value(public_data: Path) -> None:
    """A listed reason without a difference would hide a future one."""
    for suite, gold in OTHERWISE:
        held = json.loads((public_data / "lighteval_metric_cases" / f"{suite}.json").read_text())["test_cases"]
        [case] = [case for case in held if case["doc"]["choices"][0] == gold]
        zero = next(value for name, value in case["expected_output"].items() if name.endswith("_0.0"))
        assert abs(zero - OTHERWISE[suite, gold][1]["0.0"]) > case["tolerance"]
