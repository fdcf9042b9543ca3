"""A table with its metadata: facts, figures, outcomes of checks."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import dagster as dg
import polars as pl

from cos_assets.orchestration.checks import Check
from cos_assets.orchestration.io_manager import STOPPED_BY
from cos_assets.report.figures import svg
from cos_assets.storage import tables


def result(
    frame: pl.DataFrame, facts: Mapping[str, Any] | None = None, *checks: Check, **metadata: Any
) -> dg.MaterializeResult:
    """A table with its metadata. `facts` go to the lineage too; equal tables get equal data versions, so that making
    one again leaves what comes after it fresh."""
    plain = {k: v for k, v in (facts or {}).items() if v is not None and v == v}  # NaN is not equal to itself
    if failed := [check.rule.name for check in checks if check.rule.blocks_downstream and not check.passed]:
        plain[STOPPED_BY] = failed
    return dg.MaterializeResult(
        value=frame,
        data_version=dg.DataVersion(tables.content_hash(frame)),
        metadata={**plain, "facts": dg.MetadataValue.json(plain), **metadata},
        check_results=[check.outcome() for check in checks],
    )


def picture(svg: str, alt: str) -> dg.MetadataValue:
    """A figure as the UI shows it: an image in Markdown, nothing beside it."""
    return dg.MetadataValue.md(f"![{alt}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")


def sketch(draw: Callable[..., Any], alt: str, *of: Any) -> dg.MetadataValue:
    """A figure of `report.sketches`, drawn of `of`; words where there is nothing to draw."""
    if not len(of[0]):
        return dg.MetadataValue.text(f"{alt}: none")
    return picture(svg(partial(draw, *of)), alt)
