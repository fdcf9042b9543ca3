"""Where a study's tables come from: what was spent in which stage, what was dropped, and what each was made of."""

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
UNREAD_HEAD = ("budget", "model", "complete solutions", "no answer read", "extract: flexible reads", "of them right")
_SHOWN = 8  # hex digits of a version


@dataclass(frozen=True)
class Provenance:
    """`lineage` is what stands in the lineage.json of every table's partition, of this study and of those that it reads
    from; `spend` is `generation.spend.by_stage`."""

    lineage: list[Mapping[str, Any]] = field(default_factory=list)
    spend: pl.DataFrame = field(default_factory=lambda: spend.BY_STAGE.to_frame())


def read(root: Place, study: str, tables: Iterable[tuple[str, str | None]]) -> Provenance:
    """What `tables` ("study/asset", partition) were made of, back to the beginning."""
    found: dict[tuple[str, str | None], Mapping[str, Any]] = {}
    waiting = list(tables)
    while waiting:
        asset, partition = waiting.pop()
        if (asset, partition) not in found and (lineage := _lineage(root, asset, partition)) is not None:
            found[asset, partition] = lineage
            waiting += [(one["asset"], one["partition"]) for one in lineage["inputs"]]
    return Provenance([found[key] for key in sorted(found, key=str)], spend.by_stage(root, study))


def _lineage(root: Place, asset: str, partition: str | None) -> Mapping[str, Any] | None:
    """A key does not say of which dimensions it is; where a table lies does."""
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
    """How many rows each step towards an SFT set left."""
    facts = {one["partition"]: one["facts"] for one in made.lineage if _is(one, spec, "sft_set")}
    for budget in spec.budgets:
        for arm in spec.arms:
            known = facts.get(f"{budget}|{arm}")
            if known:
                names = ("taken", "verified", "distinct", "rows", "problems")
                yield budget, arm, *("–" if known.get(name) is None else f"{known[name]:,}" for name in names)


def unread_cells(spec: StudySpec, made: Provenance) -> Iterable[tuple[str, ...]]:
    """A line per sample set of whose complete solutions too many state no answer that is read."""
    facts = {one["partition"]: one["facts"] for one in made.lineage if _is(one, spec, "verdicts")}
    for budget in spec.budgets:
        for model in spec.models:
            known = facts.get(f"{budget}|{model}", {})
            complete, unread = known.get("complete") or 0, known.get("unread") or 0
            if complete and unread >= MOST_UNREAD * complete:
                lenient = (f"{known[name]:,}" for name in ("flexible_would_read", "flexible_would_be_right"))
                yield budget, model, f"{complete:,}", f"{unread:,} ({unread / complete:.0%})", *lenient


def table_cells(spec: StudySpec, made: Provenance) -> Iterable[tuple[str, ...]]:
    """A line per table: its partitions, rows, what they hold as one short hash, and the tables it was made from."""
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
    """(what, which version) of data, prompt, extraction, grader and judges."""
    facts: Mapping[str, Any] = next((one["facts"] for one in made.lineage if _is(one, spec, "problems")), {})
    judged = {str(one["facts"].get("judge_version")) for one in made.lineage if _is(one, spec, "judgements")}
    asked = {spec.task.asked_version(model.chat, spec.sampling.shots) for model in spec.models.values()}
    return [
        ("problem set", ", ".join([spec.task.name, *(str(v) for k, v in facts.items() if k.endswith("revision"))])),
        ("prompt", ", ".join(sorted(asked))),
        ("answer extraction", spec.task.reading),
        ("grader", GRADER_VERSION),
        *([("judge", ", ".join(sorted(judged)))] if judged else []),
    ]


def _is(lineage: Mapping[str, Any], spec: StudySpec, asset: str) -> bool:
    return bool(lineage["study"] == spec.name and lineage["asset"] == asset)
