"""Ablations: every data arm compared with the samplers' own data, by the accuracy of models trained on it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl
import yaml

from cos_assets.report.compare import ALL_TARGETS, of_models, percent
from cos_assets.report.figures import INK, canvas, colour, legend
from cos_assets.report.tables import Tables, complete
from cos_assets.storage.schemas import TABLES
from cos_assets.study import StudySpec

SCHEMA = TABLES["ablations"].schema


def references(spec: StudySpec) -> tuple[str, ...]:
    """Return the arms that all others are compared with: the two samplers' own, or the only sampler's."""
    return spec.pair or tuple(spec.models)


def twins(spec: StudySpec) -> dict[str, str]:
    """Return name -> twin for the sources of the weak model's samples that have an otherwise equal source of the
    strong model's samples."""
    if spec.pair is None:
        return {}
    weak, strong = spec.pair
    given = {name: source.model_dump() for name, source in spec.sources.items()}
    found: dict[str, str] = {}
    for name, source in spec.sources.items():
        if source.models == (weak,):
            part = {key: {strong: share[weak]} for key in ("take", "samples") if (share := given[name][key])}
            found |= [(name, other) for other, its in given.items() if its == given[name] | part]
    return found


def table(spec: StudySpec, tables: Tables) -> pl.DataFrame:
    """Return one row per budget, benchmark, arm, reference and target in the schema `SCHEMA`.

    A row holds the greedy accuracy of both arms, and arm − reference, paired on problems and, if there are several,
    on training seeds. Arms are all arms of the study. References are the `references` and an arm's twin (see
    `twins`). Target "all" is the mean of the targets per problem. `tables` need `evals`.
    """
    tables, pairs, frames = complete(tables), twins(spec), []
    names = {name: name.replace("weak", "arm").replace("strong", "reference") for name in _SIDES}
    for budget in spec.budgets:
        for benchmark in spec.benchmarks:
            for arm in spec.arms:
                others = [*references(spec), *([pairs[arm]] if arm in pairs else [])]
                for other in dict.fromkeys(others):
                    if other != arm:
                        rows = of_models(spec, tables, budget, (arm, other), benchmark)
                        frames += [{names.get(key, key): value for key, value in row.items()} for row in rows]
    return pl.DataFrame([{name: row[name] for name in SCHEMA} for row in frames], schema=SCHEMA, orient="row")


_SIDES = [side + end for side in ("weak", "strong") for end in ("", "_value", "_low", "_high")]


def _means(spec: StudySpec, compared: pl.DataFrame) -> pl.DataFrame:
    """Return the rows to show: the mean of the targets on the first benchmark."""
    return compared.filter(pl.col("target") == ALL_TARGETS, pl.col("benchmark") == next(iter(spec.benchmarks)))


def head(spec: StudySpec) -> list[str]:
    """Return the column titles of `cells`."""
    own = [f"− {name}" for name in references(spec)]
    return ["budget", "data", "rows", "wrong", "accuracy", *own, *(["− its twin"] if twins(spec) else [])]


def cells(spec: StudySpec, tables: Tables, compared: pl.DataFrame) -> Iterable[tuple[str, ...]]:
    """Yield a line per budget and arm for the page."""
    shown, pairs = _means(spec, compared), twins(spec)
    for budget in spec.budgets:
        for arm in spec.arms:
            rows = {row["reference"]: row for row in shown.filter(budget=budget, arm=arm).to_dicts()}
            if rows:
                value = "{:.1%} {}".format(*_of(next(iter(rows.values())), "arm_value", "arm_low", "arm_high", ".1%"))
                against = [_difference(rows.get(name)) for name in references(spec)]
                if pairs:
                    against.append(_difference(rows.get(pairs.get(arm, ""))))
                yield budget, arm, *_made_of(tables, budget, arm), value, *against


def settings(spec: StudySpec) -> list[tuple[str, str]]:
    """Return the name and settings of each source, as its author could have written them."""
    return [
        (name, yaml.safe_dump(given, default_flow_style=True, sort_keys=False, width=math.inf).strip()[1:-1])
        for name, source in spec.sources.items()
        if (given := source.model_dump(mode="json", exclude_defaults=True))
    ]


def _of(row: Mapping[str, Any], value: str, low: str, high: str, form: str) -> tuple[float, str]:
    limits = "–" if math.isnan(row[low]) else f"[{row[low]:{form}}, {row[high]:{form}}]"
    return row[value], limits


def _difference(row: Mapping[str, Any] | None) -> str:
    """Format a difference in points, with its interval."""
    if row is None:
        return "–"
    points = {name: 100 * row[name] for name in ("difference", "low", "high")}
    value, limits = _of(points, "difference", "low", "high", "+.1f")
    return f"{value:+.1f} {limits}"


def _made_of(tables: Tables, budget: str, arm: str) -> tuple[str, str]:
    """Return the number of rows of an arm, and the share of them with a wrong answer."""
    rows = tables["sft_set"].filter(budget=budget, source=arm)
    graded = rows.join(tables["verdicts"], on=["budget", "model", "problem_id", "sample_index"], how="inner")["correct"]
    wrong = "–" if not graded.count() else f"{1 - graded.mean():.1%}"  # type: ignore[operator]
    return (f"{rows.height:,}" if rows.height else "–"), wrong


def figure(spec: StudySpec, compared: pl.DataFrame) -> Any:
    """Draw the accuracy after training on each arm, and its difference to the samplers' own data and to its twin."""
    shown, pairs = _means(spec, compared), twins(spec)
    budgets = [budget for budget in spec.budgets if shown.filter(budget=budget).height]
    arms = [arm for arm in spec.arms if shown.filter(arm=arm).height]
    against = {name: colour(spec, name) for name in references(spec)}
    height = 1.0 + (0.5 + 0.32 * len(arms)) * len(budgets)
    ratios = {"width_ratios": [1, 1.25]}
    with canvas(len(budgets), 2, 8.6, height, sharey=True, sharex="col", gridspec_kw=ratios) as (drawn, axes):
        for (left, right), budget in zip(axes, budgets, strict=True):
            for y, arm in enumerate(reversed(arms)):
                rows = {row["reference"]: row for row in shown.filter(budget=budget, arm=arm).to_dicts()}
                for row in list(rows.values())[:1]:
                    paint = colour(spec, arm)
                    left.plot([100 * row["arm_low"], 100 * row["arm_high"]], [y, y], color=paint, linewidth=2)
                    left.plot([100 * row["arm_value"]], [y], "o", color=paint, markersize=6)
                    if arm in against:
                        left.axvline(100 * row["arm_value"], color=paint, linewidth=1, linestyle=(0, (2, 3)), zorder=0)
                lines = [(rows[name], paint) for name, paint in against.items() if name in rows]
                lines += [(rows[pairs[arm]], INK)] if pairs.get(arm) in rows else []
                for place, (row, paint) in enumerate(lines):
                    low, x, high = (100 * row[name] for name in ("low", "difference", "high"))
                    at = y + 0.22 * ((len(lines) - 1) / 2 - place)
                    face = "white" if row["better"] == "cannot tell" else paint
                    right.plot([low, high], [at, at], color=paint, linewidth=1.6)
                    right.plot([x], [at], "o", color=paint, markerfacecolor=face, markersize=5)
            right.axvline(0, color=INK, linewidth=1)
            left.set_yticks(range(len(arms)), [f"{a} data" if a in spec.models else a for a in reversed(arms)])
            left.set_ylim(-0.6, len(arms) - 0.4)
            left.set_title(f"{budget} budget: accuracy, %")
            right.set_title("difference, points")
            for axis in (left, right):
                axis.tick_params(axis="y", length=0)
        entries = [(f"− {name} data", paint) for name, paint in against.items()]
        legend(drawn, entries + ([("− its twin of the other model", INK)] if pairs else []))
        means = f"mean of {len(spec.targets)} finetuned models, " if len(spec.targets) > 1 else ""
        axes[-1][0].set_xlabel(f"{means}{percent(spec.confidence)} interval")
        axes[-1][1].set_xlabel("hollow: cannot tell")
        return drawn
