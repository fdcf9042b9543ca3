"""The report of a study: which data was the better buy, by how much, and with which interval.

    compare, ablations, evaluated       the numbers: paired differences, data arms, further metrics of finetuned models
    judges, provenance                  the judges' rates and errors; spend, dropped rows and inputs
    published_comparison, plan          published numbers next to a study's own; the output of `cos plan`
    tables                              the tables that a report reads
    figures, partition_figures, training_curves     figures of a study, a partition, a training
    page, overview                      the HTML page of a study, and that of all studies

To add a figure, draw it in `figures`, name it in `build`, and place it in page.html.j2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import polars as pl

from cos_assets.report import ablations, evaluated, figures, judges, page, training_curves
from cos_assets.report.compare import Verdict, accuracies, comparisons, verdicts
from cos_assets.report.provenance import Provenance
from cos_assets.report.tables import Tables, complete
from cos_assets.study import StudySpec

__all__ = ["Report", "Verdict", "build", "summary_text"]


@dataclass(frozen=True)
class Report:
    comparisons: pl.DataFrame
    """See `compare.comparisons`."""
    verdicts: list[Verdict]
    figures: Mapping[str, str]
    """Name -> SVG text of each figure that has data: answer, accuracy, evaluated, ablations, quality, curves, levels,
    learning."""
    judges: list[str]
    """The errors of each judge, and the reasons why a judge gives no false positive rate."""
    html: str
    """The report as one self-contained page."""

    @property
    def summary_markdown(self) -> str:
        """The verdicts and the paired differences as Markdown, for Dagster's UI."""
        lines = [f"- {verdict.sentence}" for verdict in self.verdicts] or ["- nothing to compare"]
        rows = ["", "| budget | metric | difference | interval | better |", "|---|---|---|---|---|"]
        for row in self.comparisons.iter_rows(named=True):
            rows.append("| {} | {} | {} | {} | {} |".format(*page.difference_cells(row)))
        return "\n".join([*lines, *rows, "", *(f"- {note}" for note in self.judges)])


def build(spec: StudySpec, tables: Tables, origin: Provenance | None = None) -> Report:
    """Build the report from a study's tables by name.

    The tables are problems, budget_plan, samples, verdicts, sample_metrics, judgements, labelled (see
    `judging.labels`), sft_set, checkpoints and evals (those of all targets), base_eval, eval_metrics and ablations.
    If a table is absent or empty, the parts that need it are left out; the same holds for `origin`. The result does
    not depend on the clock or the machine.
    """
    tables = complete(tables)
    plan = tables["budget_plan"]
    compared = comparisons(spec, tables)
    found = verdicts(spec, plan, compared)
    table = accuracies(spec, tables)
    drawn = {}
    if not compared.is_empty():
        drawn["answer"] = partial(figures.answer, spec, compared)
        drawn["quality"] = partial(figures.quality, spec, compared)
    if figures.drawable(plan, tables["sample_metrics"]):
        drawn["curves"] = partial(figures.curves, spec, plan, tables["sample_metrics"])
    by_level = figures.at_levels(plan, tables["sample_metrics"])
    if by_level["level"].n_unique() > 1:
        drawn["levels"] = partial(figures.levels, spec, by_level)
    if table.height:
        drawn["accuracy"] = partial(figures.accuracy, spec, table)
    if tables["ablations"].height:
        drawn["ablations"] = partial(ablations.figure, spec, tables["ablations"])
    if evaluated.drawable(tables["eval_metrics"]):
        drawn["evaluated"] = partial(evaluated.figure, spec, tables["eval_metrics"])
    if tables["checkpoints"]["curve"].count():
        drawn["learning"] = partial(training_curves.of_study, spec, tables["checkpoints"])
    pictures = {name: figures.svg(draw) for name, draw in drawn.items()}
    html = page.render(spec, tables, compared, found, table, pictures, origin or Provenance())
    told = [note.text for note in judges.notes(spec, tables, spec.judge.all)]
    return Report(compared, found, pictures, told, html)


def summary_text(report: Report) -> str:
    """Return the verdicts and the paired differences as text for a terminal."""
    lines = [verdict.sentence for verdict in report.verdicts] or ["There is nothing to compare."]
    rows = [page.difference_cells(row) for row in report.comparisons.iter_rows(named=True)]
    if rows:
        head = ("budget", "weak − strong", "difference", "interval", "better")
        widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
        for row in (head, *rows):
            lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        lines.insert(len(report.verdicts), "")
    lines += ["", *report.judges] if report.judges else []
    return "\n".join(lines) + "\n"
