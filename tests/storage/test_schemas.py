"""The views are derived from the declarations of the tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from cos_assets.storage import catalog, schemas
from cos_assets.storage.table import duckdb_type


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty home: its views have all columns and no rows."""
    root = tmp_path_factory.mktemp("empty")
    catalog.build(root)
    return root


@pytest.mark.parametrize("name", schemas.TABLES)
def test_a_view_has_the_declared_columns_types_and_comments(root: Path, name: str) -> None:
    sql = f"SELECT column_name, data_type, comment FROM duckdb_columns() WHERE table_name = '{name}'"
    declared = {column: (duckdb_type(each.dtype), each.meaning) for column, each in schemas.TABLES[name].shown.items()}
    found = {column: (kind.replace('"', ""), meaning) for column, kind, meaning in catalog.query(root, sql).iter_rows()}
    if name == "lineage":  # polars has no JSON type
        found["facts"] = ("VARCHAR", found["facts"][1])
    assert found == {column: (kind.replace('"', ""), meaning) for column, (kind, meaning) in declared.items()}


def test_assets_of_one_kind_share_a_table() -> None:
    names = ("student_checkpoint", "wc_eval", "base_eval", "samples", "eval_metrics")
    assert list(map(schemas.table_of, names)) == ["checkpoints", "evals", "evals", "samples", "eval_metrics"]
    assert schemas.description("student_eval", "verdict") == schemas.TABLES["evals"].columns["verdict"].meaning
    assert schemas.description("samples", "nothing") is None
