"""Checks and helpers for the input frames of all metrics, with uniform error messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl


def require(frame: pl.DataFrame, columns: Sequence[str], name: str, *, nulls: Sequence[str] = ()) -> None:
    """Check that a frame has some columns, without nulls.

    Parameters
    ----------
    frame : pl.DataFrame
        The frame to check.
    columns : sequence of str
        Columns that it must have.
    name : str
        Name of the frame in the error message.
    nulls : sequence of str
        Those of `columns` that may contain nulls.

    Raises
    ------
    ValueError
        A column is missing or contains a null.

    Examples
    --------
    >>> require(pl.DataFrame({"n": [1, None]}), ["n"], "counts")
    Traceback (most recent call last):
    ValueError: counts: 1 of 2 rows have no n
    """
    for column in columns:
        if column not in frame.columns:
            raise ValueError(f"{name}: no column {column!r}; it has {frame.columns}, needed are {list(columns)}")
        if column not in nulls and (missing := frame[column].null_count()):
            raise ValueError(f"{name}: {missing} of {frame.height} rows have no {column}")


def require_unique(frame: pl.DataFrame, columns: Sequence[str], name: str) -> None:
    """Raise ValueError naming the first repeated row of `columns`, if there is one; `name` is the frame in the message.

    Examples
    --------
    >>> require_unique(pl.DataFrame({"problem_id": ["p", "q", "p"]}), ["problem_id"], "counts")
    Traceback (most recent call last):
    ValueError: counts: {'problem_id': 'p'} stands 2 times, allowed once
    """
    *outer, last = columns
    # Count within groups: counting distinct rows of several columns at once takes ten times as long, and 1 GB for 7.5M
    # rows.
    distinct = pl.col(last).n_unique()
    count = frame.group_by(outer).agg(distinct)[last].sum() if outer else frame.select(distinct).item()
    if count != frame.height:
        first = frame.group_by(columns).len().filter(pl.col("len") > 1).sort(columns).row(0, named=True)
        times = first.pop("len")
        raise ValueError(f"{name}: {first} stands {times} times, allowed once")


def require_bool(frame: pl.DataFrame, column: str, name: str) -> None:
    """Raise ValueError unless `column` is Boolean: 0/1 numbers or "true" strings would be counted wrongly.

    Examples
    --------
    >>> require_bool(pl.DataFrame({"correct": [0, 1]}), "correct", "samples")
    Traceback (most recent call last):
    ValueError: samples: correct has type Int64; allowed is Boolean
    """
    if frame.schema[column] != pl.Boolean:
        raise ValueError(f"{name}: {column} has type {frame.schema[column]}; allowed is Boolean")


def sample_sizes(ks: Iterable[int]) -> np.ndarray:
    """Return `ks` as sorted distinct int64 values, shape [K].

    Raises
    ------
    ValueError
        A value is below 1 or not a whole number.

    Examples
    --------
    >>> sample_sizes([4, 1, 4]).tolist()
    [1, 4]
    """
    values = sorted(set(ks))
    for k in values:
        if k < 1 or k != int(k):
            raise ValueError(f"k is {k}; allowed are whole numbers of at least 1")
    return np.array(values, dtype=np.int64)


def by_columns(by: str | Sequence[str] | None) -> list[str]:
    """Return the argument `by` of a metric as a list of group columns; an empty one for None.

    Examples
    --------
    >>> by_columns(None), by_columns("level"), by_columns(("level", "model"))
    ([], ['level'], ['level', 'model'])
    """
    return [] if by is None else [by] if isinstance(by, str) else list(by)


def groups(frame: pl.DataFrame, by: Sequence[str]) -> Iterator[tuple[dict[str, Any], pl.DataFrame]]:
    """Yield the values of `by` and the rows of each group, sorted by the values; one group if `by` is empty.

    Examples
    --------
    >>> frame = pl.DataFrame({"level": ["2", "1", "2"], "n": [1, 2, 3]})
    >>> [(values, rows["n"].to_list()) for values, rows in groups(frame, ["level"])]
    [({'level': '1'}, [2]), ({'level': '2'}, [1, 3])]
    """
    if not by:
        yield {}, frame
        return
    for part in frame.sort(by, maintain_order=True).partition_by(by, maintain_order=True):
        yield part.select(by).row(0, named=True), part


def group_schema(frame: pl.DataFrame, by: Sequence[str], columns: Mapping[str, Any]) -> pl.Schema:
    """Return the schema of the group columns `by`, with their types in `frame`, followed by `columns` ({name: type}).

    Examples
    --------
    >>> dict(group_schema(pl.DataFrame({"level": ["1"], "n": [1]}), ["level"], {"value": pl.Float64}))
    {'level': String, 'value': Float64}
    """
    return pl.Schema([*((name, frame.schema[name]) for name in by), *columns.items()])


def with_group(frame: pl.DataFrame, values: dict[str, Any], schema: pl.Schema) -> pl.DataFrame:
    """Return `frame` with the group's values as its first columns, with the types of `schema`.

    Examples
    --------
    >>> schema = pl.Schema({"level": pl.String, "value": pl.Float64})
    >>> with_group(pl.DataFrame({"value": [0.5, 0.7]}), {"level": "1"}, schema).rows()
    [('1', 0.5), ('1', 0.7)]
    """
    return frame.select(*(pl.lit(value, dtype=schema[name]).alias(name) for name, value in values.items()), pl.all())
