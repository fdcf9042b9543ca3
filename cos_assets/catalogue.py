"""`cos.duckdb`: one view per table over the files of all studies. Runs never open it; analysts open it read-only.

With a root on an object store the file lies in its local copy, and its views read `s3://…`: `query` lends DuckDB the
store's client; another program needs DuckDB's own (see docs/object_stores.md).
"""

from __future__ import annotations

import glob
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import polars as pl

from cos_assets.places import ObjectPath, Place, filesystem, local, place

NAME = "cos.duckdb"
SQL = Path(__file__).parents[1] / "sql"
VIEWS = SQL / "views"
# In a view's file, `{root}` is where the tables lie; the first line names the files that must be there.
_ROOT, _NEEDS = "{root}", "-- needs: "


def build(root: Place) -> Path:
    """Write <root>/cos.duckdb anew with a view for every file in sql/views whose tables have data; return its path.

    The file is replaced at once: who has the old one open goes on reading it. It holds no data.
    """
    root = place(root)
    folder = local(root)
    folder.mkdir(parents=True, exist_ok=True)
    # Inside the views the root is part of a pattern and stands between quotes.
    pattern_root = glob.escape(str(root)).replace("'", "''")
    temporary = folder / f".{NAME}.{uuid.uuid4().hex}.tmp"
    try:
        with _connected(temporary, root) as connection:
            for file in sorted(VIEWS.glob("*.sql")):
                text = file.read_text(encoding="utf-8")
                needs = [line.removeprefix(_NEEDS) for line in text.splitlines() if line.startswith(_NEEDS)]
                found = (connection.execute(f"FROM glob('{pattern_root}/{pattern}') LIMIT 1") for pattern in needs)
                if any(files.fetchone() for files in found):
                    connection.execute(text.replace(_ROOT, pattern_root))
        temporary.replace(folder / NAME)
    finally:
        temporary.unlink(missing_ok=True)
        temporary.with_name(temporary.name + ".wal").unlink(missing_ok=True)
    return folder / NAME


def query(root: Place, sql: str) -> pl.DataFrame:
    """The result of one query on `build`'s file, opened read-only. Raises duckdb.Error for a mistake in the SQL."""
    root = place(root)
    with _connected(local(root) / NAME, root, read_only=True) as connection:
        relation = connection.sql(sql)
        return relation.pl() if relation is not None else pl.DataFrame()


@contextmanager
def _connected(file: Path, root: Place, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(file), read_only=read_only) as connection:
        if not isinstance(root, ObjectPath):
            yield connection
            return
        connection.register_filesystem(filesystem(root))
        try:
            yield connection
        finally:
            connection.unregister_filesystem(root.scheme)
