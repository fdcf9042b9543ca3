"""pass@k and maj@k of finetuned models on the page."""

from __future__ import annotations

import polars as pl
import pytest

from cos_assets import report
from cos_assets.metrics.evaluated import evaluation_metrics
from cos_assets.report import evaluated
from cos_assets.study import StudySpec, parse

PROBLEMS, DRAWS = 40, 4


@pytest.fixture
def spec() -> StudySpec:
    return parse(
        {
            "name": "s",
            "task": "arithmetic",
            "models": {"wc": {"model": "wc"}, "se": {"model": "se"}},
            "match": "number",
            "budgets": {"high": {"se": 2}},
            "targets": {"wc": {}, "se": {}},
            "finetune": {"steps": 4},
            "evaluation": {"samples": DRAWS, "pass_at": [1, 2, 4], "maj_at": [1, 4]},
        }
    )


@pytest.fixture
def table(spec: StudySpec) -> pl.DataFrame:
    """Every model answers correctly in greedy decoding and in draw 0; each later draw is a new wrong answer."""
    models = [("high", "wc"), ("high", "se"), (None, "base")]
    rows = [
        {"budget": budget, "source": source, "target": target, "benchmark": "arithmetic", "seed": None}
        | {"temperature": 1.0 if draw else 0.0, "problem_id": f"p{p}", "sample_index": max(draw - 1, 0)}
        | {"correct": (right := draw < 2 and p % 2 == 0), "answer_class": draw, "wrong_reasoning": right or None}
        for budget, source in models
        for target in spec.targets
        for p in range(PROBLEMS)
        for draw in range(DRAWS + 1)
    ]
    answers = pl.DataFrame(rows, schema_overrides={"seed": pl.Int64, "answer_class": pl.Int32, "budget": pl.String})
    groups = answers.select("benchmark", "problem_id", level=pl.lit("easy"), subject=pl.lit(None, pl.String)).unique()
    return evaluation_metrics(answers, groups, *spec.evaluation.ks)


def test_every_model_has_a_line_with_its_metrics(spec: StudySpec, table: pl.DataFrame) -> None:
    names = ["greedy", "pass@1", "pass@2", "pass@4", "maj@1", "maj@4", "false positives"]
    assert evaluated.head(table) == ["budget", "model", "finetuned on", "benchmark", *names]
    lines = list(evaluated.cells(spec, table))
    assert [line[:4] for line in lines] == [
        ("–", "wc", "untouched", "arithmetic"),
        ("–", "se", "untouched", "arithmetic"),
        *(("high", target, source, "arithmetic") for target in ("wc", "se") for source in ("wc", "se")),
    ]
    # Half of the problems have one correct draw of four: 1/4, 1/2 and 1 of them at k = 1, 2 and 4.
    starts = [cell.split(" %")[0] for cell in lines[0][4:]]
    assert starts == ["50.0", "12.5", "25.0", "50.0", "12.5", "12.5", "100.0"]


def test_the_page_contains_the_metrics_and_a_figure(spec: StudySpec, table: pl.DataFrame) -> None:
    made = report.build(spec, {"eval_metrics": table})
    assert "Several answers per problem" in made.html and "maj@k" in made.figures["evaluated"]
    figure = evaluated.figure(spec, table)
    assert [axis.get_title("left") for axis in figure.axes] == ["wc, high budget", "se, high budget"]
    assert [len(axis.lines) for axis in figure.axes] == [6, 6]
    assert "Several answers" not in report.build(spec, {}).html
