"""A judge's rate on the page: its errors, the source of its correction, and the reason for a missing rate."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cos_assets import report, study
from cos_assets.metrics.evaluated import SCHEMA as EVAL_METRICS
from cos_assets.report import judges

SPEC: dict[str, Any] = {
    "name": "judged",
    "task": "gsm8k",
    "models": {"wc": {"model": "./wc", "params": 1e9}, "se": {"model": "./se", "params": 3e9}},
    "budgets": {"low": {"se": 1}},
    "judge": {"judges": {"first": {"model": "./judge"}, "second": {"method": "steps"}}},
}
SHAPE = {"budget": pl.String, "model": pl.String, "problem_id": pl.String, "sample_index": pl.Int32}
SHAPE |= {"control": pl.String, "judge": pl.String, "correct": pl.Boolean, "weight": pl.Float64}
SHAPE |= {"wrong_reasoning": pl.Boolean}


def judged(judge: str, wrong: int, unread: int, alarms: int, caught: int) -> pl.DataFrame:
    """100 samples of each model, 50 controls of each kind."""
    rows: list[tuple[Any, ...]] = []
    for model in ("wc", "se"):
        for i in range(100):
            label = None if i < unread else i < unread + wrong
            rows.append(("low", model, f"p{i}", 0, None, judge, True, 1.0, label))
        for i in range(50):
            rows.append(("low", model, f"p{i}", None, "reference", judge, None, None, i < alarms))
            rows.append(("low", model, f"p{i}", 1, "wrong_answer", judge, False, None, i < caught))
    return pl.DataFrame(rows, schema=SHAPE, orient="row")


def tables(first: pl.DataFrame, second: pl.DataFrame | None = None) -> dict[str, pl.DataFrame]:
    verdicts = [
        ("low", m, f"p{i}", k, "correct", True, "t", "e") for m in ("wc", "se") for i in range(100) for k in (0,)
    ]
    columns = ["budget", "model", "problem_id", "sample_index", "verdict", "correct", "text_key", "equations_key"]
    return {
        "problems": pl.DataFrame({"problem_id": [f"p{i}" for i in range(100)], "split": ["train"] * 100}),
        "verdicts": pl.DataFrame(verdicts, schema=columns, orient="row"),
        "judgements": first if second is None else pl.concat([first, second]),
    }


def build(given: dict[str, pl.DataFrame], **more: Any) -> report.Report:
    return report.build(study.parse(SPEC | more), given)


GOOD = judged("first", wrong=20, unread=10, alarms=5, caught=45)


def test_the_errors_of_a_judge_are_shown_with_its_rate() -> None:
    made = build(tables(GOOD, judged("second", wrong=3, unread=0, alarms=0, caught=50)))
    (row,) = made.comparisons.filter(metric="false_positive_rate").to_dicts()
    assert row["weak_value"] == pytest.approx(20 / 90)
    cells = {line[1:3]: line for line in judges.cells(study.parse(SPEC), _complete(GOOD))}
    line = cells["wc", "first"]
    assert line[3].startswith("22.2 % [") and line[4] == "10.0 % [4.2, 21.9]" and line[5].startswith("90.0 % [")
    # (20/90 + 0.9 - 1) / (0.9 + 0.9 - 1)
    assert line[6].startswith("15.3 % [") and line[7:] == ("its controls", "90 of 100")
    errors = (
        "The judge first on its controls: false alarms 10.0 % [4.2, 21.9], 5 of 50 reference solutions, recall 90.0 % ["
    )
    assert made.html.count(errors) == 2, "below the answer and below the judges"
    for text in (report.summary_text(made), made.summary_markdown):
        assert errors in text and "second on its controls: false alarms 0.0 %" in text


def _complete(judgements: pl.DataFrame) -> Any:
    from cos_assets.report.tables import complete

    return complete(tables(judgements))


@pytest.mark.parametrize(
    ("judgements", "why"),
    [
        (
            judged("first", wrong=20, unread=0, alarms=25, caught=27),
            "this judge cannot tell right from wrong (recall 54",
        ),
        (judged("first", wrong=9, unread=60, alarms=0, caught=50), "this judge could read 40 of 100 correct solutions"),
    ],
)
def test_the_reason_for_a_missing_rate_is_shown_in_every_output(judgements: pl.DataFrame, why: str) -> None:
    made = build(tables(judgements))
    assert made.comparisons.filter(metric="false_positive_rate").is_empty()
    said = f"first gives no false positive rate for wc at low, se at low: {why}"
    assert all(said in text for text in (made.html, report.summary_text(made), made.summary_markdown))
    assert "false positive rate, %" not in made.figures.get("quality", "")
    assert "<td>first</td><td>none</td>" in made.html


def test_a_missing_rate_of_one_model_gives_no_difference() -> None:
    silent = judged("first", wrong=9, unread=60, alarms=0, caught=50).filter(model="se")
    made = build(tables(pl.concat([judged("first", 20, 0, 0, 50).filter(model="wc"), silent])))
    assert made.comparisons.filter(metric="false_positive_rate").is_empty()
    assert "first gives no false positive rate for se at low: " in made.html and "20.0 % [" in made.html


def test_human_labels_take_precedence_over_controls() -> None:
    labelled = pl.DataFrame(
        [("first", f"p{i}", i < 20, i < 15) for i in range(60)],
        schema={"rater": pl.String, "problem_id": pl.String, "judge": pl.Boolean, "human": pl.Boolean},
        orient="row",
    )
    made = build(tables(GOOD) | {"labelled": labelled})
    assert "<td>people&#39;s labels</td>" in made.html and "<td>its controls</td>" not in made.html


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (
            pl.col("control").is_null(),
            "false alarms unknown (it could read no reference solutions), recall unknown (it could",
        ),
        (
            pl.col("control").eq_missing("wrong_answer").not_(),
            "recall unknown (it could read no samples with a wrong answer); 0 not read",
        ),
    ],
)
def test_missing_controls_are_reported(kept: pl.Expr, said: str) -> None:
    made = build(tables(GOOD.filter(kept)))
    assert said in made.html and "It is unknown whether it can tell right from wrong." in made.html
    assert not made.comparisons.filter(metric="false_positive_rate").is_empty()
    none = build(tables(GOOD.filter(pl.col("control").is_null())), judge={"controls": 0, **SPEC["judge"]})
    assert "The errors of the judge first are unknown, because judge.controls is 0." in none.html


def test_rates_of_finetuned_models_are_shown_with_the_step_checkers_errors() -> None:
    spec = SPEC | {"targets": {"wc": {}}, "finetune": {"steps": 1}, "evaluation": {"samples": 2}}
    names = {"budget": None, "source": "base", "target": "wc", "benchmark": "gsm8k", "level": None, "subject": None}
    rows = [
        names | {"metric": metric, "k": k, "value": value, "low": 0.0, "high": 1.0, "n_problems": 9, "n_seeds": 1}
        for metric, k, value in (
            ("accuracy", 1, 0.5),
            ("pass", 1, 0.5),
            ("pass", 2, 0.6),
            ("false_positive_rate", None, 0.25),
        )
    ]
    scored = {"eval_metrics": pl.DataFrame(rows, schema=EVAL_METRICS)}

    def page(steps: pl.DataFrame, **judge: Any) -> str:
        made = report.build(study.parse(spec | judge), tables(GOOD, steps) | scored)
        return made.html.partition("Several answers per problem")[2].partition("What the budget bought")[0]

    good = page(judged("second", 3, 0, 1, 40))
    assert "25.0 % [" in good and "second on its controls: false alarms 2.0 % [" in good
    poor = page(judged("second", 3, 0, 10, 12))
    assert (
        "25.0 % [" not in poor
        and "There is no false positive rate: this judge cannot tell right from wrong (recall 24.0" in poor
    )
    other = page(judged("second", 3, 0, 1, 40), judge={"model": "./judge"})
    assert "25.0 % [" in other and "The step checker has no controls, because" in other
