"""Checks and helpers for the input frames of all metrics, with uniform error messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl


def require(frame: pl.DataFrame, columns: Sequence[str], name: str, *, nulls: Sequence[str] = ()) -> None:
    """Raise ValueError unless `frame` has `columns` without nulls; the columns in `nulls` may contain nulls."""
    for column in columns:
        if column not in frame.columns:
            raise ValueError(f"{name}: column {column!r} is missing; found: {frame.columns}; needed: {list(columns)}")
        if column not in nulls and (missing := frame[column].null_count()):
            raise ValueError(f"{name}: {missing} of {frame.height} rows have no {column}")


def require_unique(frame: pl.DataFrame, columns: Sequence[str], name: str) -> None:
    """Raise ValueError naming the first repeated row of `columns`, if there is one."""
    *outer, last = columns
    # Count within groups: counting distinct rows of several columns at once takes ten times as long, and 1 GB for 7.5M
    # rows.
    distinct = pl.col(last).n_unique()
    count = frame.group_by(outer).agg(distinct)[last].sum() if outer else frame.select(distinct).item()
    if count != frame.height:
        first = frame.group_by(columns).len().filter(pl.col("len") > 1).sort(columns).row(0, named=True)
        times = first.pop("len")
        raise ValueError(f"{name}: {first} occurs {times} times; allowed: once")


def require_bool(frame: pl.DataFrame, column: str, name: str) -> None:
    """Raise ValueError unless `column` is boolean: 0/1 numbers or "true" strings would be counted wrongly."""
    if frame.schema[column] != pl.Boolean:
        raise ValueError(f"{name}: {column} has type {frame.schema[column]}; allowed is Boolean")


def sample_sizes(ks: Iterable[int]) -> np.ndarray:
    """Return `ks` as sorted distinct int64 values; raise ValueError for one that is not an integer >= 1."""
    values = sorted(set(ks))
    for k in values:
        if k < 1 or k != int(k):
            raise ValueError(f"k is {k}; allowed are whole numbers of at least 1")
    return np.array(values, dtype=np.int64)


def by_columns(by: str | Sequence[str] | None) -> list[str]:
    return [] if by is None else [by] if isinstance(by, str) else list(by)


def groups(frame: pl.DataFrame, by: Sequence[str]) -> Iterator[tuple[dict[str, Any], pl.DataFrame]]:
    """Yield the values of `by` and the rows of each group, sorted by the values; one group if `by` is empty."""
    if not by:
        yield {}, frame
        return
    for part in frame.sort(by, maintain_order=True).partition_by(by, maintain_order=True):
        yield part.select(by).row(0, named=True), part


def group_schema(frame: pl.DataFrame, by: Sequence[str], columns: Mapping[str, Any]) -> pl.Schema:
    """Return the schema of the group columns, with their types in `frame`, followed by `columns`."""
    return pl.Schema([*((name, frame.schema[name]) for name in by), *columns.items()])


def with_group(frame: pl.DataFrame, values: dict[str, Any], schema: pl.Schema) -> pl.DataFrame:
    """Return `frame` with the group's values as its first columns, with the types of `schema`."""
    return frame.select(*(pl.lit(value, dtype=schema[name]).alias(name) for name, value in values.items()), pl.all())
