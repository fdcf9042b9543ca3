"""Filters of data arms: subsets of problems, deduplication, balanced levels and a number of rows.

Every draw sorts rows by a hash of the seed and the row's key. A larger draw therefore contains a smaller one, and two
arms of one study draw the same problems.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import polars as pl

from cos_assets.tasks import Task

SHINGLE = 5
"""The number of consecutive words in a shingle. Texts are compared by their sets of shingles."""
NEAR = 0.8
"""The minimum Jaccard similarity of the shingle sets of near-duplicates, as in Lee et al. 2022 (arXiv 2107.06499,
section 4.2 and appendix A). It is computed exactly and not by MinHash: a problem has few solutions, and hashing them
takes longer than comparing them."""
_WORD = re.compile(r"\w+|[^\w\s]")


def subset(problems: pl.DataFrame, wanted: int | float | None, seed: int) -> pl.DataFrame:
    """Draw `wanted` of `problems` [problem_id, ...] (an int), or that share of them (a float), in their order.

    None returns all problems. Raises ValueError if there are fewer than `wanted`.
    """
    if wanted is None:
        return problems
    if wanted > problems.height:
        raise ValueError(f"problems: {wanted} is more than the {problems.height} problems that are sampled")
    count = wanted if isinstance(wanted, int) else max(1, round(wanted * problems.height))
    return drawn(problems, ["problem_id"], count, f"{seed}/problems")


def drawn(rows: pl.DataFrame, names: list[str], count: int, seed: str) -> pl.DataFrame:
    """Draw `count` of `rows` (all if there are fewer), in their order. `names` are the key columns of a row."""
    if count >= rows.height:
        return rows
    text = pl.concat_str(pl.lit(seed), *(pl.col(name).cast(pl.String).fill_null("") for name in names), separator="/")
    lots = [hashlib.sha256(name.encode()).digest() for name in rows.select(text).to_series()]
    return rows[sorted(sorted(range(rows.height), key=lots.__getitem__)[:count])]


def deduplicated(rows: pl.DataFrame, how: str, task: Task) -> pl.DataFrame:
    """Keep the first of equal `rows` [problem_id, completion, ...] of each problem.

    Rows that are equal except for white space are always duplicates. `how` defines which other rows are:

    exact      none
    equations  rows with the same canonical equations in the same order, or without any equations and with the same
               text except for case and markup (`Task.identity`)
    near       near-duplicates of a row that is kept, see `NEAR`
    """
    text = pl.col("completion").str.replace_all(r"\s+", " ").str.strip_chars()
    rows = rows.with_columns(_text=text).unique(["problem_id", "_text"], keep="first", maintain_order=True)
    if how == "equations":
        rows = rows.with_columns(_key=pl.Series(map(task.identity, rows["completion"]), dtype=pl.String))
        rows = rows.unique(["problem_id", "_key"], keep="first", maintain_order=True).drop("_key")
    elif how == "near":
        rows = rows.filter(pl.Series(list(_new(rows.select("problem_id", "_text").iter_rows())), dtype=pl.Boolean))
    return rows.drop("_text")


def balanced(rows: pl.DataFrame, problems: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Draw as many of `rows` from each level as the rarest level has, in their order.

    The level of a row is that of its problem. Raises ValueError if a problem has no level.
    """
    levels = problems.select("problem_id", "level")
    rows = rows.join(levels, on="problem_id", how="left", maintain_order="left").with_row_index("_row")
    if missing := rows["level"].null_count():
        raise ValueError(
            f"balance: level: {missing} of {rows.height} rows belong to problems without a level; leave balance out"
        )
    parts = rows.partition_by("level")
    least = min((part.height for part in parts), default=0)
    names = ["model", "problem_id", "sample_index"]
    kept = [drawn(part, names, least, f"{seed}/balance") for part in parts]
    return (pl.concat(kept) if kept else rows).sort("_row").drop("_row", "level")


def _new(texts: Iterable[tuple[str, str]]) -> Iterable[bool]:
    """Yield for each (problem_id, text) whether it is not a near-duplicate of an earlier kept text of its problem."""
    kept: dict[str, list[set[int]]] = {}
    for problem_id, text in texts:
        words = _WORD.findall(text.lower())
        mine = {hash(tuple(words[i : i + SHINGLE])) for i in range(max(1, len(words) - SHINGLE + 1))}
        others = kept.setdefault(problem_id, [])
        new = not any(_alike(mine, other) for other in others)
        if new:
            others.append(mine)
        yield new


def _alike(one: set[int], other: set[int]) -> bool:
    fewer, more = sorted((len(one), len(other)))
    if fewer < NEAR * more:  # too different in size to reach NEAR
        return False
    both = len(one & other)
    return both >= NEAR * (fewer + more - both)
