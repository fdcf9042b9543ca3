"""The small figures in the UI: small files, equal bytes for equal tables, and their text."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import polars as pl
import pytest

from cos_assets.metrics.summary import sample_metrics
from cos_assets.report import partition_figures
from cos_assets.report.figures import svg

ROWS = pl.DataFrame(
    [
        {
            "problem_id": f"p{p}",
            "sample_index": i,
            "completion_tokens": 10 + (7 * p + i) % 40,
            "correct": (p + i) % 3 == 0,
        }
        for p in range(300)
        for i in range(20)
    ]
).with_columns(
    finish_reason=pl.when(pl.col("completion_tokens") > 48).then(pl.lit("length")).otherwise(pl.lit("stop")),
    level=pl.lit(None, pl.String),
    text_key=pl.lit("a"),
    equations_key=pl.lit("a"),
)
CUT = ROWS.filter(finish_reason="length").height
COUNTS = {"correct": 1200, "wrong": 300, "truncated": 0}
DRAWN: dict[str, tuple[Callable[[], Any], str]] = {
    "lengths": (partial(partition_figures.lengths, ROWS), f"{CUT} cut off"),
    "counts": (partial(partition_figures.counts, COUNTS, "samples by verdict", ("wrong", "truncated")), "1,200"),
    "curve": (partial(partition_figures.curve, sample_metrics(ROWS)), "coverage@k"),
    "intervals": (
        partial(partition_figures.intervals, {"steps": (0.04, 0.02, 0.08), "vote": (0.5, None, None)}, "FPR"),
        "4.0%",
    ),
    "per_problem": (partial(partition_figures.per_problem, ROWS.filter("correct"), 310), "problems by number"),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_partition_figure_is_small_labelled_and_reproducible(name: str) -> None:
    draw, says = DRAWN[name]
    text = svg(draw)
    assert says in re.sub(r"\s+", " ", text)
    assert len(text) < 50_000
    assert text == svg(draw)
