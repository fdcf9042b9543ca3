from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cos_assets import tasks
from cos_assets.study import SourceSpec
from cos_assets.training.sft_sets import SCHEMA, reference_set, sft_set

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


def test_a_models_own_arm_is_everything_it_bought_that_is_right() -> None:
    wrong = {("wc", IDS[0], i): False for i in range(3)}
    rows, counts = make({"take": {"wc": 1.0}}, world(wrong))
    assert rows.schema == SCHEMA
    assert set(rows["model"]) == {"wc"}
    expected = {"taken": 60, "verified": 57, "distinct": 57, "rows": 57, "problems": 19, "kept_share": 57 / 60}
    assert counts == expected | {"kept_wrong_share": 0.0}
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
def test_a_share_spends_its_share(wc: float, se: float) -> None:
    wc, se = (wc, se) if wc + se <= 1 else (wc / (wc + se), se / (wc + se))
    _, counts = make({"take": {"wc": wc, "se": se}})
    assert abs(counts["taken"] - len(IDS) * (3 * wc + se)) <= 1  # rounded for each of two models


def test_a_number_of_samples_is_that_number() -> None:
    rows, _ = make({"samples": {"wc": 2}})
    assert sorted(set(rows["sample_index"])) == [0, 1]
    assert rows.height == 40


def test_more_samples_than_were_bought_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"samples\.se: 2 samples per problem are asked for; this budget buys 1"):
        make({"samples": {"se": 2}})


def test_repeated_texts_are_kept_once_unless_told_otherwise() -> None:
    given = world()
    same = pl.when(pl.col("sample_index") < 2).then(pl.lit(" the  same\n")).otherwise(pl.lit("the same "))
    given["samples"] = given["samples"].with_columns(completion=same)
    assert make({"take": {"wc": 1}}, given)[0].height == 20
    assert make({"take": {"wc": 1}, "deduplicate": False}, given)[0].height == 60


def test_one_per_problem_is_the_first_that_is_right() -> None:
    rows, _ = make({"take": {"wc": 1}, "keep": "one_per_problem"}, world({("wc", IDS[0], 0): False}))
    assert rows.height == 20
    chosen = dict(rows.select("problem_id", "sample_index").iter_rows())
    assert chosen.pop(IDS[0]) == 1
    assert set(chosen.values()) == {0}


def test_verification_by_steps_wants_right_reasoning_too() -> None:
    given = world()
    first = (pl.col("problem_id") == IDS[0]) & (pl.col("sample_index") == 0)
    label = pl.when(first).then(pl.lit("wrong")).otherwise(pl.lit("right"))
    given["judgements"] = given["judgements"].with_columns(label=label)
    assert make({"take": {"wc": 1}}, given)[0].height == 60
    assert make({"take": {"wc": 1}}, given, "answer+steps")[0].height == 59


def test_without_verification_wrong_answers_stay_and_failures_do_not() -> None:
    given = world({("wc", IDS[0], 0): False})
    failed = (pl.col("problem_id") == IDS[1]) & (pl.col("sample_index") == 0)
    reason = pl.when(failed).then(pl.lit("error")).otherwise("finish_reason")
    given["samples"] = given["samples"].with_columns(finish_reason=reason)
    assert make({"take": {"wc": 1}}, given, "none")[0].height == 59


def test_reference_solutions_are_the_problem_sets_own() -> None:
    rows = reference_set(TASK, PROBLEMS)
    assert rows.schema == SCHEMA
    assert rows["completion"].to_list() == PROBLEMS["solution"].to_list()
    assert rows["model"].null_count() == rows.height
    without = PROBLEMS.with_columns(solution=pl.when(pl.col("problem_id") != IDS[0]).then("solution"))
    assert reference_set(TASK, without).height == 19


def test_a_judge_verifies_with_the_answer_or_without_it() -> None:
    """Of the first problem one sample has a wrong answer, which the judge does not see, and one a wrong reasoning."""
    given = world({("wc", IDS[0], 0): False})
    at = pl.col("problem_id") == IDS[0]
    labels = pl.when(at & (pl.col("sample_index") == 1)).then(pl.lit("wrong")).otherwise(pl.lit("right"))
    judged = given["verdicts"].with_columns(label=labels, judge=pl.lit("both"), flops=2.0, cost=0.5)
    voter = judged.with_columns(label=pl.lit("unreadable"), judge=pl.lit("one"))
    stranger = judged.with_columns(judge=pl.lit("stranger"), cost=100.0)
    given["judgements"] = pl.concat([judged, voter, stranger])
    judges = ("one", "both")
    rows, counts = make({"take": {"wc": 1}}, given, "judge", judges=judges)
    assert rows.height == 59 and 0 in rows.filter(at)["sample_index"]
    assert counts["kept_wrong_share"] == pytest.approx(1 / 59) and counts["kept_share"] == pytest.approx(59 / 60)
    assert (counts["verification_flops"], counts["verification_cost"]) == (240.0, 60.0), "its voters, not the others"
    rows, counts = make({"take": {"wc": 1}}, given, "answer+judge", judges=judges)
    assert rows.filter(at)["sample_index"].to_list() == [2] and counts["kept_wrong_share"] == 0
    given["judgements"] = given["judgements"].with_columns(cost=pl.lit(None, pl.Float64))
    assert make({"take": {"wc": 1}}, given, "judge", judges=judges)[1]["verification_cost"] is None


def test_a_vote_keeps_what_most_samples_of_a_problem_answer() -> None:
    """Answers of three samples each: a wrong majority, half against ½ against none, a tie, and right ones."""
    answers = {IDS[0]: ["7", "7", "5"], IDS[1]: ["0.5", "1/2", "3"], IDS[2]: ["1", "2", "3"], IDS[3]: ["4", None, None]}
    given = world({("wc", IDS[0], 0): False, ("wc", IDS[0], 1): False})
    answer = [answers.get(p, ["9"] * 3)[i] for p, i in given["verdicts"].select("problem_id", "sample_index").rows()]
    given["verdicts"] = (
        given["verdicts"]
        .with_columns(answer=pl.Series(answer, dtype=pl.String))
        .with_columns(
            verdict=pl.when(pl.col("answer").is_null())
            .then(pl.lit("no_answer"))
            .otherwise(pl.when("correct").then(pl.lit("correct")).otherwise(pl.lit("wrong")))
        )
    )
    rows, counts = make({"take": {"wc": 1}}, given, "vote")
    kept = {p: rows.filter(pl.col("problem_id") == p)["sample_index"].to_list() for p in IDS[:5]}
    assert kept == {IDS[0]: [0, 1], IDS[1]: [0, 1], IDS[2]: [], IDS[3]: [0], IDS[4]: [0, 1, 2]}
    assert counts["tied_problems"] == 1
    assert counts["kept_wrong_share"] == pytest.approx(2 / rows.height)
    right = given["verdicts"].with_columns(correct=~pl.col("correct"))
    blind = right.with_columns(
        verdict=pl.col("verdict").replace({"correct": "wrong", "wrong": "correct"})  # the gold answers are others
    )
    assert make({"take": {"wc": 1}}, {**given, "verdicts": blind}, "vote")[0].equals(rows)
