"""The judges in a report: every false positive rate with the judge's own errors, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from cos_assets.judging.controls import controls_of
from cos_assets.judging.rates import CORRECTED_BY, JudgeRate, cannot_tell, rate_of, share
from cos_assets.judging.table import of_judge
from cos_assets.metrics.intervals import Interval
from cos_assets.report.tables import Tables
from cos_assets.study import StudySpec

HEAD = (
    *("budget", "model", "judge", "rate", "false alarms", "recall"),
    *("corrected", "corrected by", "read"),
)


class Note(NamedTuple):
    """A sentence about a judge. `missing` means that it reports a missing rate."""

    text: str
    missing: bool = False


def rate(spec: StudySpec, tables: Tables, judge: str, budget: str, model: str) -> JudgeRate | None:
    """Return a judge's rate for a sample set, or None if it judged none of it. Its controls are those of all sets."""
    judged = of_judge(tables["judgements"], judge).filter(budget=budget, model=model)
    if judged.is_empty():
        return None
    labelled = tables["labelled"].filter(rater=judge)
    return rate_of(judged, controls_of(tables["judgements"], judge), spec.confidence, labelled)


def cells(spec: StudySpec, tables: Tables) -> Iterable[tuple[str, ...]]:
    """Yield a line per sample set and judge."""
    for (budget, model, judge), found in _all(spec, tables, spec.judge.all):
        corrected = "–" if found.corrected is None else _percent(found.corrected, "unknown")
        yield (
            *(budget, model, judge, _percent(found.rate, "none")),
            *(_percent(kind.rate, "–") for kind in (found.controls.false_alarms, found.controls.recall)),
            *(corrected, CORRECTED_BY[found.corrected_by] if found.corrected_by else "–"),
            f"{found.read:,} of {found.read + found.unread:,}",
        )


def notes(spec: StudySpec, tables: Tables, judges: Iterable[str]) -> list[Note]:
    """Return a note for each reason why a judge gives no rate, and a note for each judge on its errors."""
    reasons: dict[tuple[str, str], list[str]] = {}
    told: dict[str, Note] = {}
    for (budget, model, judge), found in _all(spec, tables, judges):
        told[judge] = _errors(spec, judge, found)
        if found.why_none:
            reasons.setdefault((judge, found.why_none), []).append(f"{model} at {budget}")
    none = []
    for (judge, why), sets in reasons.items():
        used = " It still selects the training data (verification)." if judge in spec.verifiers else ""
        none.append(Note(f"{judge} gives no false positive rate for {', '.join(sets)}: {why}.{used}", missing=True))
    return [*none, *told.values()]


def of_evaluations(spec: StudySpec, tables: Tables) -> tuple[pl.DataFrame, list[Note]]:
    """Return the metrics of finetuned models, and notes on the errors of the step checker.

    The step checker reads the models' right answers. If it cannot tell right from wrong on the study's own problems,
    its rates are left out.
    """
    metrics = tables["eval_metrics"]
    rates = pl.col("metric") == "false_positive_rate"
    steps = [name for name, judge in spec.judge.all.items() if judge.kind == "steps"][:1]
    found = next((found for _, found in _all(spec, tables, steps)), None)
    if metrics.filter(rates).is_empty():
        return metrics, []
    if found is None:
        return metrics, [Note("The step checker has no controls, because it is not a judge of this study.")]
    if why := cannot_tell(found.controls):
        return metrics.filter(~rates), [Note(f"There is no false positive rate: {why}.", missing=True)]
    return metrics, [_errors(spec, steps[0], found)]


def _all(spec: StudySpec, tables: Tables, judges: Iterable[str]) -> Iterable[tuple[tuple[str, str, str], JudgeRate]]:
    for budget in spec.budgets:
        for model in spec.models:
            for judge in judges:
                if found := rate(spec, tables, judge, budget, model):
                    yield (budget, model, judge), found


def _errors(spec: StudySpec, judge: str, found: JudgeRate) -> Note:
    errors, parts = found.controls, []
    for name, kind, of in (
        ("false alarms", errors.false_alarms, "reference solutions"),
        ("recall", errors.recall, "samples with a wrong answer"),
    ):
        parts.append(f"{name} {share(kind)} {of}" if kind.read else f"{name} unknown (it could read no {of})")
    if not spec.judge.controls:
        return Note(f"The errors of the judge {judge} are unknown, because judge.controls is 0.")
    text = f"The judge {judge} on its controls: {', '.join(parts)}; {errors.unread:,} not read"
    return Note(f"{text}. It is unknown whether it can tell right from wrong." if errors.tells is None else f"{text}.")


def _percent(found: Interval, none: str) -> str:
    if math.isnan(found.value):
        return none
    limits = "" if math.isnan(found.low) else f" [{100 * found.low:.1f}, {100 * found.high:.1f}]"
    return f"{100 * found.value:.1f} %{limits}"
