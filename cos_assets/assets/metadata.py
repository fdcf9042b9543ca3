"""Results of assets: a table with its metadata (facts, figures, check outcomes)."""

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
    """Return a table with its metadata.

    `facts` are also written to the lineage. Equal tables get equal data versions, so materializing a table again with
    equal content leaves its downstream assets up to date.
    """
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
    """Return a figure as an image in Markdown, the form in which the UI shows it."""
    return dg.MetadataValue.md(f"![{alt}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")


def sketch(draw: Callable[..., Any], alt: str, *of: Any) -> dg.MetadataValue:
    """Return the figure that `draw` (of `report.partition_figures`) makes of `of`; a text where the data is empty."""
    if not len(of[0]):
        return dg.MetadataValue.text(f"{alt}: none")
    return picture(svg(partial(draw, *of)), alt)
