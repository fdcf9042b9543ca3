"""Several judges together: what most of those say who say anything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import polars as pl

from cos_assets.judging.table import Label, table

JUDGE_VERSION = "1"
_KEY = ["problem_id", "sample_index", "control"]


def judge(rows: pl.DataFrame, members: Mapping[str, pl.DataFrame], name: str) -> pl.DataFrame:
    """A label for each of `rows`, from the members' judgements of at least these samples.

    A member that could say nothing has no vote; a tie, and nobody's vote, is "undecided". No step is named: judges
    count steps in different ways. What it costs stands with its members.
    """
    said = {
        member: {tuple(key): label for *key, label in frame.select(*_KEY, "label").iter_rows()}
        for member, frame in members.items()
    }
    labels = []
    for sample in rows.select(_KEY).iter_rows():
        sides = {side: [m for m, told in said.items() if told[sample] == side] for side in ("right", "wrong")}
        right, wrong = len(sides["right"]), len(sides["wrong"])
        label = "undecided" if right == wrong else "right" if right > wrong else "wrong"
        told = "; ".join(f"{side}: {', '.join(names)}" for side, names in sides.items() if names)
        labels.append(Label(label, None, told or "none of its judges could tell"))
    versions = "/".join(str(frame["judge_version"].first()) for frame in members.values())
    digest = hashlib.sha256(f"{'/'.join(members)}/{versions}".encode()).hexdigest()[:12]
    return table(rows, name, f"{JUDGE_VERSION}/{digest}", labels)
