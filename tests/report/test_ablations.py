"""Data arms compared with the samplers' own data, on simulated answers with a known truth."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import polars as pl
import pytest

from cos_assets import report, study
from cos_assets.metrics.differences import crossed_difference
from cos_assets.metrics.intervals import crossed_interval
from cos_assets.report import ablations, figures
from cos_assets.study import StudySpec

PROBLEMS = 400
TARGETS = ("student", "wc")
TRUTH = {"wc": 0.6, "se": 0.62, "wc_quarter": 0.45, "se_quarter": 0.55, "mix": 0.62, "gt": 0.75}
QUARTER = {"problems": 0.25, "verification": "none"}


def spec(**more: Any) -> StudySpec:
    return study.parse(
        {
            "name": "simulated",
            "task": "arithmetic",
            "models": {"wc": {"model": "./wc"}, "se": {"model": "./se"}},
            "budgets": {"low": {"se": 2}},
            "sources": {
                "wc_quarter": {"take": {"wc": 1.0}, **QUARTER},
                "se_quarter": {"take": {"se": 1.0}, **QUARTER},
                "mix": {"take": {"wc": 0.5, "se": 0.5}},
                "gt": {"reference_solutions": True},
            },
            "targets": {"student": {"model": "./student"}, "wc": {}},
            "finetune": {"steps": 10},
        }
        | more
    )


def evals(seeds: int = 1, budget: str = "low") -> pl.DataFrame:
    """Greedy answers of every target after every arm, correct at the rates of `TRUTH`; problems are equally hard for
    all."""
    rng = np.random.default_rng(0)
    hard = rng.random(PROBLEMS)
    rows = []
    for source, truth in TRUTH.items():
        for target in TARGETS:
            for seed in range(seeds):
                score = 0.8 * hard + 0.2 * rng.random(PROBLEMS)
                right = score < np.quantile(score, truth)
                rows += [
                    (budget, source, target, "arithmetic", seed if seeds > 1 else None, 0.0, f"p{i:03d}", bool(yes))
                    for i, yes in enumerate(right)
                ]
    names = ["budget", "source", "target", "benchmark", "seed", "temperature", "problem_id", "correct"]
    return pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)


def by_problem(rows: pl.DataFrame, arm: str, target: str | None = None) -> np.ndarray:
    """[problems, seeds]: the mean of the targets."""
    mine = rows.filter(source=arm).filter(pl.col("target") == target if target else True)
    means = mine.group_by("problem_id", "seed").agg(pl.col("correct").mean()).sort("problem_id", "seed")
    return means["correct"].to_numpy().reshape(PROBLEMS, -1)


def test_equal_arms_of_the_two_models_are_paired() -> None:
    assert ablations.twins(spec()) == {"wc_quarter": "se_quarter"}
    sources = {
        "one": {"samples": {"wc": 2}},
        "two": {"samples": {"se": 2}},
        "three": {"samples": {"se": 2}, "deduplicate": "near"},
        "mix": {"take": {"wc": 0.5, "se": 0.25}},
        "turned": {"take": {"wc": 0.25, "se": 0.5}},
    }
    assert ablations.twins(spec(sources=sources)) == {"one": "two"}
    assert ablations.twins(spec(sources=sources, compare=["se", "wc"])) == {"two": "one"}
    assert ablations.twins(spec(models={"wc": {"model": "./wc"}}, budgets={"low": {"wc": 2}}, sources={})) == {}


@pytest.mark.parametrize("seeds", [1, 3])
def test_every_arm_is_compared_with_both_models_data_and_its_counterpart(seeds: int) -> None:
    rows = evals(seeds)
    found = ablations.table(spec(), {"evals": rows})
    assert found.schema == ablations.SCHEMA
    pairs = found.filter(target="all").select("arm", "reference").rows()
    wanted = [(arm, other) for arm in TRUTH for other in ("wc", "se") if arm != other]
    assert sorted(pairs) == sorted([*wanted, ("wc_quarter", "se_quarter")])
    assert set(found["target"]) == {*TARGETS, "all"} and set(found["n_problems"]) == {PROBLEMS}
    for row in found.to_dicts():
        target = None if row["target"] == "all" else row["target"]
        arm, other = (by_problem(rows, row[name], target) for name in ("arm", "reference"))
        assert (row["arm_value"], row["arm_low"], row["arm_high"]) == pytest.approx(crossed_interval(arm)[:3])
        assert row["reference_value"] == pytest.approx(crossed_interval(other).value)
        assert (row["difference"], row["low"], row["high"]) == pytest.approx(crossed_difference(arm, other)[:3])
    better = {(row["arm"], row["reference"]): row["better"] for row in found.filter(target="all").to_dicts()}
    assert better["gt", "se"] == "gt" and better["wc_quarter", "wc"] == "wc"
    assert better["wc_quarter", "se_quarter"] == "se_quarter" and better["mix", "se"] == "cannot tell"


def test_the_arms_of_a_single_model_are_compared_with_its_data() -> None:
    alone = spec(
        models={"wc": {"model": "./wc"}},
        budgets={"low": {"wc": 2}},
        sources={"gt": {"reference_solutions": True}},
    )
    found = ablations.table(alone, {"evals": evals()})
    assert set(found.select("arm", "reference").rows()) == {("gt", "wc")}
    assert "− wc data" in figures.svg(lambda: ablations.figure(alone, found))


def test_missing_tables_and_arms_give_no_rows() -> None:
    assert ablations.table(spec(), {}).is_empty()
    rows = evals().filter(pl.col("source") != "gt")
    assert "gt" not in set(ablations.table(spec(), {"evals": rows})["arm"])


def test_the_figure_labels_its_points() -> None:
    found = ablations.table(spec(), {"evals": evals()})
    left, right = ablations.figure(spec(), found).axes
    labels = dict(zip(left.get_yticks(), (label.get_text() for label in left.get_yticklabels()), strict=True))
    assert list(labels.values())[::-1] == ["wc data", "se data", "wc_quarter", "se_quarter", "mix", "gt"]
    means = {row["arm"]: row for row in found.filter(target="all").to_dicts()}
    points = {line.get_ydata()[0]: line.get_xdata()[0] for line in left.get_lines() if line.get_marker() == "o"}
    assert {labels[y].removesuffix(" data"): x for y, x in points.items()} == {
        arm: 100 * row["arm_value"] for arm, row in means.items()
    }
    drawn = [line for line in right.get_lines() if line.get_marker() == "o"]
    told = {(round(line.get_ydata()[0]), round(float(line.get_xdata()[0]), 6)) for line in drawn}
    rows = found.filter(target="all").to_dicts()
    places = {name.removesuffix(" data"): y for y, name in labels.items()}
    assert told == {(places[row["arm"]], round(100 * row["difference"], 6)) for row in rows}
    hollow = [line for line in drawn if line.get_markerfacecolor() == "white"]
    assert len(hollow) == sum(row["better"] == "cannot tell" for row in rows) > 0


def test_the_page_shows_the_ablations() -> None:
    evaluated = evals()
    verdicts = pl.DataFrame(
        {
            "budget": "low",
            "model": "wc",
            "problem_id": ["p000", "p001"],
            "sample_index": [0, 0],
            "correct": [True, False],
        }
    )
    rows = verdicts.select("budget", "model", "problem_id", "sample_index", source=pl.lit("wc_quarter"))
    tables = {"evals": evaluated, "verdicts": verdicts.with_columns(verdict=pl.lit("x")), "sft_set": rows}
    tables["ablations"] = ablations.table(spec(), tables)
    page = report.build(spec(), tables).html
    cells = [re.findall("<td>(.*?)</td>", line) for line in page.splitlines()]
    means = {(row["arm"], row["reference"]): row for row in tables["ablations"].filter(target="all").to_dicts()}
    to_twin = means["wc_quarter", "se_quarter"]
    (line,) = [line for line in cells if line[:2] == ["low", "wc_quarter"] and len(line) == 8]
    assert line[2:4] == ["2", "50.0%"]
    assert line[-1] == "{:+.1f} [{:+.1f}, {:+.1f}]".format(
        *(100 * to_twin[name] for name in ("difference", "low", "high"))
    )
    assert "<th>− wc</th><th>− se</th><th>− its twin</th>" in page
    assert "<dt>wc_quarter</dt><dd><code>take: {wc: 1.0}, verification: none, problems: 0.25</code></dd>" in page
    assert "of twenty arms" in page
    assert "of twenty arms" not in report.build(spec(), {"evals": evaluated}).html


def test_arms_from_the_samples_of_one_model_have_its_colour() -> None:
    paint = {arm: figures.colour(spec(), arm) for arm in spec().arms}
    assert paint["wc"] == paint["wc_quarter"] and paint["se"] == paint["se_quarter"]
    assert len(set(paint.values())) == 4
