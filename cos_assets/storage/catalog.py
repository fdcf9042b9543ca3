"""`cos.duckdb`: one view per table over the files of all studies. Runs never open it; analysts open it read-only.

The views have all their columns before there is a file, and read what is there whenever they are asked: the file is
written once, and anew when the views themselves change. With a root on an object store it lies in its local copy, and
its views read `s3://…`: `query` lends DuckDB the store's client; another program needs DuckDB's own (see
docs/object_stores.md).
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from cos_assets.storage.paths import ObjectPath, Place, client_options, local, open_store, place
from cos_assets.storage.schemas import description
from cos_assets.storage.tables import lost

NAME = "cos.duckdb"
SQL = Path(__file__).parents[2] / "sql"
VIEWS, ANALYSIS, FUNCTIONS = SQL / "views", SQL / "analysis", SQL / "functions.sql"
# In a view's file, `{root}` is where the tables lie. Its columns come from there, so that it has them without a file;
# for no file `allow_empty` gives one column, `empty`, and no row.
_ROOT = "{root}"
_ATTEMPTS = 10


def build(root: Place) -> Path:
    """Write <root>/cos.duckdb anew, with a view for every file in sql/views; return its path.

    The file is replaced at once: who has the old one open goes on reading it. It holds no data.
    """
    root = place(root)
    folder = local(root)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{NAME}.{uuid.uuid4().hex}.tmp"
    try:
        with _connected(temporary, root) as connection:
            connection.begin()
            connection.execute("".join(_definitions(root).values()))
            connection.execute("".join(_comments(connection)))
            connection.execute(f"CREATE MACRO built_from() AS {_quoted(_version(root))}")
            connection.commit()
        temporary.replace(folder / NAME)
    finally:
        temporary.unlink(missing_ok=True)
        temporary.with_name(temporary.name + ".wal").unlink(missing_ok=True)
    return folder / NAME


def ready(root: Place) -> Path:
    """`build`, unless the file that is there was built for this root from the same text."""
    root = place(root)
    file = local(root) / NAME
    return file if file.exists() and _built_from(file, file.stat().st_mtime_ns) == _version(root) else build(root)


@cache
def _built_from(file: Path, _written: int) -> str | None:
    """What the text was that a file of some moment was built from; None where that cannot be told."""
    try:
        with duckdb.connect(str(file), read_only=True) as connection:
            return str(connection.execute("SELECT built_from()").fetchall()[0][0])
    except duckdb.Error:  # of an earlier version
        return None


def query(root: Place, sql: str) -> pl.DataFrame:
    """The result of one query on `cos.duckdb`, opened read-only. Raises duckdb.Error for a mistake in the SQL.

    DuckDB opens a file several times within one query. Where a table is replaced in between it stumbles, and is asked
    again.
    """
    root, attempt = place(root), 0
    while True:
        attempt += 1
        try:
            with _connected(ready(root), root, read_only=True) as connection:
                relation = connection.sql(sql)
                return _whole(relation.pl()) if relation is not None else pl.DataFrame()
        except duckdb.Error as error:
            stumbled = isinstance(error, duckdb.IOException) or type(error) is duckdb.Error
            if not stumbled or attempt == _ATTEMPTS:
                raise
            time.sleep(0.01 * attempt)


def gone(root: Place, sql: str) -> list[str]:
    """Tables that were made and are gone, of those whose views a query names: `study/asset partition`."""
    words = set(re.findall(r"\w+", sql))
    found = [table for table in lost(root) if _view(table[1]) in words]
    return [f"{study}/{asset} {partition}".strip() for study, asset, partition in found]


def _view(asset: str) -> str:
    for ending, view in (("_checkpoint", "checkpoints"), ("_eval", "evals")):
        if asset.endswith(ending):
            return view
    return asset


def _whole(frame: pl.DataFrame) -> pl.DataFrame:
    """DuckDB's sums of whole numbers have 128 bits, which polars takes for decimals, and JSON for text: Int64 instead,
    where they fit."""
    for name, dtype in frame.schema.items():
        if isinstance(dtype, pl.Decimal) and dtype.scale == 0:
            number = frame[name].cast(pl.Int64, strict=False)
            frame = frame.with_columns(number) if number.null_count() == frame[name].null_count() else frame
    return frame


def filled(root: Place, *names: str) -> set[str]:
    """Those of the named views that have rows."""
    found = query(root, " UNION ALL ".join(f"(SELECT '{name}' AS name FROM {name} LIMIT 1)" for name in names))
    return set(found["name"])


def tables() -> list[Path]:
    """The files of the views, in the order of their names."""
    return sorted(VIEWS.glob("*.sql"))


def questions() -> list[Path]:
    """The files with a question each, in the order of their names."""
    return sorted(ANALYSIS.glob("*.sql"))


def head(file: Path) -> list[str]:
    """The first lines of a view's file, what it holds and what a row is, or of a question's, the question first."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("-- ") for line in itertools.takewhile(lambda line: line.startswith("-- "), lines)]


def contents() -> Iterator[str]:
    """The views and the questions, a line each."""
    for title, files in (("views", tables()), ("questions", questions())):
        yield f"{title}, {files[0].parent}"
        yield from (f"  {file.stem:<29}{head(file)[0]}" for file in files)


def meant(query: str | None, file: Path | None = None) -> str | None:
    """The SQL that is meant: by itself, by a file, or by the name of a question. Raises ValueError for no such file."""
    if query is not None and file is not None:
        raise ValueError("give QUERY or --file, not both")
    if query is not None and query.endswith(".sql"):
        file = Path(query)
    elif query in {question.stem for question in questions()}:
        file = ANALYSIS / f"{query}.sql"
    if file is None:
        return query
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{file}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read: {error}") from None


def _definitions(root: Place) -> dict[str, str]:
    """What is executed: name -> SQL."""
    # Inside the views the root is part of a pattern and stands between quotes.
    pattern = glob.escape(str(root)).replace("'", "''")
    return {file.stem: file.read_text(encoding="utf-8").replace(_ROOT, pattern) for file in (FUNCTIONS, *tables())}


def _comments(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """SQL that tells in the catalogue itself what its views and their columns mean."""
    for view in tables():
        yield f"COMMENT ON VIEW {view.stem} IS {_quoted(' '.join(head(view)))};"
    columns = "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal"
    for view_name, column in connection.execute(columns).fetchall():
        if text := description(view_name, column):
            yield f'COMMENT ON COLUMN {view_name}."{column}" IS {_quoted(text)};'


def _version(root: Place) -> str:
    return hashlib.sha256("\0".join(_definitions(root).values()).encode()).hexdigest()[:16]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


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
    with open_store(root) as store:
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
