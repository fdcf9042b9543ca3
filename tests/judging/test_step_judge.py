from __future__ import annotations

import polars as pl

from cos_assets import tasks, tiny  # noqa: F401
from cos_assets.judging.steps import judge
from cos_assets.judging.table import SCHEMA, draw, of_judge
from cos_assets.judging.verdicts import verdicts

TASK = tasks.make({"name": "arithmetic", "train": 40, "validation": 1, "test": 1})
PROBLEMS = TASK.load().filter(pl.col("split") == "train")
KEYS = ["problem_id", "sample_index"]


def world() -> pl.DataFrame:
    """Three samples per problem: the gold solution, its answer without steps, and its answer after a false equation."""
    rows = []
    for problem in PROBLEMS.to_dicts():
        end = f"The answer is {problem['answer']} ."
        texts = [problem["solution"], end, f"1 + 1 = 3 . {problem['solution']}"]
        rows += [(problem["problem_id"], index, text, "stop") for index, text in enumerate(texts)]
    columns = ["problem_id", "sample_index", "completion", "finish_reason"]
    samples = pl.DataFrame(rows, schema=columns, orient="row").cast({"sample_index": pl.Int32})
    return samples.join(verdicts(samples, PROBLEMS, TASK).select(*KEYS, "correct"), on=KEYS)


def judged(count: int | None = None, seed: int = 0) -> pl.DataFrame:
    return judge(draw(world(), count, seed), PROBLEMS, TASK)


def test_every_correct_sample_gets_the_expected_label() -> None:
    frame = judged()
    assert frame.schema == SCHEMA and frame["correct"].all()
    labels = dict(frame.group_by("sample_index").agg(pl.col("label").unique()).iter_rows())
    assert labels == {0: ["right"], 1: ["unreadable"], 2: ["wrong"]}
    wrong = frame.filter(pl.col("label") == "wrong")
    assert set(wrong["first_wrong_step"]) == {1}
    assert frame.filter(pl.col("label") == "unreadable")["wrong_reasoning"].null_count() == 40
    assert set(frame["weight"]) == {1.0} and frame["flops"].sum() == frame["cost"].sum() == 0
    assert of_judge(frame, "steps").equals(frame) and of_judge(frame, "another").is_empty()


def test_a_larger_draw_contains_a_smaller_one() -> None:
    few, more = judged(10), judged(50)
    assert (few.height, more.height) == (10, 50)
    assert few.join(more, on=KEYS, how="anti").is_empty()
    assert not judged(10, seed=1).select(KEYS).equals(few.select(KEYS))
    assert judged(1000).equals(judged())


def test_a_draw_has_one_sample_of_each_problem_before_a_second() -> None:
    assert judged(40)["problem_id"].n_unique() == 40
    more = judged(50)
    sizes = more.group_by("problem_id").len()["len"]
    assert sorted(sizes) == [1] * 30 + [2] * 10
    # The weights of the drawn samples sum to three per problem.
    stood_for = more.group_by("problem_id").agg(pl.col("weight").sum())
    assert set(stood_for["weight"]) == {3.0}
    assert judged(60)["sample_index"].n_unique() == 3, "the sample of a problem is also drawn at random"


def test_problems_that_both_models_solved_are_judged_for_both() -> None:
    pool = world()
    one = pool.filter(pl.col("problem_id").hash(1) % 4 != 0)
    other = pool.filter(pl.col("problem_id").hash(2) % 4 != 0)
    both = set(one["problem_id"]) & set(other["problem_id"])
    a, b = (set(draw(side, 20, 0)["problem_id"]) for side in (one, other))
    order = draw(pool, 1, 0)
    ranks = {}
    for count in range(1, 41):
        for problem in draw(pool, count, 0)["problem_id"]:
            ranks.setdefault(problem, count)
    reach = min(max(ranks[p] for p in side) for side in (a, b))
    shared = {p for p in both if ranks[p] <= reach}
    assert order.height == 1 and len(shared) > 10
    assert shared <= a and shared <= b
