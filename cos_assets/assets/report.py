"""report: paired differences, the conclusion and figures, as tables, as Dagster metadata and as one HTML page."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

import dagster as dg
import polars as pl

from cos_assets import report as pages
from cos_assets.assets.ablations import has_ablations
from cos_assets.assets.metadata import picture, result
from cos_assets.assets.step import Inputs, Step, asset, own
from cos_assets.judging import labels
from cos_assets.orchestration import checks
from cos_assets.orchestration.partitions import by_model, by_source
from cos_assets.report import overview, provenance
from cos_assets.storage.tables import folder, replace
from cos_assets.study import StudySpec

VERSION = "report-7"


def report(spec: StudySpec) -> dg.AssetsDefinition:
    tables = ["problems", "budget_plan", "samples", "verdicts", "sample_metrics", "judgements", "sft_set"]
    per_target = {kind: [f"{name}_{kind}" for name in spec.targets] for kind in ("checkpoint", "eval")}
    tables += ["ablations"] if has_ablations(spec) else []
    tables += ["eval_metrics"] if spec.targets and spec.evaluation.samples else []
    names = [*tables, *per_target["checkpoint"], *per_target["eval"], *(["base_eval"] if spec.targets else [])]

    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        collected = {name: inputs[name].collect() for name in names}
        joined = {
            "checkpoints": [collected.pop(name) for name in per_target["checkpoint"]],
            "evals": [collected.pop(name) for name in per_target["eval"]],
        }
        given = collected | {
            name: pl.concat(frames, how="diagonal_relaxed") for name, frames in joined.items() if frames
        }
        given["labelled"] = labels.labelled_here(step.root, spec.name, collected["judgements"])
        keys = [None, *by_model(spec).get_partition_keys(), *by_source(spec).get_partition_keys()]
        origin = provenance.read(step.root, spec.name, [(f"{spec.name}/{name}", key) for name in names for key in keys])
        made = pages.build(spec, given, origin)
        place = folder(step.root, spec.name, "report")
        replace(place / "report.html", partial(_write, made.html))
        text = pages.summary_text(made)
        replace(place / "answer.txt", partial(_write, text))
        verdicts = [asdict(verdict) for verdict in made.verdicts]
        replace(place / overview.ANSWER, partial(_write, overview.answer(spec, verdicts)))
        for name, figure in made.figures.items():
            replace(place / f"{name}.svg", partial(_write, figure))
        overview.build(step.root)
        facts = {f"verdict_{verdict.budget}": verdict.better for verdict in made.verdicts}
        return result(
            made.comparisons,
            facts,
            checks.matched(collected["samples"], collected["budget_plan"]),
            answer=dg.MetadataValue.md(made.summary_markdown),
            page=dg.MetadataValue.path(str(place / "report.html")),
            figure=picture(made.figures["answer"], "the conclusion") if "answer" in made.figures else "none",
        )

    return asset(
        spec,
        "report",
        body,
        checks=[checks.MATCHED],
        ins={name: own(spec, name) for name in names},
        description="The conclusion of the study: which data was the better buy, with intervals.",
        config=[VERSION, spec.model_dump(mode="json", exclude={"schedule"})],
        kinds={"matplotlib"},
    )


def _write(text: str, file: Path) -> None:
    file.write_text(text, encoding="utf-8")
