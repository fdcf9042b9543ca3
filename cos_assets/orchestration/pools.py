"""Who waits for whom: Dagster's pools.

Assets whose models run here, or that train, share the pool `gpu`. A machine gets as many places in it as it has GPUs;
where it has none, the pool is without a limit, and cores are shared by `max_concurrent_runs` and `cos run --jobs`.
Models that are asked over HTTP need no pool: their engine keeps to the provider's limits, and each model's ledger lets
one writer in at a time, whatever the pools say.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import dagster as dg

from cos_assets.generation import engines
from cos_assets.study.models import ModelSpec, TargetSpec

GPU = "gpu"


def pool_of(models: Iterable[ModelSpec | TargetSpec]) -> str | None:
    """The pool of an asset that asks these models."""
    return GPU if any(engines.get(model.engine).gpu for model in models) else None


def gpus() -> int:
    """NVIDIA GPUs of this machine, without loading a library that would take hold of them."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def set_limit(instance: dg.DagsterInstance) -> None:
    """Give the pool as many places as there are GPUs, unless somebody has set a limit (in the UI, by `dagster instance
    concurrency set gpu N`, or `default_limit` in dagster.yaml)."""
    log, count = instance.event_log_storage, gpus()
    unset = count and instance.global_op_concurrency_default_limit is None
    if unset and GPU not in log.get_concurrency_keys():
        log.set_concurrency_slots(GPU, count)
