"""The table tree: one Parquet file per asset and partition, written whole or not at all.

    <root>/<study>/<asset>/budget=<b>/model=<m>/data.parquet      with lineage.json beside it

`<root>` is COS_HOME, by default `.cos`, or a prefix of an object store. Besides the studies it holds the ledger, the
finetuned models (`checkpoints`), Dagster's instance (`dagster`) and `cos.duckdb`. With an object store the last two
are in its local copy (see `paths`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import polars as pl

from cos_assets.storage import paths
from cos_assets.storage.paths import ObjectPath, Place, replace
from cos_assets.storage.schemas import TABLES, table_of

Partition = Mapping[str, str]
"""Dimension -> key, for example {"budget": "low", "model": "wc"}; empty for an asset without partitions."""

DATA, LINEAGE = "data.parquet", "lineage.json"
_HASHED_ROWS = 100_000
_NO_STUDIES = ("ledger", "checkpoints", "dagster")


def home() -> Place:
    """Return the root of everything that is written: $COS_HOME, else `.cos` in the working directory."""
    return paths.place(os.environ.get("COS_HOME") or ".cos")


def folder(root: Place, study: str, asset: str, partition: Partition | None = None) -> Place:
    """Return the folder of a table's partition. Dimensions are sorted by name, as in Dagster's keys."""
    parts = [f"{name}={key}" for name, key in sorted((partition or {}).items())]
    return root / "/".join([study, asset, *parts])


def content_hash(frame: pl.DataFrame) -> str:
    """Return the SHA-256 of column names, types and values, in order. Equal tables have equal hashes on every
    machine."""
    digest = hashlib.sha256(json.dumps([(name, str(dtype)) for name, dtype in frame.schema.items()]).encode())
    for rows in frame.iter_slices(_HASHED_ROWS):
        digest.update(rows.write_ndjson().encode())
    return digest.hexdigest()


def write(
    root: Place,
    study: str,
    asset: str,
    partition: Partition | None,
    frame: pl.DataFrame,
    lineage: Mapping[str, Any],
) -> Place:
    """Write a table's partition, and its lineage beside it. Readers see the old file or the new one.

    The columns `study` and the partition's dimensions are put in front, so that a file identifies itself. A file that
    already holds this content is not replaced, so that its readers are not disturbed.
    """
    place = folder(root, study, asset, partition)
    labels = {"study": study, **dict(sorted((partition or {}).items()))}
    labelled = frame.select(
        *(pl.lit(value, pl.String).alias(name) for name, value in labels.items()), pl.all().exclude(list(labels))
    )
    content = content_hash(frame)
    digests = _as_it_is(root, study, asset, partition, content)

    def fill(file: Path) -> None:
        labelled.write_parquet(file)
        digests.append(_digest(file))

    if not digests:
        replace(place / DATA, fill)
    facts = {
        "study": study,
        "asset": asset,
        "partition": "|".join(labels[name] for name in sorted(partition)) if partition else None,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": frame.height,
        "file_hash": digests[-1],
        "file": _looks(place / DATA),
        **lineage,
        "data_version": content,
    }
    replace(place / LINEAGE, lambda file: file.write_text(json.dumps(facts, indent=1, default=str), encoding="utf-8"))
    return place / DATA


def _as_it_is(root: Place, study: str, asset: str, partition: Partition | None, content: str) -> list[str]:
    """Return a list with the digest of the existing file if the file is unchanged since it was written and holds this
    content, else an empty list."""
    try:
        known = lineage(root, study, asset, partition) or {}
        if known.get("data_version") != content:
            return []
        digest = _digest(opened(root, study, asset, partition))
    except (FileNotFoundError, ValueError):  # there is none, or lineage.json is broken
        return []
    return [digest] if digest == known.get("file_hash") else []


def intact(root: Place, study: str, asset: str, partition: Partition | None = None) -> bool:
    """Return whether a table's file exists and is unchanged since it was written.

    Size and modification time are compared first, and the content only if they differ. This is for a root on disk;
    for an object store, see `listed`.
    """
    file = folder(root, study, asset, partition) / DATA
    assert isinstance(file, Path)
    try:
        known = lineage(root, study, asset, partition)
        return known is not None and (_looks(file) == known.get("file") or as_recorded(file, known, partition))
    except (ValueError, FileNotFoundError):  # lineage.json is broken, or the file was just removed
        return False


def listed(root: ObjectPath, study: str) -> set[ObjectPath]:
    """Return the tables of a study on an object store, with one request per thousand objects."""
    return {root / study / name for name in (root / study).objects() if name.endswith(f"/{DATA}")}


def _looks(file: Place) -> list[int] | None:
    """Return size in bytes and modification time in nanoseconds. None for an object."""
    if not isinstance(file, Path):
        return None
    facts = file.stat()
    return [facts.st_size, facts.st_mtime_ns]


def lost(root: Place) -> list[tuple[str, str, str]]:
    """Return the tables that were made but no longer exist, as (study, asset, partition or "").

    These are the tables with a lineage.json but no file and, on disk, those that the lineage of another table names.
    """
    known: set[tuple[str, str, str]] = set()
    there: set[tuple[str, str, str]] = set()
    for study in paths.folders(paths.place(root)):
        if study in _NO_STUDIES:
            continue
        names = _names(root / study)
        for name in names:
            *parts, file = name.split("/")
            if file not in (DATA, LINEAGE) or not parts:
                continue
            table = (study, parts[0], "|".join(part.partition("=")[2] for part in parts[1:]))
            (there if file == DATA else known).add(table)
            if file == LINEAGE and isinstance(root, Path):
                known |= _read_by(root / study / name)
    return sorted(known - there)


def _names(folder: Place) -> list[str]:
    if not isinstance(folder, Path):
        return list(folder.objects())
    return [file.relative_to(folder).as_posix() for file in folder.rglob("*.*") if file.name in (DATA, LINEAGE)]


def _read_by(file: Path) -> set[tuple[str, str, str]]:
    """Return the tables that a lineage.json names as inputs."""
    try:
        inputs = json.loads(file.read_text(encoding="utf-8")).get("inputs", [])
        return {(*each["asset"].rsplit("/", 1), each.get("partition") or "") for each in inputs}
    except (ValueError, KeyError, TypeError, AttributeError):  # broken: the table is made again
        return set()


def scan(root: Place, study: str, asset: str, partitions: Iterable[Partition | None] = (None,)) -> pl.LazyFrame:
    """Return the named partitions as one frame, in that order, without the column `study`; no rows for no partitions.

    Raises FileNotFoundError, which names the partition, if one has not been materialized.
    """
    return joined([opened(root, study, asset, partition) for partition in partitions], asset)


def opened(root: Place, study: str, asset: str, partition: Partition | None = None) -> Path | BytesIO:
    """Return a table's file. An object is fetched. Raises FileNotFoundError like `scan`."""
    file = folder(root, study, asset, partition) / DATA
    try:
        return paths.readable(file)
    except FileNotFoundError:
        where = "|".join(partition[name] for name in sorted(partition)) if partition else "the table"
        raise FileNotFoundError(f"{study}/{asset}: {where} has not been materialized (no {file})") from None


def joined(files: Sequence[Path | BytesIO], asset: str) -> pl.LazyFrame:
    """Return opened files of an asset as one frame, without the column `study`. No files give no rows.

    Columns that an earlier version did not write are null.
    """
    if not files:
        return pl.LazyFrame()
    frames = [pl.scan_parquet(file, hive_partitioning=False) for file in files]
    rows = pl.concat(frames, how="diagonal_relaxed").drop("study", strict=False)
    table, there = TABLES.get(table_of(asset)), rows.collect_schema()
    declared = {} if table is None else table.schema
    new = {name: pl.lit(None, dtype).alias(name) for name, dtype in declared.items() if name not in there}
    return rows.with_columns(new.values()) if new else rows


def as_recorded(file: Path | BytesIO, known: Mapping[str, Any], partition: Partition | None = None) -> bool:
    """Return whether an opened file is the one described by its lineage.json, `known`. A different file with equal
    content counts, too."""
    if _digest(file) == known.get("file_hash"):
        return True
    try:
        frame = pl.read_parquet(file, hive_partitioning=False)
    except pl.exceptions.PolarsError:  # not even a table any more
        return False
    finally:
        if isinstance(file, BytesIO):
            file.seek(0)
    return content_hash(frame.drop("study", *(partition or {}), strict=False)) == known.get("data_version")


def _digest(file: Path | BytesIO) -> str:
    """Return the SHA-256 of a file's bytes."""
    if isinstance(file, BytesIO):
        return hashlib.sha256(file.getbuffer()).hexdigest()
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def lineage(root: Place, study: str, asset: str, partition: Partition | None = None) -> dict[str, Any] | None:
    """Return the content of lineage.json. None if there is none."""
    try:
        text = (folder(root, study, asset, partition) / LINEAGE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return cast(dict[str, Any], json.loads(text))
