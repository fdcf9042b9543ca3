"""ablations, report: paired differences, the verdict, figures; as tables, as Dagster metadata and as one HTML page."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

import dagster as dg
import polars as pl

from cos_assets import report as pages
from cos_assets import store
from cos_assets.assets import checks
from cos_assets.assets.common import Inputs, Step, asset, own, picture, result
from cos_assets.judging import labels
from cos_assets.partitions import by_model, by_source
from cos_assets.report import overview, provenance
from cos_assets.study import StudySpec

VERSION = "report-7"


def has_ablations(spec: StudySpec) -> bool:
    """Are there data arms beside the samplers' own, and models to train on them?"""
    return bool(spec.sources and spec.targets)


def ablations(spec: StudySpec) -> dg.AssetsDefinition:
    names = [f"{name}_eval" for name in spec.targets]

    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        evals = pl.concat([inputs[name].collect() for name in names], how="diagonal_relaxed")
        return result(pages.ablations.table(spec, {"evals": evals}))

    return asset(
        spec,
        "ablations",
        body,
        ins={name: own(spec, name) for name in names},
        description="Every data arm against the samplers' own data: accuracy of the models finetuned on it, paired.",
        config=[
            "ablations-1",
            list(spec.targets),
            list(spec.arms),
            pages.ablations.twins(spec),
            spec.pair,
            spec.confidence,
        ],
    )


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
        place = store.folder(step.root, spec.name, "report")
        store.replace(place / "report.html", partial(_write, made.html))
        text = pages.summary_text(made)
        store.replace(place / "answer.txt", partial(_write, text))
        verdicts = [asdict(verdict) for verdict in made.verdicts]
        store.replace(place / overview.ANSWER, partial(_write, overview.answer(spec, verdicts)))
        for name, figure in made.figures.items():
            store.replace(place / f"{name}.svg", partial(_write, figure))
        overview.build(step.root)
        facts = {f"verdict_{verdict.budget}": verdict.better for verdict in made.verdicts}
        return result(
            made.comparisons,
            facts,
            checks.matched(collected["samples"], collected["budget_plan"]),
            answer=dg.MetadataValue.md(made.summary_markdown),
            page=dg.MetadataValue.path(str(place / "report.html")),
            figure=picture(made.figures["answer"], "the answer") if "answer" in made.figures else "none",
        )

    return asset(
        spec,
        "report",
        body,
        checks=[checks.MATCHED],
        ins={name: own(spec, name) for name in names},
        description="Which data was the better buy, with error bars.",
        config=[VERSION, spec.model_dump(mode="json", exclude={"schedule"})],
        kinds={"matplotlib"},
    )


def _write(text: str, file: Path) -> None:
    file.write_text(text, encoding="utf-8")
