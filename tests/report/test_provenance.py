"""The inputs of a study's tables, read from their lineage files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets import report, study
from cos_assets.generation.parts import SCHEMA
from cos_assets.generation.spend import by_stage
from cos_assets.report import provenance
from cos_assets.storage import tables as store

SPEC = study.parse(
    {
        "name": "second",
        "task": "arithmetic",
        "models": {"wc": {"model": "wc"}, "se": {"model": "se"}},
        "match": "number",
        "budgets": {"low": {"se": 2}},
    }
)


def table(rows: int) -> pl.DataFrame:
    return pl.DataFrame({"x": range(rows)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """second/sft_set reads second/samples of both models, and these a checkpoint of the study `first`."""

    def write(name: str, asset: str, where: dict[str, str] | None, count: int, inputs: list, facts: Any = None) -> None:
        made_of = [{"asset": a, "partition": p, "data_version": "v"} for a, p in inputs]
        lineage = {"inputs": made_of, "facts": facts or {}}
        store.write(tmp_path, name, asset, where, table(count), lineage)

    checkpoint = ("first/wc_checkpoint", "low|wc")
    write("first", "wc_checkpoint", {"budget": "low", "source": "wc"}, 1, [("first/gone", None)])
    write("second", "problems", None, 3, [], {"revision": "abc"})
    for model, rows in (("wc", 6), ("se", 4)):
        read = [("second/problems", None), checkpoint]
        write("second", "samples", {"budget": "low", "model": model}, rows, read)
    known = {"taken": 10, "verified": 8, "distinct": 7, "rows": 7, "problems": 3}
    write("second", "sft_set", {"budget": "low", "source": "wc"}, 7, [("second/samples", "low|wc")], known)
    write("second", "unread", None, 1, [])
    return tmp_path


def test_lineage_includes_other_studies(root: Path) -> None:
    tables = [("second/sft_set", "low|wc"), ("second/samples", "low|se"), ("second/sft_set", "low|nothing")]
    made = provenance.read(root, "second", tables)
    short = {rows: store.content_hash(table(rows))[:8] for rows in (1, 3, 7)}
    both = store.content_hash(pl.DataFrame({"version": [store.content_hash(table(rows)) for rows in (4, 6)]}))[:8]
    assert list(provenance.table_cells(SPEC, made)) == [
        ("problems", "1", "3", short[3], "–"),
        ("samples", "2", "10", both, "first/wc_checkpoint, problems"),
        ("sft_set", "1", "7", short[7], "samples"),
        ("first/wc_checkpoint", "1", "1", short[1], "first/gone"),
    ]
    assert list(provenance.dropped_cells(SPEC, made)) == [("low", "wc", "10", "8", "7", "7", "3")]
    assert provenance.versions(SPEC, made)[0] == ("problem set", "arithmetic, abc")
    page = report.build(SPEC, {}, made).html
    assert "Lineage" in page and "From samples to training rows" in page
    assert "Lineage" not in report.build(SPEC, {}).html


def test_spend_is_summed_by_stage(tmp_path: Path) -> None:
    assert by_stage(tmp_path, "second").is_empty()
    rows = [
        {"study": "second", "stage": "evaluation", "finish_reason": "stop", "completion_tokens": 5, "flops": 1.0},
        {"study": "second", "stage": "sampling", "finish_reason": "length", "completion_tokens": 7, "cost": 0.5},
        {"study": "second", "stage": "sampling", "finish_reason": "error", "completion_tokens": None},
        {"study": "other", "stage": "sampling", "finish_reason": "stop", "completion_tokens": 9},
    ]
    place = tmp_path / "ledger" / "model=m" / "sampling=s"
    place.mkdir(parents=True)
    pl.DataFrame([{name: row.get(name) for name in SCHEMA} for row in rows], schema=SCHEMA).write_parquet(
        place / "part-0.parquet"
    )
    found = by_stage(tmp_path, "second")
    assert found.rows() == [
        ("sampling", 2, 1, 1, None, 7, None, 0.5),
        ("evaluation", 1, 0, 0, None, 5, 1.0, None),
    ]
    lines = list(provenance.spend_cells(provenance.Provenance(spend=found)))
    assert lines[0] == ("sampling", "2", "1", "1", "–", "7", "unknown", "0.5000")
