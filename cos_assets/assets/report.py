"""report: paired differences, the verdict, figures; as a table, as Dagster metadata and as one HTML page."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import dagster as dg
import polars as pl

from cos_assets import report as pages
from cos_assets import store
from cos_assets.assets.common import Inputs, Step, asset, own, result
from cos_assets.study import StudySpec

VERSION = "report-1"


def report(spec: StudySpec) -> dg.AssetsDefinition:
    tables = ["problems", "budget_plan", "samples", "verdicts", "sample_metrics", "judgements", "sft_set"]
    per_target = {kind: [f"{name}_{kind}" for name in spec.targets] for kind in ("checkpoint", "eval")}
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
        made = pages.build(spec, given)
        place = store.folder(step.root, spec.name, "report")
        store.replace(place / "report.html", partial(_write, made.html))
        text = pages.summary_text(made)
        store.replace(place / "answer.txt", partial(_write, text))
        for name, figure in made.figures.items():
            store.replace(place / f"{name}.svg", partial(_write, figure))
        facts = {f"verdict_{verdict.budget}": verdict.better for verdict in made.verdicts}
        return result(
            made.comparisons,
            facts,
            answer=dg.MetadataValue.md(made.summary_markdown),
            page=dg.MetadataValue.path(str(place / "report.html")),
            figure=dg.MetadataValue.md(_image(made.figures["answer"])) if "answer" in made.figures else "none",
        )

    return asset(
        spec,
        "report",
        body,
        ins={name: own(spec, name) for name in names},
        description="Which data was the better buy, with error bars.",
        config=[VERSION, spec.model_dump(mode="json")],
        kinds={"matplotlib"},
    )


def _write(text: str, file: Path) -> None:
    file.write_text(text, encoding="utf-8")


def _image(svg: str) -> str:
    import base64

    return f"![the answer](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"
