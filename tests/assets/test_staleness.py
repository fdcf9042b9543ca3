"""Every field of the study that an asset reads is part of its code version, or of that of an upstream asset.

The list of what an asset depends on (`config=`) is written by hand. Here a small study is materialized while every read
of a field of the study is recorded. Then each field that was read gets another value: the code version of the asset, or
of one upstream, must change, or its partitions. Otherwise a change in the YAML would leave an outdated table.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from typing import Any

import dagster as dg
import pytest
from pydantic import BaseModel
from support import Silent

from cos_assets import study, tasks, tiny
from cos_assets.assets import build_study, step
from cos_assets.orchestration import executor, instance
from cos_assets.orchestration.graph import Graph
from cos_assets.orchestration.io_manager import ParquetIOManager
from cos_assets.study import StudySpec
from cos_assets.study.models import CheckpointRef, SamplingKeys
from cos_assets.training.settings import Finetune

Field = tuple[str, ...]
"""The keys that lead to a field, for example ("sampling", "max_tokens")."""

# Patterns of fields that an asset reads but does not depend on, with the reason.
NO_RESULT = {
    "* name": "part of the asset key",
    "* cap.*": "limits the spending; no table depends on it",
    "* *.unreadable": "stops a purchase; no sample depends on it",
    "base_eval count_prefill": "the ledger's FLOPs of the answers, which the table does not hold",
    "student_checkpoint finetune.num_processes": "the same training in another number of processes",
    "student_checkpoint finetune.sharding": "as num_processes",
    "student_checkpoint finetune.cpu_offload": "as num_processes",
    "student_checkpoint finetune.gradient_checkpointing": "less memory for the same training",
    "student_checkpoint finetune.chunked_loss": "less memory for the same training",
    "budget_plan sources.*": "checked against the plan before anything is bought",
    "pilot judge.judges.*": "the preflight of models that judge",
    "pilot targets.*": "checks that the trainings fit into memory",
    "pilot finetune.*": "checks that the trainings fit into memory",
    "pilot sources.*": "checks that the trainings fit into memory",
}
STUDY: dict[str, Any] = {
    "name": "read",
    "task": {"name": "arithmetic", "train": 12, "validation": 4, "test": 6},
    "models": {
        name: {"model": str(tiny.shipped(name)), "price": {"output": price, "date": "2026-01-01"}}
        for name, price in (("wc", 0.1), ("se", 0.3))
    },
    "budgets": {"low": {"se": 1}},
    "match_rule": "measured",
    "sampling": {"temperature": 0.7, "top_k": 3, "max_tokens": 56},
    "pilot": {"problems": 6, "samples": 2},
    "sources": {"gt": {"reference_solutions": True}, "mix": {"take": {"wc": 0.5, "se": 0.5}}},
    "targets": {"student": {"model": str(tiny.shipped("student"))}},
    "finetune": {"steps": 2, "batch_size": 4, "checkpoints": 1},
    "evaluation": {"samples": 2, "maj_at": [2]},
    "judge": {"judges": {"steps": {"method": "steps"}}, "controls": 2},
    "cap": {"cost": 100.0},
}


def fields_of(value: Any, path: Field = ()) -> Iterator[tuple[int, Field]]:
    """Yield the identity and the path of every model within a study."""
    if isinstance(value, BaseModel):
        yield id(value), path
        for name in type(value).model_fields:
            yield from fields_of(value.__dict__[name], (*path, name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from fields_of(item, (*path, str(key)))


def is_leaf(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
    return not any(isinstance(item, BaseModel) for item in items)


@pytest.fixture(scope="module")
def reads(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudySpec, dict[str, set[Field]]]:
    """The study, and the fields that the body of each asset read while all of them were materialized."""
    found: dict[str, set[Field]] = defaultdict(set)
    current: list[str] = []
    spec = study.parse(STUDY)
    paths = dict(fields_of(spec))

    def read(self: BaseModel, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if current and id(self) in paths and name in type(self).model_fields and is_leaf(value):
            found[current[-1]].add((*paths[id(self)], name))
        return value

    @contextmanager
    def recorded(context: dg.AssetExecutionContext) -> Iterator[None]:
        current.append(context.asset_key.path[-1])
        try:
            yield
        finally:
            current.pop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COS_HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("DAGSTER_HOME", raising=False)
        patch.setattr(step, "_tried_again", recorded)
        patch.setattr(BaseModel, "__getattribute__", read, raising=False)
        instance.prepare()
        resources = {"io_manager": ParquetIOManager()}
        definitions = dg.Definitions(build_study(spec), resources=resources, executor=dg.in_process_executor)
        graph = Graph(definitions)
        with instance.open_instance() as opened:
            made = executor.run(graph, opened, graph.batches(graph.units(graph.keys())), Silent(), jobs=1)
        assert not made.failed
    return spec, dict(found)


def versions(spec: StudySpec) -> dict[str, tuple[Any, ...]]:
    """The code version and the partitions of each asset, with those of all assets upstream."""
    own: dict[str, Any] = {}
    upstream: dict[str, set[str]] = {}
    for asset in build_study(spec):
        if isinstance(asset, dg.AssetsDefinition):
            key = asset.key.path[-1]
            keys = asset.partitions_def.get_partition_keys() if asset.partitions_def else []
            own[key] = (asset.code_versions_by_key[asset.key], tuple(keys))
            upstream[key] = {each.path[-1] for each in asset.asset_deps[asset.key] if each.path[0] == spec.name}

    def above(key: str) -> set[str]:
        return {key}.union(*(above(each) for each in upstream.get(key, ())))

    return {key: tuple(own[each] for each in sorted(above(key)) if each in own) for key in own}


# Other values of fields that allow only some.
ALLOWED: dict[str, Any] = {
    "allocation": "adaptive",
    "benchmarks": [tasks.make({"name": "gsm8k"})],
    "checkpoint": CheckpointRef(study="tiny", target="student"),
    "compare": ["se", "wc"],
    "engine": "vllm",
    "finetune": Finetune(steps=3),
    "method": "llm",
    "sampling": SamplingKeys(max_tokens=7),
    "verification": "answer+steps",
}


def others(value: Any, name: str = "") -> list[Any]:
    """Other values of the same kind."""
    if name in ALLOWED:
        return [ALLOWED[name]]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value / 2]
    if isinstance(value, str):
        return [f"{value}x"]
    if isinstance(value, list | tuple):
        return [type(value)([*value, *(others(value[-1]) if value else [1])])]
    if isinstance(value, dict):
        return [{**value, key: other} for key, item in value.items() for other in others(item)] or [{"x": 1}]
    return [1, "x", {"x": 1}]


def changed(value: Any, path: Field, other: Any) -> Any:
    """A copy in which the field at `path` is `other`, without validation."""
    if not path:
        return other
    if isinstance(value, dict):
        return {key: changed(item, path[1:], other) if str(key) == path[0] else item for key, item in value.items()}
    return value.model_copy(update={path[0]: changed(value.__dict__[path[0]], path[1:], other)})


def at(value: Any, path: Field) -> Any:
    for key in path:
        value = value[key] if isinstance(value, dict) else value.__dict__[key]
    return value


def test_every_field_that_an_asset_reads_is_part_of_its_version(reads: tuple[StudySpec, dict[str, set[Field]]]) -> None:
    spec, found = reads
    before = versions(spec)
    assert found.keys() == before.keys(), "every asset was materialized"
    after: dict[Field, list[dict[str, tuple[Any, ...]]]] = {}
    for path in set().union(*found.values()):
        after[path] = []
        for other in others(at(spec, path), path[-1]):
            with suppress(Exception), warnings.catch_warnings():  # a value that is not allowed in a study
                warnings.simplefilter("ignore")
                after[path].append(versions(changed(spec, path, other)))
    unseen = {path for path, versions_then in after.items() if not versions_then}
    assert not unseen, f"no other value can be built: {unseen}"
    outdated = [
        f"{asset} reads {'.'.join(path)}"
        for asset, paths in sorted(found.items())
        for path in sorted(paths)
        if all(then.get(asset) == before[asset] for then in after[path])
        and not any(fnmatch(f"{asset} {'.'.join(path)}", pattern) for pattern in NO_RESULT)
    ]
    assert not outdated, "\n".join(outdated)
