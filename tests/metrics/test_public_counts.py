"""The metrics on public samples, against exact arithmetic: 100 problems x 8 (Qwen maths), 118 x 100 (EvalPerf)."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import combinations
from math import comb
from pathlib import Path

import polars as pl
import pytest

from cos_assets.metrics.coverage import count_correct, coverage, solved_curve
from cos_assets.metrics.differences import better, paired_difference
from cos_assets.metrics.diversity import diversity


def qwen(public_data: Path) -> pl.DataFrame:
    rows = []
    for line in (public_data / "qwen_math_cot_100" / "math_cot_100.jsonl").read_text(encoding="utf-8").splitlines():
        problem = json.loads(line)
        for i, (correct, text) in enumerate(zip(problem["score"], problem["code"], strict=True)):
            rows.append((str(problem["idx"]), i, correct, " ".join(text.split()), problem["level"]))
    return pl.DataFrame(rows, schema=["problem_id", "sample_index", "correct", "key", "level"], orient="row")


def evalperf(public_data: Path, model: str) -> pl.DataFrame:
    tasks = json.loads((public_data / "evalperf" / f"{model}.json").read_text(encoding="utf-8"))["eval"]
    rows = [(task, 100, round(result["pass@1"])) for task, result in tasks.items()]
    return pl.DataFrame(rows, schema=["problem_id", "n", "c"], orient="row")


def exact_coverage(counts: pl.DataFrame, k: int) -> float:
    pairs = list(zip(counts["n"], counts["c"], strict=True))
    return float(sum(1 - Fraction(comb(n - c, k), comb(n, k)) for n, c in pairs) / len(pairs))


def test_coverage_and_diversity_of_qwen_samples_are_exact(public_data: Path) -> None:
    samples = qwen(public_data)
    counts = count_correct(samples)
    assert counts.height == 100 and counts["n"].unique().to_list() == [8]
    found = coverage(counts, range(1, 9))
    assert found["value"].to_list() == pytest.approx([exact_coverage(counts, k) for k in range(1, 9)], rel=1e-13)
    assert found["value"][0] == pytest.approx(samples["correct"].mean(), rel=1e-13)
    spread = diversity(samples, [3]).filter(distinct="exact", denominator="all")["value"].item()
    total = Fraction(0)
    for _, rows in samples.group_by("problem_id"):
        keys = [key if correct else None for correct, key in rows.select("correct", "key").rows()]
        distinct = [len({key for key in subset if key is not None}) for subset in combinations(keys, 3)]
        total += Fraction(sum(distinct), len(distinct))
    assert spread == pytest.approx(float(total / 100), rel=1e-12)


def test_coverage_of_qwen_samples_by_level_is_exact(public_data: Path) -> None:
    samples = qwen(public_data)
    counts = count_correct(samples, by="level")
    found = coverage(counts, [8], by="level")
    assert found["n_problems"].sum() == 100
    for level, value in found.select("level", "value").rows():
        assert value == pytest.approx(exact_coverage(counts.filter(level=level), 8), rel=1e-13)


@pytest.mark.parametrize("model", ["Llama-3.1-8B-Instruct", "Qwen2.5-72B-Instruct", "Yi-Coder-9B-Chat"])
def test_coverage_of_evalperf_samples_is_exact_at_every_k(public_data: Path, model: str) -> None:
    counts = evalperf(public_data, model)
    assert counts.height == 118
    found = coverage(counts, range(1, 101))["value"].to_list()
    assert found == pytest.approx([exact_coverage(counts, k) for k in range(1, 101)], rel=1e-13)


def test_the_better_evalperf_model_depends_on_the_number_of_samples(public_data: Path) -> None:
    """One sample of the 72B against ten of the 7B: approximately the price match of these sizes."""
    weak = solved_curve(evalperf(public_data, "Qwen2.5-7B-Instruct"), [1, 10])
    strong = solved_curve(evalperf(public_data, "Qwen2.5-72B-Instruct"), [1])
    assert better(paired_difference(weak.filter(k=1), strong)) == "se"
    assert better(paired_difference(weak.filter(k=10), strong)) == "wc"


def test_coverage_equals_the_pass_at_k_cases_of_lighteval(public_data: Path) -> None:
    """Expected values of lighteval's suite (two digits)."""
    cases = json.loads((public_data / "lighteval_metric_cases" / "pass_at_k.json").read_text())["test_cases"]
    assert cases
    for case in cases:
        doc = case["doc"]
        correct = [text == doc["choices"][doc["gold_index"]] for text in case["model_response"]["text"]]
        samples = pl.DataFrame({"problem_id": "p", "correct": correct})
        (expected,) = case["expected_output"].values()
        k = case["metric_params"]["k"]
        assert coverage(count_correct(samples), [k])["value"].item() == pytest.approx(expected, abs=0.01)
