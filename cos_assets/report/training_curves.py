"""Training curves: loss and validation accuracy over the steps, of one checkpoint and of a whole study."""

from __future__ import annotations

from typing import Any

import polars as pl

from cos_assets.report.figures import COLOURS, GREY, canvas, colour, legend
from cos_assets.study import StudySpec

_LOSS, _ACCURACY = "loss, nats per completion token", "validation accuracy, %"


def of_checkpoint(rows: pl.DataFrame) -> Any:
    """Draw the loss and, if there is any, the validation accuracy of one target on one source's data.

    There is one line per learning rate and seed. A ring marks the kept checkpoint. `rows` are those of the
    checkpoint's table, one per seed.
    """
    points = _points(rows)
    shown = [("loss", _LOSS, 1)]
    if points["validation_accuracy"].count():
        shown.append(("validation_accuracy", _ACCURACY, 100))
    rates = points["learning_rate"].unique().sort().to_list()
    with canvas(1, len(shown), 3.6 * len(shown), 2.6) as (figure, axes):
        for axis, (column, title, scale) in zip(axes[0], shown, strict=True):
            for (rate, _), line in points.group_by("learning_rate", "seed", maintain_order=True):
                known = line.filter(pl.col(column).is_not_null())
                paint = COLOURS[rates.index(rate) % len(COLOURS)]
                axis.plot(known["step"], known[column] * scale, color=paint, marker="o", markersize=4)
            kept = points.filter(pl.col("kept"), pl.col(column).is_not_null())
            axis.plot(kept["step"], kept[column] * scale, "o", markersize=11, fillstyle="none", color=GREY)
            axis.set_title(title)
            axis.set_xlabel("step")
            axis.set_xlim(left=0)
            if column == "loss":
                axis.set_ylim(0, 1.1 * (points["loss"].max() or 1))  # type: ignore[operator]
        legend(figure, [(_rate(rate), COLOURS[i % len(COLOURS)]) for i, rate in enumerate(rates)])
        return figure


def of_study(spec: StudySpec, rows: pl.DataFrame) -> Any:
    """Draw the curves of a study at the kept learning rates: a row per budget, a panel per target, a line per arm and
    seed.

    Shows validation accuracy, or the loss if nothing was validated.
    """
    points = _points(rows).filter(pl.col("learning_rate").eq_missing(pl.col("kept_rate")))
    validated = points["validation_accuracy"].count() > 0
    column, title, scale = ("validation_accuracy", _ACCURACY, 100) if validated else ("loss", _LOSS, 1)
    budgets = [budget for budget in spec.budgets if budget in set(points["budget"])]
    arms = [arm for arm in spec.arms if arm in set(points["source"])]
    height = 0.6 + 1.9 * len(budgets)
    with canvas(len(budgets), len(spec.targets), 8.6, height, sharey=True, sharex="row") as (figure, axes):
        for line_of_axes, budget in zip(axes, budgets, strict=True):
            for axis, target in zip(line_of_axes, spec.targets, strict=True):
                mine = points.filter(budget=budget, target=target)
                for (arm, _), line in mine.group_by("source", "seed", maintain_order=True):
                    known = line.filter(pl.col(column).is_not_null())
                    axis.plot(
                        known["step"], known[column] * scale, color=colour(spec, str(arm)), marker="o", markersize=4
                    )
                axis.set_title(f"{target}, {budget} budget")
                axis.set_xlim(left=0)
        figure.supylabel(title, fontsize=10)
        for axis in axes[-1]:
            axis.set_xlabel("step")
        legend(figure, [(arm, colour(spec, arm)) for arm in arms])
        return figure


def _rate(rate: float | None) -> str:
    return "learning rate of the API" if rate is None else f"learning rate {rate:g}"


def _points(rows: pl.DataFrame) -> pl.DataFrame:
    """Return one row per point of the curves, with the learning rate and step that were kept."""
    names = [name for name in ("budget", "source", "target", "seed") if name in rows.columns]
    points = (
        rows.select(*names, "curve", kept_rate="learning_rate", kept_step="chosen_step")
        .explode("curve")
        .unnest("curve")
        .sort("learning_rate", "step", maintain_order=True)
    )
    kept = pl.col("learning_rate").eq_missing(pl.col("kept_rate")) & (pl.col("step") == pl.col("kept_step"))
    return points.with_columns(kept=kept)
