"""`cos.duckdb`: one view per table over the files of all studies. Runs never open it; analysts open it read-only.

With a root on an object store the file lies in its local copy, and its views read `s3://…`: `query` lends DuckDB the
store's client; another program needs DuckDB's own (see docs/object_stores.md).
"""

from __future__ import annotations

import glob
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from cos_assets.places import ObjectPath, Place, client_options, local, place, told

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
        connection.register_filesystem(_filesystem(root))
        try:
            yield connection
        finally:
            connection.unregister_filesystem(root.scheme)


def _filesystem(root: ObjectPath) -> Any:
    """A store as DuckDB takes one, for as long as a connection: all names under the root are listed once, as one
    request tells a thousand; fsspec's own way asks for every folder and then for every file."""
    bucket = root.bucket.partition("://")[2]
    with told(root) as store:
        from fsspec.utils import glob_translate
        from obstore.fsspec import FsspecStore

        files = {f"{bucket}/{entry['path']}": entry for entries in store.list(root.key) for entry in entries}

    def glob(self: Any, pattern: str, **_: Any) -> list[str]:
        return sorted(filter(re.compile(glob_translate(self._strip_protocol(pattern))).match, files))

    def info(self: Any, path: str, **_: Any) -> dict[str, Any]:
        name = self._strip_protocol(path)
        return {"name": name, "size": files[name]["size"], "type": "file"}

    def modified(self: Any, path: str) -> datetime:
        return files[self._strip_protocol(path)]["last_modified"]

    # DuckDB asks the class for its protocol.
    known = {"protocol": root.scheme, "glob": glob, "info": info, "modified": modified}
    kind: Any = type("Store", (FsspecStore,), known)
    return kind(root.scheme, client_options=client_options(), skip_instance_cache=True)
