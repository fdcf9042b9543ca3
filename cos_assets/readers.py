"""Readers of data files and hub datasets. Each row comes with its location, for error messages."""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

_TABLES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet", ".csv", ".csv.gz", ".tsv", ".tsv.gz")
_ARCHIVES = (".tar.gz", ".tgz")
SUFFIXES = (*_TABLES, *_ARCHIVES)
_INDEX = re.compile(r"-?\d{1,9}")
_LONGEST_FIELD = 2**31 - 1  # of a CSV; the largest limit that the csv module accepts on every platform
_LARGEST = 4 * 2**30  # bytes of one file's content; a small file may unpack to more than the memory holds
Row = Mapping[str, Any]
T = TypeVar("T")


def rows(file: Path) -> Iterator[tuple[str, Row]]:
    """Yield (where, row) for every row of a file.

    The suffix, in upper or lower case, determines the format: JSON lines, a JSON array, Parquet, or CSV or TSV with a
    header; any of these with .gz; or a .tar.gz of such files, which are read in the order of their names. A member that
    is one JSON object is one row. Text is UTF-8.

    Raises ValueError, with file and line, for content that does not fit the suffix, and for a file without rows.
    """
    count = 0
    for where, row in _tar(file) if file.name.lower().endswith(_ARCHIVES) else _plain(str(file), _bytes(file)):
        if not isinstance(row, Mapping):
            raise ValueError(f"{where}: found {str(row)[:60]!r}; expected an object with named columns")
        count += 1
        yield where, row
    if not count:
        raise ValueError(f"{file}: has no rows")


def hub_rows(dataset: str, config: str | None, split: str, revision: str | None) -> Iterator[tuple[str, Row]]:
    """Yield (where, row) for every row of a split of a dataset, from the Hugging Face hub or its local cache.

    Raises ValueError that names the alternatives if the dataset cannot be loaded.
    """
    try:
        from datasets import load_dataset

        found = load_dataset(dataset, config, split=split, revision=revision)
    except Exception as error:  # no network, no such dataset or revision: the hub raises many kinds
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise ValueError(
            f"task: {dataset!r} could not be loaded from the hub ({type(error).__name__}: {reason});"
            " set path: to a local copy, or allow access to the hub"
        ) from error
    for number, row in enumerate(found):
        yield f"{dataset} {split} row {number}", row


def find(folder: Path, *names: str) -> Path | None:
    """Return the first existing file of a format that `rows` reads; None where there is none.

    `names` are without suffix. Upper and lower case are equal, but an exact match is preferred.
    """
    candidates = [folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES]
    if exact := next((file for file in candidates if file.is_file()), None):
        return exact
    there = {file.name.lower(): file for file in sorted(folder.glob("*")) if file.is_file()}
    return next((there[file.name.lower()] for file in candidates if file.name.lower() in there), None)


def in_folder(folder: Path, *names: str) -> Path:
    """Like `find`, but raise ValueError that lists the expected names if there is no file."""
    if file := find(folder, *names):
        return file
    expected = ", ".join(f"{name}{suffix}" for name in names for suffix in SUFFIXES[:5])
    raise ValueError(f"task.path: {str(folder)!r} contains no {' or '.join(names)} file; expected one of {expected}")


def steps(path: str) -> list[str]:
    """Return the parts of a column path. `choices.0.message` and `choices[0].message` are equivalent. A negative index
    counts from the end of a list."""
    return path.replace("[", ".").replace("]", "").split(".")


def dig(row: Row, path: str, role: str, where: str) -> Any:
    """Return the value at a path into nested objects and lists (see `steps`).

    A column whose name is the whole path takes precedence. Raises ValueError that names `columns.<role>`, the key with
    which the study sets the path.
    """
    if path in row:
        return row[path]
    value: Any = row
    for part in steps(path):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and _INDEX.fullmatch(part) and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            found = ", ".join(map(str, value)) if isinstance(value, Mapping) else f"{value!r}"
            raise ValueError(f"{where}: column {path!r} (columns.{role}) is missing; found: {found[:200]}")
    return value


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _bytes(file: Path) -> bytes:
    return _unzip(str(file), file.read_bytes()) if file.suffix.lower() == ".gz" else file.read_bytes()


def _unzip(name: str, data: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            content = stream.read(_LARGEST + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{name}: is not a gzip file ({error})") from None
    return _bounded(name, content, len(content))


def _bounded(name: str, content: T, size: int) -> T:
    if size > _LARGEST:
        raise ValueError(f"{name}: unpacks to more than {_LARGEST:,} bytes; split it into several files")
    return content


def _tar(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        with tarfile.open(file, "r:gz") as archive:
            # Skips hidden files: macOS adds a metadata file (._name) to each file of an archive.
            members = [m for m in archive.getmembers() if m.isfile() and not Path(m.name).name.startswith(".")]
            for member in sorted(members, key=lambda m: m.name):
                if member.name.lower().endswith(_TABLES):
                    stream = _bounded(f"{file}:{member.name}", archive.extractfile(member), member.size)
                    assert stream is not None
                    name, data = f"{file}:{member.name}", stream.read()
                    if name.lower().endswith(".gz"):
                        data = _unzip(name, data)
                    yield from _plain(name, data)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{file}: is not a .tar.gz file ({error})") from None


def _plain(name: str, data: bytes) -> Iterator[tuple[str, Any]]:
    match _kind(name):
        case "parquet":
            return _parquet(name, data)
        case "csv":
            return _csv(name, data, ",")
        case "tsv":
            return _csv(name, data, "\t")
    return _json(name, data)


def _kind(name: str) -> str:
    return name.lower().removesuffix(".gz").rpartition(".")[2]


def _parquet(name: str, data: bytes) -> Iterator[tuple[str, Any]]:
    try:
        frame = pl.read_parquet(io.BytesIO(data))
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{name}: is not Parquet ({str(error).splitlines()[0]})") from None
    for number, row in enumerate(frame.iter_rows(named=True), start=1):
        yield f"{name}: row {number}", row


def _csv(name: str, data: bytes, delimiter: str) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(_LONGEST_FIELD)  # global to the process, hence set to one value and never reset
    reader = csv.DictReader(io.StringIO(_text(name, data), newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            where = f"{name}: line {reader.line_num}"
            if None in row or None in row.values():
                expected = len(reader.fieldnames or ())
                found = expected + len(row[None]) if None in row else sum(v is not None for v in row.values())
                raise ValueError(f"{where}: has {found} columns; expected {expected}, as in the header")
            yield where, row
    except csv.Error as error:
        raise ValueError(f"{name}: line {reader.line_num}: is not {_kind(name).upper()} ({error})") from None


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{name}: line {line}: is not UTF-8 ({error.reason})") from None


def _json(name: str, data: bytes) -> Iterator[tuple[str, Any]]:
    """Yield the rows of one value per line, of one array, or (in a .json only) of one object over several lines.

    The content determines which, not the suffix.
    """
    data = data.removeprefix(codecs.BOM_UTF8)
    if data.lstrip().startswith(b"["):
        for number, row in enumerate(_loads(data, name), start=1):
            yield f"{name}: item {number}", row
        return
    lines = [(number, line) for number, line in enumerate(data.split(b"\n"), start=1) if line.strip()]
    if len(lines) > 1 and _kind(name) == "json" and lines[0][1].strip() == b"{":
        yield name, _loads(data, name)
        return
    for number, line in lines:
        yield f"{name}: line {number}", _loads(line, f"{name}: line {number}")


def _loads(data: bytes, where: str) -> Any:
    try:
        return json.loads(data.decode())  # given bytes, json would guess the encoding
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deep
        raise ValueError(f"{where}: is not JSON ({error}); expected one object per line, or one array") from None
