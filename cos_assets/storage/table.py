"""The declaration of a table: columns, types and meanings, and the SQL view that follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import polars as pl


class Column(NamedTuple):
    """A column: its polars type and its meaning, one sentence."""

    dtype: Any
    meaning: str


STUDY = {"study": Column(pl.String, "The study's name.")}


class Derived(NamedTuple):
    """A column that only the view has: the SQL expression that computes it."""

    sql: str
    column: Column


@dataclass(frozen=True)
class Table:
    """A table that assets write, and the view of it in `cos.duckdb`."""

    holds: str
    """What the table holds, one sentence. The first line of the view's comment."""
    row: str
    """What a row is: "One row per ...". The second line of the view's comment."""
    columns: Mapping[str, Column]
    """The columns of the frame that an asset returns."""
    labels: Mapping[str, Column] = field(default_factory=lambda: STUDY)
    """The columns that `tables.write` puts in front: the study, and the dimensions of the partition."""
    files: str = ""
    """The pattern of the files below the root; by default those of the assets with the table's name."""
    derived: Mapping[str, Derived] = field(default_factory=dict)
    filename: bool = False
    """Whether the view shows `filename`, the path of the file that holds the row. `derived` may always use it."""
    by_hand: bool = False
    """Whether the view is a file in sql/views, because it is not simply the rows of the table's files."""

    @property
    def schema(self) -> pl.Schema:
        """The schema of the frame that an asset returns."""
        return pl.Schema({name: each.dtype for name, each in self.columns.items()})

    @property
    def stored(self) -> dict[str, Column]:
        """The columns of a stored file: the labels and the columns."""
        return {**self.labels, **self.columns}

    def empty(self) -> pl.DataFrame:
        """Return a frame without rows that has the columns of a stored file."""
        return pl.DataFrame(schema={name: each.dtype for name, each in self.stored.items()})

    @property
    def shown(self) -> dict[str, Column]:
        """All columns of the view."""
        filename = {"filename": Column(pl.String, "Path of the file that holds the row.")} if self.filename else {}
        return {**self.stored, **filename, **{name: each.column for name, each in self.derived.items()}}

    def view(self, name: str) -> str:
        """Return the SQL that creates the view `name`. `{root}` is the placeholder of the root of the tables.

        The SQL lists the columns, so that the view has them before any file exists. `allow_empty` then gives one
        column, `empty`, and no rows.
        """
        types = {column: duckdb_type(each.dtype) for column, each in self.stored.items()}
        types |= {"filename": "VARCHAR", "empty": "BOOLEAN"}
        columns = ",\n        ".join(f'"{column}" {kind}' for column, kind in types.items())
        hidden = "empty" if self.filename else "empty, filename"
        more = "".join(f', {each.sql} AS "{column}"' for column, each in self.derived.items())
        return f"""CREATE VIEW "{name}" AS
SELECT * EXCLUDE ({hidden}){more} FROM (
    SELECT unnest(NULL::STRUCT(
        {columns}
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{{root}}/{self.files or f"*/{name}/**/data.parquet"}',
        union_by_name = true, hive_partitioning = false, filename = true, allow_empty = true
    )
);
"""


_DUCKDB: dict[Any, str] = {
    pl.String: "VARCHAR",
    pl.Boolean: "BOOLEAN",
    pl.Int32: "INTEGER",
    pl.Int64: "BIGINT",
    pl.Float64: "DOUBLE",
    pl.Datetime("us", "UTC"): "TIMESTAMP WITH TIME ZONE",
}


def duckdb_type(dtype: Any) -> str:
    """Return the type that DuckDB reads from a Parquet column of a polars type. Raises KeyError for other types.

    >>> duckdb_type(pl.List(pl.Struct({"model": pl.String, "samples": pl.Int64})))
    'STRUCT("model" VARCHAR, "samples" BIGINT)[]'
    """
    if isinstance(dtype, pl.List):
        return f"{duckdb_type(dtype.inner)}[]"
    if isinstance(dtype, pl.Struct):
        fields = (f'"{each.name}" {duckdb_type(each.dtype)}' for each in dtype.fields)
        return f"STRUCT({', '.join(fields)})"
    return _DUCKDB[dtype]
