"""labels: people's labels of the reasoning. `cos label import` writes them and records the agreement of raters here."""

from __future__ import annotations

from typing import Any

import dagster as dg
import polars as pl

from cos_assets.judging import labels as stored
from cos_assets.storage.paths import Place
from cos_assets.study import StudySpec


def labels(spec: StudySpec) -> dg.AssetSpec:
    """Return the spec of the labels. No run materializes them, so they are never stale."""
    return dg.AssetSpec(
        dg.AssetKey([spec.name, "labels"]),
        deps=[
            dg.AssetDep(dg.AssetKey([spec.name, name]), partition_mapping=dg.AllPartitionMapping())
            for name in ("samples", "judgements")
        ],
        description="People's labels of the reasoning, from `cos label import`, and their agreement with the judges.",
        group_name=spec.name,
        kinds={"polars"},
    )


def record(instance: dg.DagsterInstance, root: Place, study: str) -> None:
    """Record the current labels of a study as a materialization.

    The metadata are the counts, the agreement of raters, the false positive rates by rater and the corrected ones.
    Raises LabelError where there are no labels.
    """
    said = stored.opinions(root, study)
    confidence = stored.study_confidence(root, study)
    pairs, rates = stored.summary(said, confidence)
    corrected = stored.corrected(root, study, said, confidence)
    humans = said.filter("human")
    metadata: dict[str, Any] = {
        "labels": humans.height,
        "annotators": humans["rater"].n_unique(),
        "confidence": confidence,
        "agreement": _table(pairs),
        "false_positive_rates": _table(rates),
        "corrected_false_positive_rates": _table(corrected),
    }
    for row in pairs.filter(pl.col("kappa").is_not_null()).iter_rows(named=True):
        metadata[f"kappa_{row['a']}_{row['b']}"] = row["kappa"]
    event = dg.AssetMaterialization(dg.AssetKey([study, "labels"]), metadata=metadata)
    instance.report_runless_asset_event(event)


def _table(frame: pl.DataFrame) -> dg.MetadataValue:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(frame.columns) + " |", "|" + "---|" * frame.width]
    for row in frame.iter_rows():
        cells = ("–" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return dg.MetadataValue.md("\n".join(lines))
