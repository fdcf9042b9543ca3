"""Comparison of published numbers with a study's own."""

from __future__ import annotations

import polars as pl
import pytest
from test_report import PLAN, SPEC, simulated

from cos_assets import report, study
from cos_assets.report import published_comparison

PUBLISHED = {
    "origin": "a paper",
    "coverage": {"low": {"wc": 43.1, "se": 32.6}},
    "diversity": {"low": {"wc": 1.85}},
    "accuracy": {"low": {"wc": {"student": 28.2}, "gt": {"wc": 36.4}}},
}
GIVEN = SPEC.model_dump(mode="json", exclude_defaults=True) | {"task": "arithmetic"}


def test_published_numbers_are_compared_with_the_studys_own() -> None:
    spec = study.parse(GIVEN | {"published": PUBLISHED})
    tables = simulated({"wc": 0.5, "se": 0.6}, {"wc": 0.2, "se": 0.1}, {"wc": 0.6, "se": 0.5, "gt": 0.4, "base": 0.3})
    curve = {"budget": "low", "model": "wc", "metric": "coverage", "level": None, "distinct": None, "denominator": None}
    points = pl.DataFrame([curve | {"k": k, "value": v, "low": v, "high": v} for k, v in ((1, 0.5), (6, 0.75))])
    tables = {**tables, "budget_plan": PLAN, "sample_metrics": points}
    compared = report.compare.comparisons(spec, tables)
    lines = list(
        published_comparison.cells(spec, report.complete(tables), compared, report.compare.accuracies(spec, tables))
    )
    by_name = {line[1:3]: line for line in lines}
    covered = compared.filter(metric="coverage").row(0, named=True)
    limits = f"[{100 * covered['weak_low']:.1f}, {100 * covered['weak_high']:.1f}]"
    shown = ("43.1 %", f"{100 * covered['weak_value']:.1f} %", limits)
    assert by_name["coverage", "wc"] == ("low", "coverage", "wc", *shown)
    # Of 6 samples half are correct, on 3/4 of the problems: 6 · 0.5 / 0.75 correct ones each.
    assert by_name["correct solutions per solved problem, repeats included", "wc"][3:] == ("1.85", "4.00", "–")
    assert by_name["accuracy of student", "wc"][3] == "28.2 %" and by_name["accuracy of student", "wc"][4] != "–"
    assert by_name["accuracy of wc", "gt"][3] == "36.4 %"
    missing = published_comparison.cells(
        spec, report.complete({}), compared.clear(), report.compare.accuracies(spec, {})
    )
    assert {line[4:] for line in missing} == {("–", "–")}
    page = report.build(spec, tables).html
    assert "task: arithmetic" in page
    assert "Comparison with published results" in page and "a paper" in page
    assert "Comparison with published results" not in report.build(SPEC, tables).html


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"coverage": {"huge": {"wc": 1}}},
            r"published\.coverage\.huge: 'huge' is not a name of this study; allowed: low",
        ),
        (
            {"coverage": {"low": {"gt": 1}}},
            r"published\.coverage\.low\.gt: 'gt' is not a name of this study; allowed: wc, se",
        ),
        (
            {"accuracy": {"low": {"wc": {"se": 1}}}},
            r"accuracy\.low\.wc\.se: 'se' is not a name of this study; allowed: student, wc",
        ),
        ({"coverage": {"low": {"wc": 101}}}, r"published\.coverage\.low\.wc: 101"),
    ],
)
def test_a_published_number_without_a_counterpart_is_refused(change: dict, message: str) -> None:
    with pytest.raises(study.StudyError, match=message):
        study.parse(GIVEN | {"published": PUBLISHED | change})
