from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cos_assets import tasks
from cos_assets.training.sft_sets import SCHEMA, SourceSpec, reference_set, sft_set

TASK = tasks.make({"name": "arithmetic", "train": 20, "validation": 1, "test": 1})
PROBLEMS = TASK.load().filter(pl.col("split") == "train")
IDS = PROBLEMS["problem_id"].to_list()
BOUGHT = {"wc": 3, "se": 1}


def world(correct: dict[tuple[str, str, int], bool] | None = None) -> dict[str, Any]:
    """Samples, verdicts and judgements of both models; correct unless `correct` says otherwise."""
    rows = [(m, p, i) for m, n in BOUGHT.items() for p in IDS for i in range(n)]
    samples = pl.DataFrame(
        rows, schema={"model": pl.String, "problem_id": pl.String, "sample_index": pl.Int32}, orient="row"
    )
    right = [(correct or {}).get(row, True) for row in rows]
    verdicts = samples.with_columns(correct=pl.Series(right))
    return {
        "samples": samples.with_columns(
            completion=pl.format("{} wrote {} of {}", "model", "sample_index", "problem_id"),
            reasoning=pl.lit(None, pl.String),
            messages=pl.lit(None, pl.String),
            finish_reason=pl.lit("stop"),
        ),
        "verdicts": verdicts,
        "judgements": verdicts.filter("correct").with_columns(
            label=pl.lit("right"), judge=pl.lit("steps"), flops=0.0, cost=0.0
        ),
    }


def make(
    source: dict[str, Any],
    given: dict[str, Any] | None = None,
    verification: str = "answer",
    seed: int = 0,
    judges: tuple[str, ...] = ("steps",),
) -> Any:
    spec, rest = SourceSpec.model_validate(source), {"problems": PROBLEMS, "task": TASK, "seed": seed}
    return sft_set(spec, verification, BOUGHT, **(given or world()), **rest, judges=judges)


def test_the_arm_of_a_model_contains_all_its_correct_samples() -> None:
    wrong = {("wc", IDS[0], i): False for i in range(3)}
    rows, counts = make({"take": {"wc": 1.0}}, world(wrong))
    assert rows.schema == SCHEMA
    assert set(rows["model"]) == {"wc"}
    expected = {"taken": 60, "verified": 57, "distinct": 57, "rows": 57, "problems": 19, "kept_share": 57 / 60}
    assert counts == expected | {"kept_wrong_share": 0.0, "truncated": 0}
    assert IDS[0] not in rows["problem_id"]
    prompts = dict(zip(IDS, (TASK.prompt(p) for p in PROBLEMS.to_dicts()), strict=True))
    assert all(prompts[p] == text for p, text in rows.select("problem_id", "prompt").iter_rows())


def test_half_a_sample_per_problem_is_one_sample_for_half_the_problems() -> None:
    rows, counts = make({"take": {"se": 0.5, "wc": 0.5}})
    by_model = dict(rows["model"].value_counts().iter_rows())
    assert by_model == {"se": 10, "wc": 30}  # half of 20 x 1, half of 20 x 3: half of each budget
    assert counts["taken"] == 40
    again, _ = make({"take": {"se": 0.5, "wc": 0.5}})
    other, _ = make({"take": {"se": 0.5, "wc": 0.5}}, seed=1)
    assert again.equals(rows)
    assert not other.equals(rows)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_share_takes_its_share_of_the_samples(wc: float, se: float) -> None:
    wc, se = (wc, se) if wc + se <= 1 else (wc / (wc + se), se / (wc + se))
    _, counts = make({"take": {"wc": wc, "se": se}})
    assert abs(counts["taken"] - len(IDS) * (3 * wc + se)) <= 1  # rounded for each of two models


def test_a_number_of_samples_takes_that_many_per_problem() -> None:
    rows, _ = make({"samples": {"wc": 2}})
    assert sorted(set(rows["sample_index"])) == [0, 1]
    assert rows.height == 40


def test_more_samples_than_were_bought_are_refused() -> None:
    with pytest.raises(ValueError, match=r"samples\.se: 2 is more than the 1 samples per problem"):
        make({"samples": {"se": 2}})


def test_repeated_texts_are_kept_once_unless_deduplication_is_off() -> None:
    given = world()
    same = pl.when(pl.col("sample_index") < 2).then(pl.lit(" the  same\n")).otherwise(pl.lit("the same "))
    given["samples"] = given["samples"].with_columns(completion=same)
    assert make({"take": {"wc": 1}}, given)[0].height == 20
    assert make({"take": {"wc": 1}, "deduplicate": False}, given)[0].height == 60


def test_one_per_problem_keeps_the_first_correct_sample() -> None:
    rows, _ = make({"take": {"wc": 1}, "keep": "one_per_problem"}, world({("wc", IDS[0], 0): False}))
    assert rows.height == 20
    chosen = dict(rows.select("problem_id", "sample_index").iter_rows())
    assert chosen.pop(IDS[0]) == 1
    assert set(chosen.values()) == {0}


def test_verification_by_steps_requires_correct_reasoning() -> None:
    given = world()
    first = (pl.col("problem_id") == IDS[0]) & (pl.col("sample_index") == 0)
    label = pl.when(first).then(pl.lit("wrong")).otherwise(pl.lit("right"))
    given["judgements"] = given["judgements"].with_columns(label=label)
    assert make({"take": {"wc": 1}}, given)[0].height == 60
    assert make({"take": {"wc": 1}}, given, "answer+steps")[0].height == 59


def test_wrong_answers_are_kept_without_verification_and_failures_are_not() -> None:
    given = world({("wc", IDS[0], 0): False})
    failed = (pl.col("problem_id") == IDS[1]) & (pl.col("sample_index") == 0)
    reason = pl.when(failed).then(pl.lit("error")).otherwise("finish_reason")
    given["samples"] = given["samples"].with_columns(finish_reason=reason)
    assert make({"take": {"wc": 1}}, given, "none")[0].height == 59


def test_truncated_samples_are_marked_without_verification() -> None:
    given = world()
    was_cut = (pl.col("problem_id") == IDS[1]) & (pl.col("sample_index") < 2)
    empty = (pl.col("problem_id") == IDS[2]) & (pl.col("sample_index") == 0)
    given["samples"] = given["samples"].with_columns(
        finish_reason=pl.when(was_cut | empty).then(pl.lit("length")).otherwise("finish_reason"),
        completion=pl.when(empty).then(pl.lit(" \n")).otherwise("completion"),
    )
    rows, counts = make({"take": {"wc": 1}}, given, "none")
    assert counts["verified"] == rows.height == 59  # white space alone is not trained on
    assert counts["truncated"] == 2
    marked = rows.filter(finish_reason="length").select("problem_id", "sample_index").rows()
    assert marked == [(IDS[1], 0), (IDS[1], 1)]
    assert set(rows["finish_reason"]) == {"length", "stop"}


def reference(of: pl.DataFrame = PROBLEMS, **more: Any) -> Any:
    source = SourceSpec.model_validate({"reference_solutions": True, **more})
    return reference_set(source, TASK, of, 0)


def test_reference_solutions_come_from_the_problem_set() -> None:
    rows, counts = reference()
    assert rows.schema == SCHEMA
    assert rows["completion"].to_list() == PROBLEMS["solution"].to_list()
    assert rows["model"].null_count() == rows["finish_reason"].null_count() == rows.height == counts["rows"]
    without = PROBLEMS.with_columns(solution=pl.when(pl.col("problem_id") != IDS[0]).then("solution"))
    assert reference(without)[1] == {"distinct": 19, "rows": 19, "problems": 19}


def test_a_subset_of_problems_is_equal_for_every_arm_and_nested() -> None:
    half, counts = make({"take": {"wc": 1}, "problems": 0.5})
    assert counts["taken"] == 30
    chosen = set(half["problem_id"])
    assert len(chosen) == 10
    assert set(make({"samples": {"se": 1}, "problems": 10})[0]["problem_id"]) == chosen
    assert set(reference(problems=10)[0]["problem_id"]) == chosen
    assert set(make({"take": {"se": 1}, "problems": 4})[0]["problem_id"]) < chosen
    assert set(make({"take": {"se": 1}, "problems": 10}, seed=1)[0]["problem_id"]) != chosen
    _, counts = make({"take": {"wc": 0.5}, "problems": 10})
    assert counts["taken"] == 15, "a share refers to the samples of these problems"
    with pytest.raises(ValueError, match="problems: 21 is more than the 20 problems that are sampled"):
        make({"take": {"wc": 1}, "problems": 21})


def written(*texts: str) -> dict[str, Any]:
    """Tables with the given three solutions of wc for every problem."""
    given = world()
    index = pl.col("sample_index")
    text = (
        pl.when(index == 0).then(pl.lit(texts[0])).when(index == 1).then(pl.lit(texts[1])).otherwise(pl.lit(texts[2]))
    )
    given["samples"] = given["samples"].with_columns(completion=text)
    return given


LONG = "She buys four bags of nine apples and eats two of them , so 4 * 9 = 36 and 36 - 2 = 34 apples are left ."


@pytest.mark.parametrize(
    ("texts", "left"),
    [
        (["4 * 9 = 36 .", "We get 4 * 9 = 36 !", "9 * 4 = 35 ."], {True: 3, "exact": 3, "equations": 2, "near": 3}),
        (["No sum here", "Nor here", "No  sum here"], {False: 3, "exact": 2, "equations": 2, "near": 2}),
        ([LONG, LONG + " Yes", LONG.replace("*", "x").replace("-", "less")], {"exact": 3, "near": 2}),
        ([LONG, LONG.replace("She", "He"), LONG.upper()], {"exact": 3, "near": 1}),
    ],
)
def test_each_way_to_deduplicate_keeps_the_expected_rows(texts: list[str], left: dict[Any, int]) -> None:
    for how, count in left.items():
        rows, counts = make({"take": {"wc": 1}, "deduplicate": how}, written(*texts))
        assert rows.height == counts["distinct"] == 20 * count, how
        assert rows.filter(pl.col("problem_id") == IDS[0])["sample_index"][0] == 0


def test_near_duplicates_share_at_least_four_fifths() -> None:
    """12 words have 8 runs of 5; another last word changes one of them: 7 of 9 are shared, less than 0.8."""
    words = "a b c d e f g h i j k l"
    assert make({"take": {"wc": 1}, "deduplicate": "near"}, written(words, words[:-1] + "x", "z"))[0].height == 60
    words = "a b c d e f g h i j k l m"  # 8 of 10
    assert make({"take": {"wc": 1}, "deduplicate": "near"}, written(words, words[:-1] + "x", "z"))[0].height == 40


def test_a_cap_per_problem_keeps_the_first_correct_samples() -> None:
    rows, counts = make({"take": {"wc": 1}, "max_per_problem": 2}, world({("wc", IDS[0], 0): False}))
    assert set(rows.group_by("problem_id").len()["len"]) == {2}
    assert rows.filter(pl.col("problem_id") == IDS[0])["sample_index"].to_list() == [1, 2]
    assert rows.filter(pl.col("problem_id") != IDS[0])["sample_index"].max() == 1
    assert (counts["distinct"], counts["rows"]) == (59, 40)


def test_balanced_levels_have_equal_numbers_of_rows() -> None:
    levels = dict(PROBLEMS.select("problem_id", "level").iter_rows())
    rare = min(set(levels.values()), key=list(levels.values()).count)
    rows, _ = make({"take": {"wc": 1}, "balance": "level"})
    counts = rows["problem_id"].replace_strict(levels).value_counts()["count"]
    assert set(counts) == {3 * list(levels.values()).count(rare)} and len(counts) == len(set(levels.values()))
    assert rows.equals(make({"take": {"wc": 1}, "balance": "level"})[0])
    assert not rows.equals(make({"take": {"wc": 1}, "balance": "level"}, seed=1)[0])
    bare = PROBLEMS.with_columns(level=pl.lit(None, pl.String))
    with pytest.raises(ValueError, match="balance: level: 20 of 20 rows belong to problems without a level"):
        reference(bare, balance="level")


def test_a_number_of_rows_is_respected_and_nested() -> None:
    rows, _ = make({"take": {"wc": 1}, "rows": 30})
    fewer, _ = make({"take": {"wc": 1}, "rows": 10})
    assert (rows.height, fewer.height) == (30, 10)
    assert fewer.join(rows, on=fewer.columns, how="anti", nulls_equal=True).is_empty()
    assert make({"take": {"se": 1}, "rows": 30})[0].height == 20, "no more rows exist"
    assert reference(rows=7)[0].height == 7
