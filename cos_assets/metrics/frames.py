"""Checks and helpers for the input frames of all metrics, with uniform error messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
            raise ValueError(f"{name}: column {column!r} is missing; found: {frame.columns}; needed: {list(columns)}")
        if column not in nulls and (missing := frame[column].null_count()):
            raise ValueError(f"{name}: {missing} of {frame.height} rows have no {column}")


def require_unique(frame: pl.DataFrame, columns: Sequence[str], name: str) -> None:
    """Raise ValueError naming the first repeated row of `columns`, if there is one; `name` is the frame in the message.

    Examples
    --------
    >>> require_unique(pl.DataFrame({"problem_id": ["p", "q", "p"]}), ["problem_id"], "counts")
    Traceback (most recent call last):
    ValueError: counts: {'problem_id': 'p'} occurs 2 times; allowed: once
    """
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


def require_counts(counts: pl.DataFrame, by: Sequence[str] = ()) -> None:
    """Check a frame of counts [*by, problem_id, n, c]: one row per problem (and group), with 0 <= c <= n.

    Columns of `by` may have nulls.

    Raises
    ------
    ValueError
        A column is missing or has a null, a problem is repeated, or c is outside 0..n.

    Examples
    --------
    >>> require_counts(pl.DataFrame({"problem_id": ["p"], "n": [2], "c": [3]}))
    Traceback (most recent call last):
    ValueError: counts: problem 'p' has c = 3 of n = 2; allowed is 0 <= c <= n
    """
    require(counts, [*by, "problem_id", "n", "c"], "counts", nulls=by)
    require_unique(counts, [*by, "problem_id"], "counts")
    wrong = counts.filter((pl.col("c") < 0) | (pl.col("c") > pl.col("n")))
    if wrong.height:
        problem, n, c = wrong.select("problem_id", "n", "c").row(0)
        raise ValueError(f"counts: problem {problem!r} has c = {c} of n = {n}; allowed is 0 <= c <= n")


def by_columns(by: str | Sequence[str] | None) -> list[str]:
    """Return the argument `by` of a metric as a list of group columns; an empty one for None.

    Examples
    --------
    >>> by_columns(None), by_columns("level"), by_columns(("level", "model"))
    ([], ['level'], ['level', 'model'])
    """
    return [] if by is None else [by] if isinstance(by, str) else list(by)


def by_group(
    frame: pl.DataFrame,
    by: Sequence[str],
    columns: Mapping[str, Any],
    measure: Callable[[pl.DataFrame], pl.DataFrame],
) -> pl.DataFrame:
    """Return `measure(rows)` of each group, one below the other, with the values of `by` as the first columns.

    Parameters
    ----------
    frame : pl.DataFrame
        Rows of all groups. If it has none, neither has the result.
    by : sequence of str
        Group columns; the result is sorted by them. If there are none, all rows are one group.
    columns : mapping of str to type
        Schema of what `measure` returns.
    measure : callable
        It receives the rows of one group.

    Examples
    --------
    >>> frame = pl.DataFrame({"level": ["2", "1", "2"], "n": [1, 2, 3]})
    >>> by_group(frame, ["level"], {"n": pl.Int64}, lambda rows: rows.select(pl.col("n").sum())).rows()
    [('1', 2), ('2', 4)]
    """
    schema = pl.Schema([*((name, frame.schema[name]) for name in by), *columns.items()])
    parts = [frame] if frame.height else []
    if parts and by:
        parts = frame.sort(by, maintain_order=True).partition_by(by, maintain_order=True)
    tables = [schema.to_frame()]
    for rows in parts:
        values = [pl.lit(rows[name][0], dtype=schema[name]).alias(name) for name in by]
        tables.append(measure(rows).select(*values, pl.all()))
    return pl.concat(tables)
