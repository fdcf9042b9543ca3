"""Parts: the Parquet files of the ledger. A part is written once and never changed.

If a folder has many small parts, the next process that appends to the ledger merges them into larger ones. The metadata
of a merged part lists the parts that it replaces, and readers ignore those. If the process is killed after writing the
merged part and before removing the others, no row is lost or counted twice; the next process removes the rest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import polars as pl

from cos_assets.storage import paths
from cos_assets.storage.artifacts import mirror
from cos_assets.storage.paths import Place
from cos_assets.storage.schemas import TABLES

PATTERN = "part-*.parquet"

SCHEMA = TABLES["ledger"].schema
UNUSABLE = ".unusable-"
"""Prefix of the names of files that were set aside because they are unusable."""

_VERSION = "1"  # schema version of each part; increase it when the meaning of a column changes
_REPLACES = "replaces"
_MERGED = "-merged.parquet"
_MANY = 200  # minimum number of small parts for a merge
_SMALL, _LARGE = 16 * 2**20, 64 * 2**20  # bytes: upper limit of a small part; approximate size of a merged part
_MAGIC = b"PAR1"
_ATTEMPTS = 10
_log = logging.getLogger(__name__)


def name() -> str:
    """Return a file name for a new part. Names sort by the time at which their parts were started.

    Examples
    --------
    >>> Path(name()).match(PATTERN)
    True
    """
    return f"part-{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}.parquet"


def write(place: Place, frame: pl.DataFrame, replaced: Sequence[str] = ()) -> None:
    """Write rows as one part atomically.

    Parameters
    ----------
    place : Path or ObjectPath
        The path of the part.
    frame : polars.DataFrame
        Rows with the schema `SCHEMA`.
    replaced : sequence of str
        The names of the parts that it replaces.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder, "part-1.parquet"), SCHEMA.to_frame())
    ...     pl.read_parquet_metadata(Path(folder, "part-1.parquet"))["schema_version"]
    '1'
    """
    metadata = {"schema_version": _VERSION} | ({_REPLACES: json.dumps(replaced)} if replaced else {})
    paths.replace(place, partial(frame.write_parquet, metadata=metadata))


def query(folder: Place, pattern: str, ask: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.DataFrame:
    """Apply a query to the rows of all parts under a folder, and collect the result.

    An incomplete Parquet file is set aside with a warning.

    Parameters
    ----------
    folder : Path or ObjectPath
        The folder that is searched.
    pattern : str
        A glob for the parts, relative to the folder; for one folder of the ledger `PATTERN`.
    ask : callable
        The query. It receives a lazy frame with the schema `SCHEMA` and returns one. Parts of other versions
        (`schema_version` in their metadata) may lack columns (null), have additional ones, or have wider numbers.

    Returns
    -------
    polars.DataFrame
        The result of the query.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder, name()), pl.DataFrame([{"cost": 0.5}, {"cost": 0.25}], schema=SCHEMA))
    ...     query(Path(folder), PATTERN, lambda rows: rows.select(pl.col("cost").sum())).item()
    0.75
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return ask(_scan(_counted(folder, mirror(folder, pattern)))).collect()
        except FileNotFoundError:  # another process has merged parts in the meantime
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError


def merge(folder: Place, check: Callable[[], object] = lambda: None) -> None:
    """Remove parts of a folder that have been merged, and merge its small parts if there are many.

    The caller must hold the ledger's lock. Parts with additional columns are not merged. If a merged part cannot be
    written, for example because the disk is full, its parts stay.

    Parameters
    ----------
    folder : Path or ObjectPath
        A folder of parts.
    check : callable
        Raises if another machine has taken over the lock. It is called before each merged part is written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder, "part-1.parquet"), SCHEMA.to_frame())
    ...     write(Path(folder, "part-1-merged.parquet"), SCHEMA.to_frame(), ["part-1.parquet"])
    ...     merge(Path(folder))
    ...     [file.name for file in Path(folder).glob(PATTERN)]
    ['part-1-merged.parquet']
    """
    found = mirror(folder, PATTERN)
    files = _counted(folder, found)
    for file in {*found} - {*files}:
        _remove(folder, file)
    small = [file for file in files if file.stat().st_size < _SMALL and _of_this_version(file)]
    if len(small) < _MANY:
        return
    for group in _groups(small):
        replaced = [*(file.name for file in group), *_replaced(group)]
        begun, digest = group[0].name.split("-")[1], hashlib.sha256(json.dumps(replaced).encode()).hexdigest()[:16]
        rows = _scan(group).collect()
        check()
        try:
            write(folder / f"part-{begun}-{digest}{_MERGED}", rows, replaced)
        except OSError as error:
            _log.warning(f"{folder}: {len(group)} parts could not be merged and remain unchanged: {error}")
            return
        for file in group:
            _remove(folder, file)


def _groups(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield the files in order, in groups of about `_LARGE` bytes. A remaining single file is left out."""
    group: list[Path] = []
    size = 0
    for file in files:
        group.append(file)
        size += file.stat().st_size
        if size >= _LARGE:
            yield group
            group, size = [], 0
    if len(group) > 1:
        yield group


def _of_this_version(file: Path) -> bool:
    metadata = pl.read_parquet_metadata(file)
    known = metadata.get("schema_version", _VERSION) == _VERSION
    return known and pl.read_parquet_schema(file).items() <= SCHEMA.items()  # an older part may lack columns


def _counted(folder: Place, files: Sequence[Path]) -> list[Path]:
    """Return the complete parts among `files`, without those that another part replaces."""
    whole = [file for file in files if _whole(file) or _set_aside(folder, file)]
    replaced = {(file.parent, name) for file in whole for name in _replaced([file])}
    return [file for file in whole if (file.parent, file.name) not in replaced]


def _replaced(files: Sequence[Path]) -> list[str]:
    """Return the names of the parts that the merged parts among `files` replace."""
    merged = [file for file in files if file.name.endswith(_MERGED)]
    return [name for file in merged for name in json.loads(pl.read_parquet_metadata(file)[_REPLACES])]


def _remove(folder: Place, file: Path) -> None:
    if not isinstance(folder, Path):
        (folder / file.name).unlink()
    file.unlink(missing_ok=True)


def _scan(files: list[Path]) -> pl.LazyFrame:
    if not files:
        return SCHEMA.to_frame().lazy()
    wide = {name: pl.Int64 if kind.is_integer() else kind for name, kind in SCHEMA.items()}
    rows = pl.scan_parquet(
        files,
        hive_partitioning=False,
        missing_columns="insert",
        extra_columns="ignore",
        cast_options=pl.ScanCastOptions(integer_cast="upcast", float_cast="upcast"),
        schema=pl.Schema(wide),
    )
    return rows.with_columns(pl.col(name).cast(kind) for name, kind in SCHEMA.items() if kind != wide[name])


def _whole(file: Path) -> bool:
    """Return whether a file starts and ends with the Parquet magic bytes; a truncated file does not."""
    try:
        with file.open("rb") as stream:
            if stream.read(4) != _MAGIC or stream.seek(0, os.SEEK_END) < 3 * len(_MAGIC):
                return False
            stream.seek(-len(_MAGIC), os.SEEK_END)
            return stream.read() == _MAGIC
    except FileNotFoundError:  # another process has set it aside or merged it
        return False


def _set_aside(folder: Place, file: Path) -> bool:
    place = file.with_name(UNUSABLE + file.name)
    try:
        if not isinstance(folder, Path):
            (folder / file.relative_to(paths.local(folder)).as_posix()).rename(place.name)
        file.rename(place)
    except FileNotFoundError:  # another process has set it aside
        return False
    _log.warning(f"{file}: is not a complete Parquet file; it was moved to {place}. Missing rows are bought again")
    return False
