"""Provenance of a study's tables: the spend of each stage, the rows that were dropped, and the inputs of each table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from cos_assets.generation import spend
from cos_assets.grading.answers import GRADER_VERSION
from cos_assets.judging.readable import MOST_UNREAD
from cos_assets.storage.paths import Place
from cos_assets.storage.tables import content_hash, lineage
from cos_assets.study import StudySpec

SPEND_HEAD = ("stage", "calls", "failed", "cut off", "tokens in", "tokens out", "FLOPs", "cost")
TABLE_HEAD = ("table", "partitions", "rows", "version", "made from")
DROPPED_HEAD = ("budget", "data", "taken", "verified", "distinct", "kept", "problems")
UNREAD_HEAD = ("budget", "model", "complete solutions", "without an answer", "read by flexible", "correct of these")
_SHOWN = 8  # hex digits of a version that are shown


@dataclass(frozen=True)
class Provenance:
    """The lineage of a study's tables, and what the study spent.

    `lineage` holds the lineage.json of every partition of the study's tables and of the tables it reads from other
    studies. `spend` is the result of `generation.spend.by_stage`.
    """

    lineage: list[Mapping[str, Any]] = field(default_factory=list)
    spend: pl.DataFrame = field(default_factory=lambda: spend.BY_STAGE.to_frame())


def read(root: Place, study: str, tables: Iterable[tuple[str, str | None]]) -> Provenance:
    """Read the lineage of `tables` ("study/asset", partition) and of all tables that they depend on."""
    found: dict[tuple[str, str | None], Mapping[str, Any]] = {}
    waiting = list(tables)
    while waiting:
        asset, partition = waiting.pop()
        if (asset, partition) not in found and (lineage := _lineage(root, asset, partition)) is not None:
            found[asset, partition] = lineage
            waiting += [(one["asset"], one["partition"]) for one in lineage["inputs"]]
    return Provenance([found[key] for key in sorted(found, key=str)], spend.by_stage(root, study))


def _lineage(root: Place, asset: str, partition: str | None) -> Mapping[str, Any] | None:
    """Read the lineage of a partition. None if there is none. A key does not name its dimensions, so the folders of
    all possible dimensions are tried."""
    study, _, table = asset.rpartition("/")
    keys = partition.split("|") if partition is not None else []
    for names in [("budget", "model"), ("budget", "source")] if len(keys) == 2 else [("model",)[: len(keys)]]:
        if found := lineage(root, study, table, dict(zip(names, keys, strict=True))):
            return found
    return None


def spend_cells(made: Provenance) -> Iterable[tuple[str, ...]]:
    for row in made.spend.iter_rows(named=True):
        yield (
            row["stage"],
            *(f"{row[name]:,}" for name in ("calls", "failed", "truncated")),
            *("–" if row[name] is None else f"{row[name]:,}" for name in ("prompt_tokens", "completion_tokens")),
            "unknown" if row["flops"] is None else f"{row['flops']:.3g}",
            "–" if row["cost"] is None else f"{row['cost']:,.4f}",
        )


def dropped_cells(spec: StudySpec, made: Provenance) -> Iterable[tuple[str, ...]]:
    """Yield the number of rows that are left after each step towards an SFT set."""
    facts = {one["partition"]: one["facts"] for one in made.lineage if _is(one, spec, "sft_set")}
    for budget in spec.budgets:
        for arm in spec.arms:
            known = facts.get(f"{budget}|{arm}")
            if known:
                names = ("taken", "verified", "distinct", "rows", "problems")
                yield budget, arm, *("–" if known.get(name) is None else f"{known[name]:,}" for name in names)


def unread_cells(spec: StudySpec, made: Provenance) -> Iterable[tuple[str, ...]]:
    """Yield a line per sample set in which too many complete solutions state no readable answer."""
    facts = {one["partition"]: one["facts"] for one in made.lineage if _is(one, spec, "verdicts")}
    for budget in spec.budgets:
        for model in spec.models:
            known = facts.get(f"{budget}|{model}", {})
            complete, unread = known.get("complete") or 0, known.get("unread") or 0
            if complete and unread >= MOST_UNREAD * complete:
                lenient = (f"{known[name]:,}" for name in ("flexible_would_read", "flexible_would_be_right"))
                yield budget, model, f"{complete:,}", f"{unread:,} ({unread / complete:.0%})", *lenient


def table_cells(spec: StudySpec, made: Provenance) -> Iterable[tuple[str, ...]]:
    """Yield a line per table: its partitions, its rows, a short hash of its content, and its input tables."""
    tables: dict[str, list[Mapping[str, Any]]] = {}
    for one in made.lineage:
        name = one["asset"] if one["study"] == spec.name else f"{one['study']}/{one['asset']}"
        tables.setdefault(name, []).append(one)
    for name in sorted(tables, key=lambda name: ("/" in name, name)):
        parts = sorted(tables[name], key=lambda one: one["partition"] or "")
        versions = [one["data_version"] for one in parts]
        version = versions[0] if len(versions) == 1 else content_hash(pl.DataFrame({"version": versions}))
        sources = {one["asset"].removeprefix(f"{spec.name}/") for part in parts for one in part["inputs"]}
        rows = sum(one["rows"] for one in parts)
        yield name, f"{len(parts)}", f"{rows:,}", version[:_SHOWN], ", ".join(sorted(sources)) or "–"


def versions(spec: StudySpec, made: Provenance) -> list[tuple[str, str]]:
    """Return (item, version) of data, prompt, answer extraction, grader and judges."""
    facts: Mapping[str, Any] = next((one["facts"] for one in made.lineage if _is(one, spec, "problems")), {})
    judged = {str(one["facts"].get("judge_version")) for one in made.lineage if _is(one, spec, "judgements")}
    asked = {spec.task.asked_version(model.chat, spec.sampling_of(n).shots) for n, model in spec.models.items()}
    return [
        ("problem set", ", ".join([spec.task.name, *(str(v) for k, v in facts.items() if k.endswith("revision"))])),
        ("prompt", ", ".join(sorted(asked))),
        ("answer extraction", spec.task.reading),
        ("grader", GRADER_VERSION),
        *([("judge", ", ".join(sorted(judged)))] if judged else []),
    ]


def _is(lineage: Mapping[str, Any], spec: StudySpec, asset: str) -> bool:
    return bool(lineage["study"] == spec.name and lineage["asset"] == asset)
