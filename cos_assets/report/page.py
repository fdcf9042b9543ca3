"""The HTML page of a report: a single self-contained file. Its only script copies tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from cos_assets.grading.grade import VERDICTS
from cos_assets.judging.readable import truncated_in_reasoning
from cos_assets.report import ablations, evaluated, judges, provenance, published_comparison
from cos_assets.report.compare import ALL_TARGETS, LESS_IS_BETTER, Verdict, percent
from cos_assets.report.provenance import Provenance
from cos_assets.report.tables import Tables
from cos_assets.study import StudySpec
from cos_assets.tasks import SPLITS, Task

_NAMES = {
    "coverage": "coverage of the data",
    "diversity": "distinct solutions per problem (equations)",
    "diversity_exact": "distinct solutions per problem (texts)",
    "false_positive_rate": "false positive rate",
}
_COUNTED = ("diversity", "diversity_exact")


def render(
    spec: StudySpec,
    tables: Tables,
    compared: pl.DataFrame,
    verdicts: Sequence[Verdict],
    accuracies: pl.DataFrame,
    figures: Mapping[str, str],
    origin: Provenance,
) -> str:
    """Render the page as text. Equal tables give equal bytes."""
    from markupsafe import Markup

    evaluations, step_notes = judges.of_evaluations(spec, tables)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            spec=spec,
            verdicts=verdicts,
            figures={name: Markup(svg) for name, svg in figures.items()},  # drawn here, escaped by matplotlib
            captions=_captions(spec),
            differences=[difference_cells(row) for row in compared.iter_rows(named=True)],
            sides=[side_cells(row) for row in compared.iter_rows(named=True)],
            seeds=max([spec.finetuning_of(name).seeds for name in spec.targets], default=1),
            accuracies=[_accuracy_cells(row) for row in accuracies.iter_rows(named=True)],
            ablated=list(ablations.cells(spec, tables, tables["ablations"])),
            ablated_head=ablations.head(spec),
            arms=ablations.settings(spec),
            evaluated_head=evaluated.head(evaluations),
            evaluated=list(evaluated.cells(spec, evaluations)),
            step_notes=step_notes,
            beside_head=published_comparison.HEAD,
            beside=list(published_comparison.cells(spec, tables, compared, accuracies)),
            stages_head=provenance.SPEND_HEAD,
            stages=list(provenance.spend_cells(origin)),
            dropped_head=provenance.DROPPED_HEAD,
            dropped=list(provenance.dropped_cells(spec, origin)),
            unread_head=provenance.UNREAD_HEAD,
            unread=list(provenance.unread_cells(spec, origin)),
            lineage_head=provenance.TABLE_HEAD,
            lineage=list(provenance.table_cells(spec, origin)),
            versions=provenance.versions(spec, origin),
            plan=[_plan_cells(row) for row in tables["budget_plan"].iter_rows(named=True)],
            spend=list(_spend(spec, tables)),
            judged_head=judges.HEAD,
            judged=list(judges.cells(spec, tables)),
            judge_notes=judges.notes(spec, tables, [spec.judge.first]),
            judges_notes=judges.notes(spec, tables, spec.judge.all),
            uneven=list(_uneven(spec, tables)),
            counts=list(_counts(spec, tables)),
            verdict_names=VERDICTS,
            confidence=percent(spec.confidence),
            judge=_judge(spec),
            training=list(_training(spec, tables)),
            problems={split: n for split in SPLITS if (n := (tables["problems"]["split"] == split).sum())},
            yaml=yaml.safe_dump(spec.as_written(_given(spec)), sort_keys=False, allow_unicode=True),
        )
    )


def environment() -> Any:
    """Return the Jinja environment of the page templates. It escapes inserted values."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _captions(spec: StudySpec) -> dict[str, str]:
    """Return the caption of each figure, also for readers who cannot see it. The numbers are in the tables."""
    weak, strong = spec.pair or ("", "")
    limits = f"with {percent(spec.confidence)} intervals"
    return {
        "answer": f"Difference between {weak} data and {strong} data at the same spend, {limits}: accuracy of models"
        " finetuned on each, and coverage of the data.",
        "accuracy": f"Accuracy of each model after finetuning on each data source, {limits}; dashed: untouched model.",
        "evaluated": "Share of problems with a right answer among k drawn answers (lines), and of problems where the"
        f" most frequent answer is right (dashes), {limits}.",
        "ablations": f"Accuracy after finetuning on each data arm, and its difference to the samplers' own, {limits}.",
        "quality": f"Samples of each sampler by budget: coverage, distinct solutions, false positives, {limits}.",
        "curves": "Coverage and distinct solutions by the spend per problem. Equal budgets have the same horizontal"
        " position.",
        "levels": f"Coverage of each sampler's data by level of difficulty, {limits}.",
        "learning": "Validation accuracy, or loss, over the steps of each finetuning.",
    }


def _judge(spec: StudySpec) -> str:
    """Describe the judge that decides which reasoning is wrong."""
    judge = spec.judge.all[spec.judge.first]
    if judge.of:
        return f"a vote of {', '.join(judge.of)}"
    ref = judge.checkpoint
    name = judge.model or (f"{ref.study}/{ref.target}" if ref else "")
    return f"the judge {name}" if name else "the task's step checker"


def difference_cells(row: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """Return the cells budget, metric, difference, interval, better."""
    scale, unit = (1, "") if row["metric"] in _COUNTED else (100, " points")
    digits = 2 if scale == 1 else 1
    interval = _interval(row["low"] * scale, row["high"] * scale, f"+.{digits}f")
    difference = row["difference"] * scale
    shown = "unknown" if math.isnan(difference) else f"{difference:+.{digits}f}{unit}"
    return row["budget"], _name(row), shown, interval, row["better"]


def side_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of both sides with their intervals, and the number of problems on which they are compared."""
    scale, unit = (1, "") if row["metric"] in _COUNTED else (100, " %")
    digits = 2 if scale == 1 else 1
    cells = []
    for side in ("weak", "strong"):
        value, low, high = (row[f"{side}_{name}"] * scale for name in ("value", "low", "high"))
        shown = "none" if math.isnan(value) else f"{value:.{digits}f}{unit}"
        cells.append(f"{shown} {_interval(low, high, f'.{digits}f')}")
    return row["budget"], _name(row), *cells, f"{row['n_problems']:,}"


def _interval(low: float, high: float, form: str) -> str:
    """Format an interval. There is none for fewer than two problems."""
    return "–" if math.isnan(low) or math.isnan(high) else f"[{low:{form}}, {high:{form}}]"


def _name(row: Mapping[str, Any]) -> str:
    if row["metric"] != "accuracy":
        name = _NAMES[row["metric"]]
        return f"{name}, lower is better" if row["metric"] in LESS_IS_BETTER else name
    whose = "mean of the models" if row["target"] == ALL_TARGETS else row["target"]
    return f"accuracy on {row['benchmark']}, {whose}"


def _accuracy_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    interval = _interval(row["low"], row["high"], ".1%")
    source = "untouched" if row["source"] == "base" else row["source"]
    names = row["budget"] or "–", row["target"], source, row["benchmark"]
    return *names, f"{row['value']:.1%}", interval, f"{row['n_problems']:,}"


def _plan_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    params = f"{row['params']:,.0f}" if row["params"] else "–"
    return (
        row["budget"],
        row["model"],
        params,
        f"{row['samples']}",
        f"{row['exact_samples']:.2f}",
        f"{row['mismatch']:+.1%}",
    )


def _spend(spec: StudySpec, tables: Tables) -> Iterable[tuple[str, ...]]:
    """Yield a line per sample set: problems, samples, tokens, FLOPs, cost, the matched quantity as a share of the
    reference model's, samples that were cut off, and the share of correct ones."""
    for budget in spec.budgets:
        reference = _matched(spec, tables, budget, spec.reference_model(budget))
        for model in spec.models:
            mine = (pl.col("budget") == budget) & (pl.col("model") == model)
            rows, graded = tables["samples"].filter(mine), tables["verdicts"].filter(mine)
            if rows.height:
                took = _matched(spec, tables, budget, model)
                yield (
                    budget,
                    model,
                    f"{rows['problem_id'].n_unique():,}",
                    f"{rows.height:,}",
                    _total(rows, "completion_tokens", "{:,.0f}") + _reasoning(int(rows["reasoning_tokens"].sum())),
                    _total(rows, "flops", "{:.3g}"),
                    _total(rows, "cost", "{:,.4f}"),
                    f"{took / reference:.0%}" if took and reference else "–",
                    f"{(rows['finish_reason'] == 'length').sum():,}" + _reasoning(truncated_in_reasoning(rows)),
                    f"{graded['correct'].sum() / count:.1%}" if (count := graded["correct"].count()) else "–",
                )


def _reasoning(count: int) -> str:
    """Format the part of a count that belongs to the reasoning."""
    return f" ({count:,} reasoning)" if count else ""


def _uneven(spec: StudySpec, tables: Tables) -> Iterable[tuple[str, ...]]:
    """Yield the metrics of adaptive allocation beside those of equal numbers of samples for all problems."""
    if spec.allocation != "adaptive":
        return
    for budget in spec.budgets:
        for model in spec.models:
            rows = tables["sample_metrics"].filter(pl.col("level").is_null(), budget=budget, model=model)
            for metric in ("coverage", "diversity"):
                uniform = rows.filter(metric=f"uniform_{metric}")
                adaptive = rows.filter(metric=metric, k=uniform["k"].max() if uniform.height else -1)
                if metric == "diversity":
                    adaptive = adaptive.filter(distinct="equations", denominator="all")
                if uniform.height and adaptive.height:
                    sides = [row.row(0, named=True) for row in (adaptive, uniform)]
                    scale, form, unit = (1, ".2f", "") if metric in _COUNTED else (100, ".1f", " %")
                    cells = [
                        f"{side['value'] * scale:{form}}{unit} "
                        + _interval(side["low"] * scale, side["high"] * scale, form)
                        for side in sides
                    ]
                    yield budget, model, f"{sides[0]['k']}", _NAMES[metric], *cells


def _matched(spec: StudySpec, tables: Tables, budget: str, model: str) -> float | None:
    """Return what a sample set took of the matched quantity, by the ledger. None if it is unknown for any sample."""
    mine = {"budget": budget, "model": model}
    rows, plan = tables["samples"].filter(**mine), tables["budget_plan"].filter(**mine)
    speeds = plan.get_column("tokens_per_second", default=None)
    speed = None if speeds is None or speeds.is_empty() else speeds.first()
    timed = rows.with_columns(tokens_per_second=pl.lit(speed, pl.Float64))
    taken = timed.select(taken=spec.matching.spent())["taken"]
    return None if taken.null_count() else float(taken.sum())


def _total(rows: pl.DataFrame, column: str, form: str) -> str:
    """Format a sum. If it is unknown for all rows, so is the sum; if for some, their number is added."""
    unknown = rows[column].null_count()
    if unknown == rows.height:
        return "unknown" if column != "cost" else "–"
    return form.format(rows[column].sum()) + (f" ({unknown:,} rows unknown)" if unknown else "")


def _counts(spec: StudySpec, tables: Tables) -> Iterable[tuple[str, ...]]:
    for budget in spec.budgets:
        for model in spec.models:
            rows = tables["verdicts"].filter(pl.col("budget") == budget, pl.col("model") == model)
            counts = dict(rows["verdict"].value_counts().iter_rows())
            if rows.height:
                yield budget, model, *(f"{counts.get(name, 0):,}" for name in VERDICTS)


def _training(spec: StudySpec, tables: Tables) -> Iterable[tuple[str, ...]]:
    """Yield a line per finetuning: its rows, tokens, epochs, kept step, validation accuracy and FLOPs."""
    arms, targets = list(spec.arms), list(spec.targets)
    for budget in spec.budgets:
        rows = tables["checkpoints"].filter(pl.col("budget") == budget).to_dicts()
        for row in sorted(rows, key=lambda row: (arms.index(row["source"]), targets.index(row["target"]))):
            accuracy = row["validation_accuracy"]
            yield (
                budget,
                row["source"],
                row["target"] + (f", seed {row['seed']}" if spec.finetuning_of(row["target"]).seeds > 1 else ""),
                f"{row['examples']:,}",
                "unknown" if row["tokens"] is None else f"{row['tokens']:,}",
                f"{row['epochs']:.1f}",
                f"{row['chosen_step']} of {row['steps']}",
                "–" if accuracy is None else f"{accuracy:.1%}",
                "unknown" if row["flops"] is None else f"{row['flops']:.3g}",
            )


def _given(spec: StudySpec) -> dict[str, Any]:
    """Return the study as its author could have written it: without defaults and without paths of this machine."""
    given = spec.model_dump(mode="json", exclude_defaults=True)
    given["task"] = _task(spec.task)
    if spec.evaluation.benchmarks:
        given["evaluation"]["benchmarks"] = [_task(task) for task in spec.evaluation.benchmarks]
    return given


def _task(task: Task) -> str | dict[str, Any]:
    settings = task.model_dump(mode="json", exclude_defaults=True)
    return {"name": task.name, **settings} if settings else task.name
