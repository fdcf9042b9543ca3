from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from cos_assets.metrics.agreement import agreement, kappa


def pairs(table: dict[tuple[str, str], int]) -> pl.DataFrame:
    rows = [(a, b) for (a, b), n in table.items() for _ in range(n)]
    return pl.DataFrame([(str(i), a, b) for i, (a, b) in enumerate(rows)], ["problem_id", "a", "b"], orient="row")


def test_kappa_equals_the_value_computed_by_hand() -> None:
    """20 + 15 of 50 agree; the raters say yes 25 and 30 times: observed 0.7, by chance 0.5."""
    found = kappa(pairs({("y", "y"): 20, ("y", "n"): 5, ("n", "y"): 10, ("n", "n"): 15}))
    assert found.value == pytest.approx(0.4) and found.n == 50


def test_variance_with_one_sample_per_problem_is_that_of_fleiss_cohen_everitt() -> None:
    """Their formula for two categories, written out term by term."""
    counts = np.array([[40, 9], [6, 25]])
    p, n = counts / counts.sum(), counts.sum()
    row, column = p.sum(1), p.sum(0)
    observed, chance = np.trace(p), row @ column
    first = sum(p[i, i] * ((1 - chance) - (row[i] + column[i]) * (1 - observed)) ** 2 for i in range(2))
    second = sum(p[i, j] * (column[i] + row[j]) ** 2 for i in range(2) for j in range(2) if i != j)
    last = (observed * chance - 2 * chance + observed) ** 2
    variance = (first + (1 - observed) ** 2 * second - last) / (n * (1 - chance) ** 4)
    names = "rw"
    found = kappa(pairs({(names[i], names[j]): int(counts[i, j]) for i in range(2) for j in range(2)}))
    from scipy.stats import t

    half = t.ppf(0.975, n - 1) * np.sqrt(variance * n / (n - 1))
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))


def test_repeated_samples_of_a_problem_do_not_narrow_the_interval() -> None:
    once = pairs({("r", "r"): 20, ("r", "w"): 5, ("w", "r"): 4, ("w", "w"): 11})
    assert kappa(pl.concat([once] * 5)) == pytest.approx(kappa(once))


def test_the_interval_contains_the_true_value() -> None:
    """Two raters are correct with probability 0.85; three equal samples for each of 60 problems: 92.5 % in 400
    studies."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        truth, errors = rng.random((60, 1)) < 0.7, rng.random((2, 60, 3)) < 0.15
        a, b = (np.where(truth ^ e, "right", "wrong").ravel() for e in errors)
        found = kappa(pl.DataFrame({"problem_id": np.repeat(np.arange(60), 3).astype(str), "a": a, "b": b}))
        right = 0.7 * 0.85 + 0.3 * 0.15
        chance = right**2 + (1 - right) ** 2
        held += found.low <= (0.85**2 + 0.15**2 - chance) / (1 - chance) <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_full_agreement_has_an_interval_of_positive_width() -> None:
    found = kappa(pairs({("r", "r"): 10, ("w", "w"): 10}))
    assert found.value == found.high == 1 and 0.5 < found.low < 0.8


def test_kappa_is_undefined_if_both_raters_use_one_label() -> None:
    found = kappa(pairs({("r", "r"): 9}))
    assert np.isnan(found.value) and found.n == 9


def test_pairs_of_raters_have_a_confusion_table_and_undecided_counts() -> None:
    said = {
        "ann": ["right", "wrong", "unsure", "right"],
        "bob": ["right", "right", "right", None],
        "judge": ["wrong"] * 4,
    }
    rows = [
        ("wc", f"p{i}", 0, rater, label) for rater, labels in said.items() for i, label in enumerate(labels) if label
    ]
    frame = pl.DataFrame(rows, ["model", "problem_id", "sample_index", "rater", "label"], orient="row")
    table = agreement(frame, ["ann", "bob"])
    assert table.select("a", "b", "n_samples", "undecided").rows() == [
        ("ann", "bob", 2, 1),
        ("ann", "judge", 3, 1),
        ("bob", "judge", 3, 0),
    ]
    assert table.row(0)[-4:] == (1, 0, 1, 0)
    with pytest.raises(ValueError, match="occurs 2 times"):
        agreement(pl.concat([frame, frame.head(1)]), ["ann"])
