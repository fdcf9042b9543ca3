"""Partitions of a study's assets: the pilot by model, bought samples by budget and model, and everything from the SFT
set on by budget and source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import dagster as dg

from cos_assets.study import StudySpec

MODEL = "model"
"""The dimension of assets with a single partition dimension."""


def pilot_by_model(spec: StudySpec) -> dg.StaticPartitionsDefinition:
    return dg.StaticPartitionsDefinition(list(spec.models))


def by_model(spec: StudySpec) -> dg.MultiPartitionsDefinition:
    return _product(budget=spec.budgets, model=spec.models)


def by_source(spec: StudySpec) -> dg.MultiPartitionsDefinition:
    return _product(budget=spec.budgets, source=spec.arms)


def models_of_source(spec: StudySpec) -> dg.MultiPartitionMapping:
    """Return the mapping from budget|model to budget|source: a source needs its models' samples, at its own budget."""
    arms = spec.arms
    used = {model: [name for name, arm in arms.items() if model in arm.models] for model in spec.models}
    return dg.MultiPartitionMapping(
        {
            "budget": dg.DimensionPartitionMapping("budget", dg.IdentityPartitionMapping()),
            "model": dg.DimensionPartitionMapping("source", dg.StaticPartitionMapping(used)),
        }
    )


def as_dict(key: str, partitions: dg.PartitionsDefinition | None) -> dict[str, str]:
    """Return a partition key as {dimension: key}; empty where there are no partitions."""
    if partitions is None:
        return {}
    if not isinstance(partitions, dg.MultiPartitionsDefinition):
        return {MODEL: key}
    found = key if isinstance(key, dg.MultiPartitionKey) else partitions.get_partition_key_from_str(key)
    return dict(found.keys_by_dimension)


def dimensions(partitions: dg.PartitionsDefinition) -> list[str]:
    """Return the names of the dimensions, in the order that partition keys use."""
    multi = isinstance(partitions, dg.MultiPartitionsDefinition)
    return list(partitions.partition_dimension_names) if multi else [MODEL]  # type: ignore[attr-defined]


def _product(**dimensions: Mapping | Iterable[str]) -> dg.MultiPartitionsDefinition:
    return dg.MultiPartitionsDefinition(
        {name: dg.StaticPartitionsDefinition(list(keys)) for name, keys in dimensions.items()}
    )
