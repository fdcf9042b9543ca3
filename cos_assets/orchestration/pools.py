"""Dagster's concurrency pools.

Assets that train, or whose models run on this machine, share the pool `gpu`. Its limit is the number of GPUs. Without a
GPU the pool has no limit, and `max_concurrent_runs` and `cos run --jobs` limit the use of cores. Models that are called
over HTTP need no pool: their engine keeps to the provider's limits. The ledger of each model admits one writer at a
time, independent of the pools.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import dagster as dg

from cos_assets.generation import engines
from cos_assets.study.models import ModelSpec, TargetSpec

GPU = "gpu"


def pool_of(models: Iterable[ModelSpec | TargetSpec]) -> str | None:
    """Return the pool of an asset that calls these models; None where it needs none."""
    return GPU if any(engines.get(model.engine).gpu for model in models) else None


def gpus() -> int:
    """Return the number of NVIDIA GPUs of this machine, without loading a library that would initialize them."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def set_limit(instance: dg.DagsterInstance) -> None:
    """Set the limit of the pool to the number of GPUs, unless a limit is already set (in the UI, by `dagster instance
    concurrency set gpu N`, or by `default_limit` in dagster.yaml)."""
    log, count = instance.event_log_storage, gpus()
    unset = count and instance.global_op_concurrency_default_limit is None
    if unset and GPU not in log.get_concurrency_keys():
        log.set_concurrency_slots(GPU, count)
