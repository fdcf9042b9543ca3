"""`cos.duckdb`: one view per table over the files of all studies. Runs never open it; analysts open it read-only.

The views have all their columns before any file exists, and read the current files on every query. The database is
written once, and again when the definitions of the views change. For a root on an object store it is kept in the
local copy, and its views read `s3://…`: `query` passes the client of the store to DuckDB; other programs need
DuckDB's own (see docs/object_stores.md).
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
from cos_assets.storage.schemas import TABLES, table_of
from cos_assets.storage.tables import lost

NAME = "cos.duckdb"
_PACKAGE = Path(__file__).parents[1]
# A wheel holds the files inside of the package; a checkout has them beside it.
SQL = _PACKAGE / "sql" if (_PACKAGE / "sql").is_dir() else _PACKAGE.parent / "sql"
VIEWS, ANALYSIS = SQL / "views", SQL / "analysis"
# The placeholder in a view's SQL for the root of the tables.
_ROOT = "{root}"
_ATTEMPTS = 10


def build(root: Place) -> Path:
    """Write <root>/cos.duckdb with the view of every table of `schemas`, and return its path.

    The file is replaced atomically: processes that have the old one open can go on reading it. It holds no data.
    """
    root = place(root)
    folder = local(root)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{NAME}.{uuid.uuid4().hex}.tmp"
    try:
        with _connected(temporary, root) as connection:
            connection.begin()
            connection.execute(_definitions(root))
            connection.execute(f"CREATE MACRO built_from() AS {_quoted(_version(root))}")
            connection.commit()
        temporary.replace(folder / NAME)
    finally:
        temporary.unlink(missing_ok=True)
        temporary.with_name(temporary.name + ".wal").unlink(missing_ok=True)
    return folder / NAME


def ready(root: Place) -> Path:
    """Return the path of `cos.duckdb`. Build it first unless it was built for this root from the current SQL."""
    root = place(root)
    file = local(root) / NAME
    return file if file.exists() and _built_from(file, file.stat().st_mtime_ns) == _version(root) else build(root)


@cache
def _built_from(file: Path, _written: int) -> str | None:
    """Return the version of the SQL that a file was built from. None if the file does not say.

    `_written`, the modification time, is part of the cache key.
    """
    try:
        with duckdb.connect(str(file), read_only=True) as connection:
            return str(connection.execute("SELECT built_from()").fetchall()[0][0])
    except duckdb.Error:  # built by an earlier version
        return None


def query(root: Place, sql: str) -> pl.DataFrame:
    """Return the result of one query on `cos.duckdb`, opened read-only. Raises duckdb.Error for a mistake in the SQL.

    DuckDB opens a file several times within one query and fails if the table is replaced in between. The query is
    then retried, at most `_ATTEMPTS` times in all.
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
    """Return `study/asset partition` of tables that were made but no longer exist, if a query names their view."""
    words = set(re.findall(r"\w+", sql))
    found = [table for table in lost(root) if table_of(table[1]) in words]
    return [f"{study}/{asset} {partition}".strip() for study, asset, partition in found]


def _whole(frame: pl.DataFrame) -> pl.DataFrame:
    """Cast sums of whole numbers to Int64 where they fit. DuckDB sums to 128 bits, which polars reads as decimals and
    JSON would write as text."""
    for name, dtype in frame.schema.items():
        if isinstance(dtype, pl.Decimal) and dtype.scale == 0:
            number = frame[name].cast(pl.Int64, strict=False)
            frame = frame.with_columns(number) if number.null_count() == frame[name].null_count() else frame
    return frame


def filled(root: Place, *names: str) -> set[str]:
    """Return those of the named views that have rows."""
    found = query(root, " UNION ALL ".join(f"(SELECT '{name}' AS name FROM {name} LIMIT 1)" for name in names))
    return set(found["name"])


def questions() -> list[Path]:
    """Return the SQL files of the questions, one question each, sorted by name."""
    return sorted(ANALYSIS.glob("*.sql"))


def head(file: Path) -> list[str]:
    """Return the first comment lines of a SQL file. The first one of a question states it."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("-- ") for line in itertools.takewhile(lambda line: line.startswith("-- "), lines)]


def contents() -> Iterator[str]:
    """Yield the views and the questions, one per line."""
    yield "views"
    yield from (f"  {name:<29}{table.holds}" for name, table in sorted(TABLES.items()))
    yield f"questions, {ANALYSIS}"
    yield from (f"  {file.stem:<29}{head(file)[0]}" for file in questions())


def meant(query: str | None, file: Path | None = None) -> str | None:
    """Return the SQL of a query that is given as SQL, as a file, or as the name of a question.

    Raises ValueError if both QUERY and file are given, or if the file does not exist or cannot be read.
    """
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


def _definitions(root: Place) -> str:
    """Return the SQL that creates all views with their comments."""
    # The root is part of a quoted glob pattern.
    pattern = glob.escape(str(root)).replace("'", "''")
    views = [
        (VIEWS / f"{name}.sql").read_text(encoding="utf-8") if table.by_hand else table.view(name)
        for name, table in TABLES.items()
    ]
    return "".join([*views, *_comments()]).replace(_ROOT, pattern)


def _comments() -> Iterator[str]:
    """Yield SQL that stores the meaning of views and columns in the catalog itself."""
    for name, table in TABLES.items():
        yield f"COMMENT ON VIEW {name} IS {_quoted(f'{table.holds} {table.row}')};"
        for column, each in table.shown.items():
            yield f'COMMENT ON COLUMN {name}."{column}" IS {_quoted(each.meaning)};'


def _version(root: Place) -> str:
    return hashlib.sha256(_definitions(root).encode()).hexdigest()[:16]


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
    """Return a store as a filesystem for one DuckDB connection.

    All names under the root are listed once, with one request per thousand names. The default of fsspec sends a
    request for every folder and then for every file.
    """
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

    # DuckDB reads the protocol from the class.
    known = {"protocol": root.scheme, "glob": glob, "info": info, "modified": modified}
    kind: Any = type("Store", (FsspecStore,), known)
    return kind(root.scheme, client_options=client_options(), skip_instance_cache=True)
