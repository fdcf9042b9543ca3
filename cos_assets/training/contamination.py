"""Contamination check: find evaluation problems in the rows that a model is trained on."""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

N = 13
"""The number of consecutive words that two texts must share, as in Brown et al. 2020 (arXiv 2005.14165), appendix C."""
DIRTY = 0.8
"""The minimum share of a question's words in such runs for the question to count as contaminated, as in Touvron et al.
2023 (arXiv 2307.09288), appendix A.6. Texts with a smaller share have only a phrase in common."""

SCHEMA = pl.Schema(
    {"problem_id": pl.String, "where": pl.String, "scored_id": pl.String, "share": pl.Float64, "shared": pl.String}
)
_WORD = re.compile(r"\w+")
_Words = tuple[str, ...]


def overlaps(rows: pl.DataFrame, problems: pl.DataFrame, scored: pl.DataFrame, n: int = N) -> pl.DataFrame:
    """Return pairs of a training text and an evaluation question that share words, in the schema `SCHEMA`.

    Parameters
    ----------
    rows : the SFT set [problem_id, completion].
    problems : [problem_id, question] of at least the problems of `rows`.
    scored : [problem_id, question] of the evaluation problems.

    The questions and completions of `rows` are compared with the questions of `scored`, as lowercase words. `share` is
    the share of the words of the scored question that are in runs of `n` words that both texts contain. It is 1 if all
    words are the same, even if there are fewer than `n`. `where` is "question" or "completion". `shared` contains the
    first shared words. There is one row per problem, `where` and scored problem, sorted by descending share.
    """
    whole: dict[_Words, list[str]] = {}
    grams: dict[_Words, list[tuple[str, int]]] = {}
    lengths: dict[str, int] = {}
    for scored_id, question in scored.select("problem_id", "question").iter_rows():
        words = _words(question)
        whole.setdefault(words, []).append(scored_id)
        lengths[scored_id] = len(words)
        for position, gram in enumerate(_grams(words, n)):
            grams.setdefault(gram, []).append((scored_id, position))
    asked = problems.join(rows, on="problem_id", how="semi").select("problem_id", "question").iter_rows()
    told = rows.select("problem_id", "completion").unique(maintain_order=True).iter_rows()
    covered: dict[tuple[str, str, str], set[int]] = {}
    shared: dict[tuple[str, str, str], _Words] = {}
    for where, texts in (("question", asked), ("completion", told)):
        for problem_id, text in texts:
            words = _words(text)
            for scored_id in whole.get(words, ()):
                covered.setdefault((problem_id, where, scored_id), set()).update(range(len(words)))
                shared.setdefault((problem_id, where, scored_id), words[:n])
            for gram in _grams(words, n):
                for scored_id, position in grams.get(gram, ()):
                    covered.setdefault((problem_id, where, scored_id), set()).update(range(position, position + n))
                    shared.setdefault((problem_id, where, scored_id), gram)
    found = [(*key, len(places) / max(1, lengths[key[2]]), " ".join(shared[key])) for key, places in covered.items()]
    return pl.DataFrame(found, schema=SCHEMA, orient="row").sort("share", descending=True, maintain_order=True)


def _words(text: str) -> _Words:
    return tuple(_WORD.findall(text.lower()))


def _grams(words: _Words, n: int) -> Iterator[_Words]:
    return (words[i : i + n] for i in range(len(words) - n + 1))
