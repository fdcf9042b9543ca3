"""The report's figures as SVG text. They contain no script and use the reader's fonts; equal data gives equal bytes.

The colors are those of Okabe and Ito, which readers with any color vision can tell apart. Every line and point is
labeled beside it.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl

from cos_assets.report.compare import ALL_TARGETS, percent
from cos_assets.study import StudySpec

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#6b7280"
INK = "#111827"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cos",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": "#374151",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "xtick.color": "#4b5563",
    "ytick.color": "#4b5563",
    "text.color": INK,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
}
# Colors that a page's style may override by CSS variables. A standalone figure uses the colors themselves.
_THEMED = {"#111827": "--ink", "#374151": "--ink", "#4b5563": "--soft", "#6b7280": "--soft", "#9ca3af": "--line"} | {
    "#e5e7eb": "--grid",
    "#ffffff": "--paper",
}
_TICKS = [digit * 10.0**power for power in range(-3, 7) for digit in (1, 3)]
_METRICS = {
    "coverage": "coverage, %",
    "diversity": "distinct solutions per problem",
    "false_positive_rate": "false positive rate, %",
}


@contextmanager
def canvas(
    rows: int, columns: int, width: float, height: float, layout: Any = None, **more: Any
) -> Iterator[tuple[Any, Any]]:
    """Yield a figure in the project's style, and its axes [rows, columns].

    Width and height are in inches. `layout` is passed to matplotlib; by default it is that of the style.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout=layout)
        FigureCanvasAgg(figure)
        yield figure, figure.subplots(rows, columns, squeeze=False, **more)


@contextmanager
def _panels(count: int, height: float) -> Iterator[tuple[Any, list[Any]]]:
    """Yield a figure with one panel per budget, at most three in a row, with shared axes and labels at the left."""
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    with canvas(rows, columns, 8.6, height * rows, sharex=True, sharey=True) as (figure, axes):
        for spare in axes.flat[count:]:
            spare.set_axis_off()
        yield figure, list(axes.flat[:count])


def svg(draw: Callable[[], Any]) -> str:
    """Return the drawn figure as SVG text to embed in a page, whose theme it adopts (`_THEMED`)."""
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context(_STYLE):  # the salt of ids is used when the figure is saved
        draw().savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = out.getvalue()
    for paint, name in _THEMED.items():
        text = text.replace(f": {paint}", f": var({name}, {paint})")
    return text[text.index("<svg") :]


def colour(spec: StudySpec, source: str) -> str:
    """Return the color of a source. A sampler has its own color, which the arms made of its samples alone share."""
    others = [name for name, arm in spec.sources.items() if len(arm.models) != 1]
    names = [*spec.models, *others]
    named = spec.arms[source].models[0] if source in spec.sources and source not in others else source
    return COLOURS[names.index(named) % len(COLOURS)] if named in names else GREY


def answer(spec: StudySpec, compared: pl.DataFrame) -> Any:
    """Draw every paired difference with its interval against zero."""
    first = next(iter(spec.benchmarks))
    compared = compared.filter(pl.col("benchmark").is_null() | (pl.col("benchmark") == first))
    weak, strong = spec.pair or ("", "")
    shown = {key: name for key, name in _rows(spec).items() if compared.filter(_is(*key)).height}
    heights = {key: len(shown) - place for place, key in enumerate(shown)}
    with _panels(len(spec.budgets), 1.3 + 0.34 * max(len(shown), 3)) as (figure, axes):
        for axis, budget in zip(axes, spec.budgets, strict=True):
            axis.axvline(0, color=INK, linewidth=1)
            for key, y in heights.items():
                for row in compared.filter(_is(*key), pl.col("budget") == budget).to_dicts():
                    paint = {weak: colour(spec, weak), strong: colour(spec, strong)}.get(row["better"], GREY)
                    strongly = row["target"] == ALL_TARGETS
                    low, x, high = (100 * row[name] for name in ("low", "difference", "high"))
                    axis.plot([low, high], [y, y], color=paint, linewidth=3 if strongly else 1.6)
                    axis.plot([x], [y], "o", color=paint, markersize=7 if strongly else 5)
            axis.set_yticks(list(heights.values()), list(shown.values()))
            axis.set_ylim(0.4, len(shown) + 0.6)
            axis.set_title(f"{budget} budget")
            axis.grid(axis="y", visible=False)
        figure.supxlabel(
            f"{weak} data − {strong} data, percentage points, {percent(spec.confidence)} interval\n"
            f"left of zero {strong} was the better buy, right of it {weak}; grey: cannot tell",
            fontsize=10,
        )
        return figure


def _rows(spec: StudySpec) -> dict[tuple[str, str | None], str]:
    """Return (metric, target) -> label of each row of the answer figure, from the top."""
    rows: dict[tuple[str, str | None], str] = {("coverage", None): "coverage of the data"}
    rows |= {("accuracy", target): f"accuracy of {target}" for target in spec.targets}
    return rows | {("accuracy", ALL_TARGETS): "mean accuracy of the models"}


def _is(metric: str, target: str | None) -> pl.Expr:
    return (pl.col("metric") == metric) & pl.col("target").eq_missing(target)


def drawable(plan: pl.DataFrame, metrics: pl.DataFrame) -> bool:
    """Return whether `curves` has anything to show."""
    return bool(plan.join(metrics, on=["budget", "model"], how="semi").height)


def curves(spec: StudySpec, plan: pl.DataFrame, metrics: pl.DataFrame) -> Any:
    """Draw coverage@k and diversity@k over the cost of k samples, so that equal budgets have the same x.

    The curves are those of the largest budget that was sampled. The other budgets are marked where they end on the
    curves.
    """
    sampled = plan.join(metrics, on=["budget", "model"], how="semi")
    costs = pl.col("samples") * pl.col("unit_cost")
    largest = sampled.group_by("budget").agg(costs.max()).sort("samples", "budget")["budget"][-1]
    unit, reference = _reference(spec, plan, largest)
    shown = [
        ("coverage", None, None, "coverage@k, %", 100),
        ("diversity", "equations", "all", "distinct solutions per problem", 1),
    ]
    with canvas(1, 2, 8.6, 3.3) as (figure, axes):
        for axis, (metric, distinct, denominator, title, scale) in zip(axes[0], shown, strict=True):
            ends = []
            for model in spec.models:
                bought = plan.filter(pl.col("model") == model, pl.col("budget") == largest)
                rows = metrics.filter(
                    pl.col("model") == model,
                    pl.col("budget") == largest,
                    pl.col("metric") == metric,
                    pl.col("distinct").eq_missing(distinct),
                    pl.col("denominator").eq_missing(denominator),
                    pl.col("level").is_null(),
                    pl.col("value").is_not_null(),
                ).sort("k")
                if bought.is_empty() or rows.is_empty():
                    continue
                x = rows["k"] * (bought["unit_cost"].item() / unit)
                low, value, high = (rows[name] * scale for name in ("low", "value", "high"))
                paint = colour(spec, model)
                axis.fill_between(x, low, high, color=paint, alpha=0.15, linewidth=0)
                axis.plot(x, value, color=paint, linewidth=2, marker="o" if rows.height == 1 else None)
                ends.append((value[-1], x[-1], model, paint))
            axis.set_xscale("log")
            left, right = axis.get_xlim()
            ticks = [t for t in _TICKS if left * 0.99 <= t <= right * 1.01]
            axis.set_xticks(ticks, [f"{t:g}" for t in ticks], minor=False)
            axis.minorticks_off()
            # Before the labels are placed: they keep clear of one another in units of the axis.
            bottom, top = axis.set_ylim(0, axis.get_ylim()[1])
            heights = _apart([value for value, *_ in ends], 0.07 * (top - bottom))
            for y, (_, end, model, paint) in zip(heights, ends, strict=True):
                axis.annotate(f" {model}", (end, y), color=paint, va="center", fontweight="bold", annotation_clip=False)
            for budget in spec.budgets:
                samples = plan.filter(pl.col("budget") == budget, pl.col("model") == reference)["samples"]
                if samples.len() and left <= samples[0] <= right:
                    axis.axvline(samples[0], color=GREY, linewidth=1, linestyle=(0, (2, 3)), zorder=0)
                    over = {"xy": (samples[0], 0), "xycoords": ("data", "axes fraction")}
                    place = {"xytext": (-3, 4), "textcoords": "offset points", "ha": "right"}
                    axis.annotate(f"{budget} budget", **over, **place, fontsize=8.5, color=GREY)
            axis.set_xlabel(f"budget per problem, in samples of {reference}")
            axis.set_title(title)
        return figure


def at_levels(plan: pl.DataFrame, metrics: pl.DataFrame) -> pl.DataFrame:
    """Return [budget, model, level, value, low, high]: coverage by level over all samples that each budget bought."""
    bought = plan.select("budget", "model", k="samples")
    rows = metrics.filter(pl.col("metric") == "coverage", pl.col("level").is_not_null())
    found = rows.join(bought, on=["budget", "model", "k"], how="semi")
    return found.select("budget", "model", "level", "value", "low", "high").sort("level")


def levels(spec: StudySpec, rows: pl.DataFrame) -> Any:
    """Draw coverage by level of difficulty (see `at_levels`), one panel per budget."""
    names = rows["level"].unique().sort().to_list()
    budgets = [budget for budget in spec.budgets if rows.filter(budget=budget).height]
    with _panels(len(budgets), 2.6) as (figure, axes):
        for axis, budget in zip(axes, budgets, strict=True):
            for place, model in enumerate(spec.models):
                mine = rows.filter(budget=budget, model=model)
                x = [names.index(level) + 0.2 * (place - (len(spec.models) - 1) / 2) for level in mine["level"]]
                low, value, high = (100 * mine[name] for name in ("low", "value", "high"))
                axis.vlines(x, low, high, color=colour(spec, model), linewidth=2)
                axis.plot(x, value, "o", color=colour(spec, model), markersize=5)
            axis.set_xticks(range(len(names)), names)
            axis.set_ylim(0, 105)
            axis.set_title(f"{budget} budget: coverage by level, %")
            axis.grid(axis="x", visible=False)
        legend(figure, [(model, colour(spec, model)) for model in spec.models])
        return figure


def _apart(values: list[float], gap: float) -> list[float]:
    """Return `values` in their order, moved up where two are closer than `gap`."""
    placed: dict[int, float] = {}
    last = -math.inf
    for i in sorted(range(len(values)), key=lambda i: values[i]):
        last = placed[i] = max(values[i], last + gap)
    return [placed[i] for i in range(len(values))]


def quality(spec: StudySpec, compared: pl.DataFrame) -> Any:
    """Draw coverage, diversity and false positive rate of both sample sets at each budget, with intervals."""
    weak, strong = spec.pair or ("", "")
    found = [m for m in _METRICS if compared.filter(pl.col("metric") == m).height]
    with canvas(1, max(len(found), 1), 8.6, 2.9) as (figure, axes):
        for axis, metric in zip(axes[0], found, strict=False):
            scale = 1 if metric == "diversity" else 100
            top = 0.0
            for place, budget in enumerate(spec.budgets):
                rows = compared.filter(pl.col("metric") == metric, pl.col("budget") == budget).to_dicts()
                for row, (side, shift) in itertools.product(rows, (("weak", -0.13), ("strong", 0.13))):
                    low, value, high = (row[f"{side}_{name}"] * scale for name in ("low", "value", "high"))
                    if math.isnan(value):
                        continue
                    # A single problem has no interval.
                    low, high = (value if math.isnan(limit) else limit for limit in (low, high))
                    top, paint = max(top, high), colour(spec, row[side])
                    axis.plot([place + shift] * 2, [low, high], color=paint, linewidth=2)
                    axis.plot([place + shift], [value], "o", color=paint, markersize=6)
                    axis.annotate(
                        f"{value:.1f}" if scale == 100 else f"{value:.2f}",
                        (place + shift, high),
                        xytext=(0, 3),
                        textcoords="offset points",
                        ha="center",
                        fontsize=8.5,
                        color=paint,
                    )
            axis.set_xticks(range(len(spec.budgets)), list(spec.budgets))
            axis.set_xlim(-0.5, len(spec.budgets) - 0.5)
            axis.set_ylim(0, 1.18 * top or 1)
            axis.set_title(_METRICS[metric])
            axis.grid(axis="x", visible=False)
        legend(figure, [(weak, colour(spec, weak)), (strong, colour(spec, strong))])
        return figure


def accuracy(spec: StudySpec, table: pl.DataFrame) -> Any:
    """Draw the accuracy of every target after every source, with intervals, and the untouched model as a dashed line.

    Only the first benchmark is drawn. The others are in the tables.
    """
    first = next(iter(spec.benchmarks))
    table = table.filter(pl.col("benchmark") == first)
    arms = [s for s in spec.arms if table.filter(pl.col("source") == s).height]
    names = {s: f"{s} data" if s in spec.models else s for s in arms}
    # A target is a heading with its arms below it.
    step = len(arms) + 1.6
    tops = {target: -place * step for place, target in enumerate(spec.targets)}
    height = 1.1 + 0.21 * step * len(tops)
    with _panels(len(spec.budgets), height) as (figure, axes):
        for axis, budget in zip(axes, spec.budgets, strict=True):
            ticks = []
            for target, top in tops.items():
                ticks.append((top, target))
                base = table.filter(pl.col("target") == target, pl.col("source") == "base")
                if base.height:
                    x = 100 * base["value"].item()
                    axis.plot([x, x], [top - 0.5, top - len(arms) - 0.5], color=GREY, linestyle=(0, (3, 2)))
                for place, source in enumerate(arms, start=1):
                    ticks.append((top - place, names[source]))
                    mine = (pl.col("target") == target) & (pl.col("source") == source)
                    for row in table.filter(mine, pl.col("budget") == budget).to_dicts():
                        low, x, high = (100 * row[name] for name in ("low", "value", "high"))
                        paint, y = colour(spec, source), top - place
                        axis.plot([low, high], [y, y], color=paint, linewidth=2)
                        axis.plot([x], [y], "o", color=paint, markersize=6)
            axis.set_yticks([y for y, _ in ticks], [label for _, label in ticks])
            axis.tick_params(axis="y", length=0)
            # Only the panels at the left have labels.
            for label, (y, _) in zip(axis.get_yticklabels(), ticks, strict=False):
                label.set_fontweight("bold" if y in tops.values() else "normal")
            axis.set_ylim(min(y for y, _ in ticks) - 0.8, 0.8)
            axis.set_title(f"{budget} budget")
            axis.grid(axis="y", visible=False)
        untouched = "; dashed: the model before finetuning" if table["source"].eq("base").any() else ""
        figure.supxlabel(f"accuracy on {first}, %, with {percent(spec.confidence)} interval{untouched}", fontsize=10)
        return figure


def legend(figure: Any, entries: list[tuple[str, str]]) -> None:
    """Add a legend of `entries` (name, color) below the figure."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=paint, marker="o", linewidth=2, label=name) for name, paint in entries]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False)


def _reference(spec: StudySpec, plan: pl.DataFrame, budget: str) -> tuple[float, str]:
    """Return the cost of a sample of the budget's reference model, and the model's name. The cost is 1 if the plan
    does not state it."""
    model = spec.reference_model(budget)
    costs = plan.filter(pl.col("budget") == budget, pl.col("model") == model)["unit_cost"].to_list()
    return (costs[0] if costs and math.isfinite(costs[0]) and costs[0] > 0 else 1.0), model
