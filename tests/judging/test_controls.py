"""The draw of controls, and the pooling of controls of several sets."""

from __future__ import annotations

import polars as pl
import pytest

from cos_assets.judging.controls import controls_of, draw_controls
from cos_assets.metrics.controls import REFERENCE, WRONG_ANSWER

PROBLEMS = pl.DataFrame(
    {
        "problem_id": [f"p{i}" for i in range(40)],
        "solution": [None if i % 4 == 0 else "  " if i % 4 == 1 else f"solution {i}" for i in range(40)],
    }
)


def samples(seed: int) -> pl.DataFrame:
    verdicts = ["wrong", "correct", "no_answer", "grader_error", None]
    rows = [(f"p{i}", k, f"{seed} {i} {k}", verdicts[(i + k + seed) % 5]) for i in range(40) for k in range(5)]
    columns = {"problem_id": pl.String, "sample_index": pl.Int32, "completion": pl.String, "verdict": pl.String}
    return pl.DataFrame(rows, schema=columns, orient="row")


def test_controls_are_reference_solutions_and_wrong_answers() -> None:
    drawn = draw_controls(samples(0), PROBLEMS, 15, seed=3)
    references, wrong = (drawn.filter(control=kind) for kind in (REFERENCE, WRONG_ANSWER))
    assert references.height == wrong.height == 15
    solutions = dict(PROBLEMS.iter_rows())
    assert all(
        solutions[p] == text and text.strip() for p, text in references.select("problem_id", "completion").rows()
    )
    assert references["sample_index"].null_count() == references["correct"].null_count() == 15
    graded = wrong.join(samples(0), on=["problem_id", "sample_index"])
    assert set(graded["verdict"]) == {"wrong"} and not wrong["correct"].any()
    assert wrong["problem_id"].n_unique() == 15, "each problem is drawn once before any is drawn twice"


def test_references_are_shared_and_a_larger_draw_contains_a_smaller_one() -> None:
    one, other, fewer = (draw_controls(samples(s), PROBLEMS, n, seed=3) for s, n in ((0, 15), (1, 15), (0, 5)))
    of = pl.col("control") == REFERENCE
    assert one.filter(of).equals(other.filter(of))
    assert fewer.join(one, on=["problem_id", "control", "completion"], how="anti").is_empty()
    assert not one.filter(of).equals(draw_controls(samples(0), PROBLEMS, 15, seed=4).filter(of))


@pytest.mark.parametrize("count", [0, 50])
def test_controls_are_limited_by_the_available_solutions(count: int) -> None:
    ungraded = samples(0).with_columns(verdict=pl.lit(None, pl.String))
    assert draw_controls(ungraded, PROBLEMS, count, 0)["control"].to_list() == [REFERENCE] * min(count, 20)
    unsolved = PROBLEMS.with_columns(solution=pl.lit(None, pl.String))
    assert draw_controls(samples(0), unsolved, count, 0)["control"].to_list() == [WRONG_ANSWER] * min(count, 40)
    assert draw_controls(samples(0).clear(), PROBLEMS.clear(), count, 0).is_empty()


def test_each_control_counts_once_when_sets_are_pooled() -> None:
    shape = {"budget": pl.String, "model": pl.String, "problem_id": pl.String, "sample_index": pl.Int32}
    shape |= {"control": pl.String, "judge": pl.String, "wrong_reasoning": pl.Boolean}
    rows = [
        ("low", "wc", "p1", None, REFERENCE, "j", None),  # the request failed and was repeated for the next set
        ("high", "se", "p1", None, REFERENCE, "j", False),
        ("low", "wc", "p1", 0, WRONG_ANSWER, "j", True),
        ("high", "wc", "p1", 0, WRONG_ANSWER, "j", True),
        ("low", "se", "p1", 0, WRONG_ANSWER, "j", False),
        ("low", "se", "p1", 0, WRONG_ANSWER, "other", False),
        ("low", "se", "p1", 0, None, "j", True),
    ]
    table = pl.DataFrame(rows, schema=shape, orient="row")
    assert sorted(controls_of(table, "j").rows()) == [
        ("p1", REFERENCE, False),
        ("p1", WRONG_ANSWER, False),
        ("p1", WRONG_ANSWER, True),
    ]
    early = table.with_columns(control=pl.lit(None, pl.String))
    assert controls_of(early, "j").is_empty(), "a table of an earlier version has none"
