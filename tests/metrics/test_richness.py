"""Distinct correct solutions after a pilot: the Pitman-Yor fit against simulated problems."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from cos_assets.metrics.diversity import diversity
from cos_assets.metrics.prediction import fits, further_correct
from cos_assets.metrics.richness import fit_novelty, predict_distinct


def simulated(problems: int, samples: int, theta: float, sigma: float, seed: int) -> pl.DataFrame:
    """Samples of problems with Beta(0.8, 0.6) success; correct ones follow the Chinese restaurant of (theta, sigma)."""
    rng = np.random.default_rng(seed)
    rows = []
    for problem in range(problems):
        p, tables = rng.beta(0.8, 0.6), []
        for index in range(samples):
            if correct := bool(rng.random() < p):
                new = (theta + sigma * len(tables)) / (theta + sum(tables)) if tables else 1.0
                if rng.random() < new:
                    tables.append(1)
                    at = len(tables) - 1
                else:
                    weights = np.array(tables) - sigma
                    at = int(rng.choice(len(tables), p=weights / weights.sum()))
                    tables[at] += 1
            rows.append((problem, index, correct, f"way {at}" if correct else None))
    return pl.DataFrame(rows, schema=["problem_id", "sample_index", "correct", "key"], orient="row")


def counts(samples: pl.DataFrame) -> pl.DataFrame:
    return samples.group_by("problem_id").agg(n=pl.len(), c=pl.col("correct").sum())


@pytest.mark.parametrize(("theta", "sigma"), [(1.0, 0.2), (0.3, 0.6), (-0.1, 0.4)])
def test_the_fit_recovers_the_parameters(theta: float, sigma: float) -> None:
    found = fit_novelty(simulated(1500, 12, theta, sigma, seed=3))
    assert found.theta == pytest.approx(theta, abs=0.2) and found.sigma == pytest.approx(sigma, abs=0.1)


@pytest.mark.parametrize(("theta", "sigma"), [(1.0, 0.2), (0.3, 0.6)])
def test_the_interval_covers_the_later_count(theta: float, sigma: float) -> None:
    """400 problems, 4 samples each, predicted at 3 and 8 times as many; 10 seeds."""
    held, errors = [], []
    for seed in range(10):
        full = simulated(400, 32, theta, sigma, seed)
        pilot = full.filter(pl.col("sample_index") < 4)
        told = predict_distinct(fits(counts(pilot)), pilot, [12, 32])
        truth = diversity(full, [12, 32], keys={"x": "key"}).filter(distinct="x", denominator="all")["value"]
        held += ((told["low"] <= truth) & (truth <= told["high"])).to_list()
        errors += ((told["value"] - truth).abs() / truth).to_list()
    assert np.mean(errors) < 0.05
    assert np.mean(held) >= 0.75


def test_predictions_up_to_the_size_of_the_pilot_are_exact() -> None:
    samples = simulated(30, 8, 0.5, 0.5, seed=1)
    told = predict_distinct(fits(counts(samples)), samples, [1, 3, 8])
    truth = diversity(samples, [1, 3, 8], keys={"x": "key"}).filter(distinct="x", denominator="all")
    assert told["value"].to_list() == pytest.approx(truth["value"].to_list())
    assert told["low"].to_list() == pytest.approx(told["value"].to_list()), "counted values have no interval"


def test_predictions_without_solved_problems_use_the_prior_alone() -> None:
    samples = pl.DataFrame(
        {"problem_id": [0, 0, 1, 1], "sample_index": [0, 1, 0, 1], "correct": [False] * 4, "key": [None] * 4},
        schema_overrides={"key": pl.String},
    )
    assert fit_novelty(samples) == pytest.approx((0.5, 0.5))
    told = predict_distinct(fits(counts(samples)), samples, [2, 4])
    assert told["value"][0] == 0 and 0 < told["value"][1] < 2
    assert predict_distinct(fits(counts(samples)), samples.clear(), [2])["value"].to_list() == [None]


def test_further_correct_samples_are_beta_binomial() -> None:
    rng = np.random.default_rng(0)
    found = fits(pl.DataFrame({"problem_id": range(500), "n": 4, "c": rng.binomial(4, rng.beta(0.5, 1.0, 500))}))
    chances = further_correct(found[0], [4, 4, 6], [0, 3, 2], 6)
    assert chances.shape == (3, 3) and chances.sum(axis=1) == pytest.approx(1)
    assert chances[2].tolist() == [1, 0, 0], "every solution is counted"
    p = rng.beta(found[0].a + 3, found[0].b + 1, 1_000_000)
    drawn = np.bincount(rng.binomial(2, p), minlength=3) / p.size
    assert chances[1] == pytest.approx(drawn, abs=2e-3)
