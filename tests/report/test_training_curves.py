"""Figures of training curves."""

from __future__ import annotations

import polars as pl
import pytest

from cos_assets.report import training_curves
from cos_assets.study import StudySpec, parse

STUDY = {
    "name": "s",
    "task": "arithmetic",
    "models": {"wc": {"model": "wc"}, "se": {"model": "se"}},
    "match": "number",
    "budgets": {"low": {"se": 1}, "high": {"se": 2}},
    "targets": {"student": {"model": "student"}, "wc": {}},
    "finetune": {"steps": 4, "learning_rate": [1e-3, 5e-4]},
}


def rows(validated: bool = True) -> pl.DataFrame:
    """Two learning rates, the second of which is kept at its first checkpoint; two seeds."""
    curve = [
        {"learning_rate": rate, "step": step, "loss": loss, "validation_accuracy": 0.2 if validated else None}
        for rate, losses in ((1e-3, (4.0, 3.0)), (5e-4, (2.0, 1.0)))
        for step, loss in zip((2, 4), losses, strict=True)
    ]
    one = {"budget": "high", "source": "wc", "target": "wc", "learning_rate": 5e-4, "chosen_step": 2, "curve": curve}
    return pl.DataFrame([one | {"seed": 0}, one | {"seed": 1}])


@pytest.fixture
def spec() -> StudySpec:
    return parse(STUDY)


def test_a_checkpoint_has_a_line_per_rate_and_seed_and_marks_the_kept_step() -> None:
    figure = training_curves.of_checkpoint(rows())
    loss, accuracy = figure.axes
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in loss.lines]
    assert lines[:4] == [([2, 4], [2.0, 1.0])] * 2 + [([2, 4], [4.0, 3.0])] * 2
    assert lines[4] == ([2, 2], [2.0, 2.0])
    assert list(accuracy.lines[-1].get_ydata()) == [20.0, 20.0]
    assert len(training_curves.of_checkpoint(rows(validated=False)).axes) == 1


def test_a_study_has_a_panel_per_target_and_budget(spec: StudySpec) -> None:
    figure = training_curves.of_study(spec, rows())
    assert [axis.get_title("left") for axis in figure.axes] == ["student, high budget", "wc, high budget"]
    assert [len(axis.lines) for axis in figure.axes] == [0, 2]
    assert list(figure.axes[1].lines[0].get_ydata()) == [20.0, 20.0]
    assert figure.get_supylabel() == "validation accuracy, %"
    assert training_curves.of_study(spec, rows(validated=False)).get_supylabel().startswith("loss")
