"""Majority vote of several judges."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import polars as pl

from cos_assets.judging.methods import Context, Method
from cos_assets.judging.table import Label, table

JUDGE_VERSION = "1"
_KEY = ["problem_id", "sample_index", "control"]


def judge(rows: pl.DataFrame, members: Mapping[str, pl.DataFrame], name: str) -> pl.DataFrame:
    """Label each of `rows` by the majority of the members' judgements, which cover at least these samples.

    A member without a label right or wrong has no vote. The label is "undecided" for a tie, or if no member has a vote.
    `first_wrong_step` is null, because judges count steps in different ways. The cost is recorded with the members.
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


class Vote(Method):
    """A majority vote of other judges."""

    version = JUDGE_VERSION
    votes = True

    def judge(self, rows: pl.DataFrame, context: Context) -> tuple[pl.DataFrame, int]:
        return judge(rows, context.members, context.name), 0


METHOD = Vote()
