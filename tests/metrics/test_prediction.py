"""Predictions from a pilot against the results of simulated and public problems."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import betaln

from cos_assets.metrics.coverage import coverage
from cos_assets.metrics.prediction import (
    Fit,
    fit,
    fits,
    predict_coverage,
    predict_kept,
    solved_chance,
    weights_of,
)

# Beta fits of the per-problem success rate on MATH and GSM8K, Gemma2 27B and 9B (Bansal et al. 2024).
PAIRS = [(0.313, 0.644), (0.301, 0.835), (0.887, 0.267), (0.835, 0.423)]


def frame(n: int | np.ndarray, c: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({"problem_id": np.arange(len(c)), "n": np.broadcast_to(n, c.shape), "c": c})


def likeliest(counts: pl.DataFrame) -> Fit:
    return min(fits(counts), key=lambda one: one.bic)


def log_log_line(counts: pl.DataFrame, k: int) -> float:
    """The baseline: extrapolate the line through log(-log coverage@j) over log j, j = 1..least n. It is the
    exponentiated power law of Brown et al. 2024 (arXiv 2407.21787), here fitted by least squares. Some
    problems must be solved and some not.
    """
    seen = coverage(counts, range(1, counts["n"].min() + 1))
    slope, level = np.polyfit(np.log(seen["k"]), np.log(-np.log(seen["value"])), 1)
    return float(np.exp(-np.exp(level + slope * np.log(k))))


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_the_fit_recovers_the_parameters(a: float, b: float) -> None:
    rng = np.random.default_rng(0)
    n = rng.integers(2, 12, 200_000)
    counts = frame(n, rng.binomial(n, rng.beta(a, b, n.size)))
    found = likeliest(counts)
    assert not found.zero_inflated
    errors = np.log([found.a, found.b]) - np.log([a, b])
    assert errors @ np.linalg.solve(found.covariance, errors) < 14  # chi-squared on 2, one in a thousand
    assert (found.a, found.b) == pytest.approx((a, b), rel=0.03)


def test_the_fit_recovers_the_share_of_unsolvable_problems() -> None:
    rng = np.random.default_rng(1)
    p = rng.beta(0.8, 1.5, 200_000) * (rng.random(200_000) > 0.2)
    counts = frame(10, rng.binomial(10, p))
    found = likeliest(counts)
    assert found.zero_inflated and weights_of(fits(counts))[1] > 0.999
    assert (found.a, found.b, found.never) == pytest.approx((0.8, 1.5, 0.2), rel=0.05)
    assert predict_coverage(found, counts, [10_000])["value"].item() == pytest.approx((p > 0).mean(), abs=0.01)


def test_predictions_for_new_problems_follow_the_closed_form() -> None:
    rng = np.random.default_rng(2)
    counts = frame(5, rng.binomial(5, rng.beta(0.3, 0.8, 5_000)))
    found = fit(counts)
    new = frame(0, np.zeros(300, dtype=int))
    for k in (1, 7, 100):
        expected = 1 - np.exp(betaln(found.a, found.b + k) - betaln(found.a, found.b))
        assert predict_coverage(found, new, [k])["value"].item() == pytest.approx(expected, rel=1e-9)
        kept = predict_kept(found, new, [k])["value"].item()
        assert kept == pytest.approx(300 * k * found.a / (found.a + found.b), rel=1e-9)
    # One of the unsolved pilot problems, by Bayes' rule on a fine grid of p.
    p = ((np.arange(200_000) + 0.5) / 200_000) ** (1 / found.a)  # evenly spaced in p^a, which removes the pole at 0
    density = (1 - p) ** (found.b + 4)
    missed = (density * (1 - p) ** 10).sum() / density.sum()
    assert solved_chance(found, [5], [0], 15)[0] == pytest.approx(1 - missed, abs=1e-5)


def test_predictions_up_to_the_size_of_the_pilot_are_exact() -> None:
    counts = frame(4, np.array([0, 1, 2, 4, 0, 3]))
    table = predict_coverage(fits(counts), counts, [2, 4])
    assert table["value"].to_list() == pytest.approx([(1 / 2 + 5 / 6 + 1 + 1) / 6, 4 / 6])
    at = table.row(1, named=True)
    assert at["low"] == pytest.approx(at["high"])
    assert predict_kept(fits(counts), counts, [4]).row(0)[1:4] == pytest.approx((10, 10, 10))


@pytest.mark.parametrize(
    ("problems", "samples", "repetitions", "worst"),
    # 500 problems do not determine the parameters to one point on MATH; the paper's 7,500 do.
    [(500, 5, 120, 2.5), (7_500, 3, 120, 1.0)],
)
def test_predictions_hold_for_simulated_problems_at_3_and_10_times_the_pilot(
    problems: int, samples: int, repetitions: int, worst: float
) -> None:
    """Compared with the count of the same problems after the purchase; errors in points, for the worst of four
    pairs."""
    held: dict[int, list[bool]] = {3: [], 10: []}
    kept_held = []
    for a, b in PAIRS:
        rng = np.random.default_rng(3)
        errors: dict[int, list[float]] = {3: [], 10: []}
        for _ in range(repetitions):
            p = rng.beta(a, b, problems)
            correct = rng.binomial(samples, p)
            counts = frame(samples, correct)
            found = fits(counts)
            after, have = correct, samples
            for times in (3, 10):
                k = times * samples
                after, have = after + rng.binomial(k - have, p), k
                truth = (after > 0).mean()
                _, value, low, high, _ = predict_coverage(found, counts, [k]).row(0)
                errors[times].append(100 * abs(value - truth))
                held[times].append(low <= truth <= high)
            low, high = predict_kept(found, counts, [k]).select("low", "high").row(0)
            kept_held.append(low <= after.sum() <= high)
        print(problems, samples, (a, b), {times: round(float(np.mean(all_)), 2) for times, all_ in errors.items()})
        assert max(np.mean(errors[3]), np.mean(errors[10])) <= worst
    rates = [float(np.mean(one)) for one in (held[3], held[10], kept_held)]
    print("held", np.round(rates, 3))
    assert min(rates) >= 0.85 and max(rates) <= 0.95


def test_predictions_from_two_of_eight_public_maths_samples_hold(public_data: Path) -> None:
    """100 problems, 200 random pilots of 2: mean error 1.2 points; the log-log line 1.2."""
    text = (public_data / "qwen_math_cot_100" / "math_cot_100.jsonl").read_text(encoding="utf-8")
    correct = np.array([json.loads(line)["score"] for line in text.splitlines()]).sum(axis=1)
    ours, line, held = pilots(correct, 8, 2, 200)
    assert ours == pytest.approx(1.2, abs=0.25) and line == pytest.approx(1.2, abs=0.25)
    assert held >= 0.85


@pytest.mark.parametrize(
    ("model", "error", "baseline", "rate"),
    [
        ("Llama-3.1-8B-Instruct", 2.4, 2.0, 0.25),
        ("Llama-3.1-70B-Instruct", 0.4, 0.4, 0.98),
        ("Qwen2.5-7B-Instruct", 1.5, 1.8, 0.86),
        ("Qwen2.5-72B-Instruct", 1.2, 1.6, 0.70),
        ("Yi-Coder-9B-Chat", 0.8, 0.6, 0.99),
    ],
)
def test_predictions_from_ten_of_a_hundred_public_code_samples_hold(
    public_data: Path, model: str, error: float, baseline: float, rate: float
) -> None:
    """118 tasks. 100 samples of Llama 8B leave one task unsolved, the predictions say four: an error of 2.4 points,
    mostly outside the interval; the error of the log-log line is 2.0."""
    tasks = json.loads((public_data / "evalperf" / f"{model}.json").read_text(encoding="utf-8"))["eval"]
    correct = np.array([round(one["pass@1"]) for one in tasks.values()])
    ours, line, held = pilots(correct, 100, 10, 100)
    assert ours == pytest.approx(error, abs=0.35) and line == pytest.approx(baseline, abs=0.35)
    assert held == pytest.approx(rate, abs=0.12)


def pilots(correct: np.ndarray, n: int, few: int, repetitions: int) -> tuple[float, float, float]:
    """Mean error in points of the prediction and of the log-log line at n, and the coverage of the interval."""
    rng = np.random.default_rng(0)
    truth, rows = (correct > 0).mean(), []
    for _ in range(repetitions):
        counts = frame(few, rng.hypergeometric(correct, n - correct, few))
        _, value, low, high, _ = predict_coverage(fits(counts), counts, [n]).row(0)
        line = log_log_line(counts, n)
        rows.append((100 * abs(value - truth), 100 * abs(line - truth), low <= truth <= high))
    found = np.mean(np.array(rows, dtype=float), axis=0)
    print(np.round(found, 3))
    return float(found[0]), float(found[1]), float(found[2])


def test_the_interval_is_wide_if_nothing_and_narrow_if_everything_is_solved() -> None:
    none, every = frame(4, np.zeros(500, dtype=int)), frame(4, np.full(500, 4))
    near, far = predict_coverage(fits(none), none, [12, 1000]).rows(named=True)
    assert 0 < near["value"] < 0.01 < near["high"] < 0.05
    assert far["low"] < 0.02 and far["high"] > 0.2
    assert predict_coverage(fits(every), every, [40]).row(0) == (40, 1.0, 1.0, 1.0, 500)
    kept = predict_kept(fits(every), every, [40]).row(0, named=True)
    assert 0.99 * 20_000 < kept["low"] < kept["value"] < kept["high"] <= 20_000


def test_the_log_log_line_extrapolates_a_power_law_exactly() -> None:
    """Two samples give two points, which determine the line."""
    counts = frame(2, np.array([0, 0, 1, 2]))
    first, second = 0.375, 0.5
    slope = (np.log(-np.log(second)) - np.log(-np.log(first))) / np.log(2)
    expected = np.exp(-np.exp(np.log(-np.log(first)) + slope * np.log(16)))
    assert log_log_line(counts, 16) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (frame(4, np.array([1])), "1 problems have samples"),
        (frame(1, np.array([0, 1, 1])), "estimating their spread needs 2"),
        (frame(2, np.array([0, 3])), "c = 3 of n = 2"),
        (frame(2, np.array([0, 1])).drop("n"), "column 'n' is missing"),
        (frame(0, np.array([], dtype=int)), "0 problems have samples"),
    ],
)
def test_invalid_counts_are_refused(counts: pl.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fits(counts)
