"""Every column of every table has a description, and there is none of a column that no table has."""

from __future__ import annotations

from pathlib import Path

import pytest

from cos_assets.storage import catalog, schemas

VIEWS = sorted(file.stem for file in catalog.VIEWS.glob("*.sql"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty home: its views have all columns and no rows."""
    root = tmp_path_factory.mktemp("empty")
    catalog.build(root)
    return root


@pytest.mark.parametrize("view", VIEWS)
def test_columns_are_described(root: Path, view: str) -> None:
    there = set(catalog.query(root, f'DESCRIBE "{view}"')["column_name"])
    lacking = [name for name in sorted(there) if not schemas.description(view, name)]
    assert not lacking, f"cos_assets/storage/schemas.py says nothing of {view}: {', '.join(lacking)}"
    gone = set(schemas.TABLES[view]) - there
    assert not gone, f"{view} has no such columns: {', '.join(sorted(gone))}"


def test_assets_of_one_kind_share_a_table() -> None:
    names = ("student_checkpoint", "wc_eval", "base_eval", "samples", "eval_metrics")
    assert list(map(schemas.table_of, names)) == ["checkpoints", "evals", "evals", "samples", "eval_metrics"]
    assert schemas.description("student_eval", "verdict") == schemas.TABLES["evals"]["verdict"]
    assert schemas.description("samples", "nothing") is None
