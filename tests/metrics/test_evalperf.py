"""Coverage at a matched budget on public counts: 118 code tasks, 100 samples each, two pairs of models."""

from __future__ import annotations

import json
from fractions import Fraction
from math import comb
from pathlib import Path

import polars as pl
import pytest

from cos_assets.budget.matching import match_budgets, solution_cost
from cos_assets.grading.code import canonical
from cos_assets.metrics.coverage import coverage, solved_curve
from cos_assets.metrics.differences import better, paired_difference

# Numbers of parameters from the names.
PAIRS = {
    "llama": (("Llama-3.1-8B-Instruct", 8e9), ("Llama-3.1-70B-Instruct", 70e9)),
    "qwen": (("Qwen2.5-7B-Instruct", 7e9), ("Qwen2.5-72B-Instruct", 72e9)),
}


def recorded(public_data: Path, model: str) -> dict:
    return json.loads((public_data / "evalperf" / f"{model}.json").read_text(encoding="utf-8"))


def counts(public_data: Path, model: str) -> pl.DataFrame:
    """`pass@1` is the percentage of 100 samples that pass, so it is the number of correct ones."""
    tasks = recorded(public_data, model)["eval"]
    rows = [(task, 100, int(result["pass@1"])) for task, result in tasks.items()]
    return pl.DataFrame(rows, schema=["problem_id", "n", "c"], orient="row")


@pytest.mark.parametrize("model", [name for pair in PAIRS.values() for name, _ in pair] + ["Yi-Coder-9B-Chat"])
def test_published_rates_give_whole_counts_and_the_recorded_mean(public_data: Path, model: str) -> None:
    found, source = counts(public_data, model), recorded(public_data, model)
    assert found.height == 118 and source["config"]["n_samples"] == 100
    assert all(result["pass@1"] == int(result["pass@1"]) for result in source["eval"].values())
    assert coverage(found, [1])["value"].item() * 100 == pytest.approx(source["summary"]["pass@1"], rel=1e-12)


@pytest.mark.parametrize(
    ("family", "wc_samples", "answers"),
    [
        ("llama", [9, 18, 44, 79], ["wc", "wc", "cannot tell", "cannot tell"]),
        ("qwen", [10, 21, 51, 93], ["wc", "wc", "cannot tell", "cannot tell"]),
    ],
)
def test_coverage_at_a_matched_budget_favours_the_expected_model(
    public_data: Path, family: str, wc_samples: list[int], answers: list[str]
) -> None:
    """At equal FLOPs the small model solves more tasks at 1 and 2 samples of the large one; with more samples both
    solve nearly all, and 118 tasks do not show a difference. With one sample each the large one is better."""
    (weak, weak_size), (strong, strong_size) = PAIRS[family]
    costs = {
        "wc": solution_cost("flops", params=weak_size),
        "se": solution_cost("flops", params=strong_size),
    }
    plan = match_budgets({str(k): {"se": k} for k in (1, 2, 5, 9)}, costs)
    assert [buy.samples for buy in plan if buy.model == "wc"] == wc_samples
    wc, se = counts(public_data, weak), counts(public_data, strong)
    found = []
    for few, many in zip((1, 2, 5, 9), wc_samples, strict=True):
        curves = solved_curve(wc, [many]), solved_curve(se, [few])
        for table, k, curve in zip((wc, se), (many, few), curves, strict=True):
            exact = sum(1 - Fraction(comb(100 - c, k), comb(100, k)) for c in table["c"]) / 118
            assert curve["value"].mean() == pytest.approx(float(exact), rel=1e-12)
        found.append(better(paired_difference(*curves)))
    assert found == answers
    assert better(paired_difference(solved_curve(wc, [1]), solved_curve(se, [1]))) == "se"


def test_recorded_programs_have_duplicates_by_canonical_form(public_data: Path) -> None:
    """The data contain up to 20 correct programs per task. Many texts differ only in comments, docstrings and
    layout."""
    tasks = recorded(public_data, "Llama-3.1-8B-Instruct")["eval"]
    texts = {(task, found["solution"]) for task, result in tasks.items() for found in result["profiled"]}
    assert len(texts) == 2021
    assert len({(task, canonical(text)) for task, text in texts}) == 1247
