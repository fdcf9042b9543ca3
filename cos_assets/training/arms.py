"""What a data arm makes of the solutions it may use: fewer problems, no repetitions, not too many of one problem,
levels in balance, a number of rows. Every draw goes by a hash of the seed and a row's own name, so that a larger one
holds a smaller one, and two arms of one study draw the same problems.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import polars as pl

from cos_assets.tasks import Task

SHINGLE = 5
"""Words in a row; texts are compared by the sets of them."""
NEAR = 0.8
"""The share of all shingles of two texts that both have, from which on they are near-duplicates; as Lee et al. 2022
(arXiv 2107.06499, section 4.2 and appendix A) have it, but counted exactly: the solutions of one problem are few, and
MinHash takes longer to hash them than it takes to compare them."""
_WORD = re.compile(r"\w+|[^\w\s]")


def subset(problems: pl.DataFrame, wanted: int | float | None, seed: int) -> pl.DataFrame:
    """`wanted` of `problems` [problem_id, ...] (a whole number), or that share of them, in their order. Raises
    ValueError where there are fewer."""
    if wanted is None:
        return problems
    if wanted > problems.height:
        raise ValueError(f"problems: {wanted} are asked for; {problems.height} are sampled")
    count = wanted if isinstance(wanted, int) else max(1, round(wanted * problems.height))
    return drawn(problems, ["problem_id"], count, f"{seed}/problems")


def drawn(rows: pl.DataFrame, names: list[str], count: int, seed: str) -> pl.DataFrame:
    """`count` of `rows`, or all where there are fewer, in their order; `names` are the columns that name a row."""
    if count >= rows.height:
        return rows
    text = pl.concat_str(pl.lit(seed), *(pl.col(name).cast(pl.String).fill_null("") for name in names), separator="/")
    lots = [hashlib.sha256(name.encode()).digest() for name in rows.select(text).to_series()]
    return rows[sorted(sorted(range(rows.height), key=lots.__getitem__)[:count])]


def deduplicated(rows: pl.DataFrame, how: str, task: Task) -> pl.DataFrame:
    """The first of equal `rows` [problem_id, completion, ...] of a problem.

    exact      equal but for white space
    equations  the same canonical equations in the same order; of solutions without any, the same text but for case and
               markup (`Task.identity`)
    near       near-duplicates of one that is kept, see `NEAR`
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
    """As many of `rows` for each level as the rarest level has, in their order. Levels are those of the rows' problems.
    Raises ValueError where a problem has none."""
    levels = problems.select("problem_id", "level")
    rows = rows.join(levels, on="problem_id", how="left", maintain_order="left").with_row_index("_row")
    if missing := rows["level"].null_count():
        raise ValueError(f"balance: level: {missing} of {rows.height} rows are of problems without a level")
    parts = rows.partition_by("level")
    least = min((part.height for part in parts), default=0)
    names = ["model", "problem_id", "sample_index"]
    kept = [drawn(part, names, least, f"{seed}/balance") for part in parts]
    return (pl.concat(kept) if kept else rows).sort("_row").drop("_row", "level")


def _new(texts: Iterable[tuple[str, str]]) -> Iterable[bool]:
    """Is a text no near-duplicate of one of its problem that was new before it?"""
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
    if fewer < NEAR * more:  # they could not share as much
        return False
    both = len(one & other)
    return both >= NEAR * (fewer + more - both)
