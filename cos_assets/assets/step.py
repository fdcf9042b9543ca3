"""Declaration of the assets of a study, and the context that their bodies receive."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
import polars as pl

from cos_assets import progress
from cos_assets.generation.generate import Buyer
from cos_assets.generation.spend import Cap, Stage
from cos_assets.orchestration import schedule, transient
from cos_assets.orchestration.checks import SOUND, Check, Rule, sound
from cos_assets.orchestration.partitions import as_dict
from cos_assets.storage.paths import Place
from cos_assets.study import StudySpec

TELL_EVERY = 30.0
"""Minimum seconds between progress observations. Each observation is a row in Dagster's own database."""
Inputs = Mapping[str, pl.LazyFrame]
Body = Callable[["Step", Inputs], dg.MaterializeResult]


class Refused(RuntimeError):
    """A check failed before anything was spent."""


class Step:
    """Context of one materialization: the study, the partition, the storage root, the run and its log."""

    def __init__(self, spec: StudySpec, context: dg.AssetExecutionContext) -> None:
        self.spec = spec
        self.context = context
        self.required: list[Check] = []
        self.root: Place = context.resources.io_manager.path
        self.run_id: str = context.run_id
        self.log = context.log
        key = context.partition_key if context.has_partition_key else ""
        self.partition = as_dict(key, context.assets_def.partitions_def)

    @property
    def budget(self) -> str:
        return self.partition["budget"]

    def require(self, check: Check) -> None:
        """Raise Refused if a check failed, after logging its evaluation so that the UI shows it."""
        self.required.append(check)
        if not check.passed:
            key = self.context.partition_key if self.context.has_partition_key else None
            self.context.log_event(
                dg.AssetCheckEvaluation(
                    self.context.asset_key,
                    check.rule.name,
                    passed=False,
                    metadata=check.metadata,
                    severity=check.severity,
                    blocking=check.rule.blocks_downstream,
                    partition=key,
                )
            )
            raise Refused(f"{check.sentence}: {check.rule.description}\n{check.examples or ''}".strip())

    def buyer(self, stage: Stage, model: str) -> Buyer:
        cap = Cap(self.spec.cap.flops, self.spec.cap.cost) if self.spec.cap else None
        return Buyer(self.root, self.spec.name, stage, self.run_id, model, cap, self.spec.count_prefill)


def asset(
    spec: StudySpec,
    name: str,
    body: Body,
    *,
    ins: Mapping[str, dg.AssetIn],
    description: str,
    config: Any,
    partitions: dg.PartitionsDefinition | None = None,
    checks: Sequence[Rule] = (),
    kinds: set[str] = frozenset(),  # type: ignore[assignment]
    pool: str | None = None,
) -> dg.AssetsDefinition:
    """Declare an asset of a study.

    `config` holds everything that the result depends on besides the inputs. Its hash is the code version, so a change
    in the YAML makes only the affected assets stale. `checks` are the rules that the body evaluates, with `result` or
    `Step.require`. `pool` is the Dagster pool that the asset shares with others (see `pools`).
    """
    rules = [*([SOUND] if ins else []), *checks]

    @dg.asset(
        name=name,
        key_prefix=spec.name,
        group_name=spec.name,
        ins=dict(ins),
        partitions_def=partitions,
        description=description,
        code_version=hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:12],
        kinds={"polars", *kinds},
        check_specs=[check_spec(rule, dg.AssetKey([spec.name, name]), partitions) for rule in rules],
        required_resource_keys={"io_manager"},
        automation_condition=schedule.condition(spec),
        pool=pool,
    )
    def compute(context, **inputs):  # not annotated: Dagster reads annotations as types, and cannot resolve strings
        step = Step(spec, context)
        started, meter = time.perf_counter(), progress.Meter()
        with progress.shown_by(meter, shown_in(context)):
            if ins:
                step.require(sound(*context.resources.io_manager.input_problems(context)))
            with _tried_again(context):
                made = body(step, inputs)
        # The spend of this run only: samples in the ledger and models that are already trained cost nothing again.
        spent = {f"spent_{name}": value for name, value in meter.spent().items()}
        outcomes = [*(check.outcome() for check in step.required), *(made.check_results or [])]
        metadata = {**_as_written(spec, made.metadata or {}), **spent, "run_seconds": time.perf_counter() - started}
        return made._replace(check_results=outcomes, metadata=metadata)

    return compute


def _as_written(spec: StudySpec, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata with environment variables as they are written in the YAML, without their values."""

    def written(value: Any) -> Any:
        if isinstance(value, dg.JsonMetadataValue) and value.data is not None:
            return dg.MetadataValue.json(spec.as_written(value.data))
        if isinstance(value, dg.TextMetadataValue):
            return dg.MetadataValue.text(spec.as_written(value.text or ""))
        if isinstance(value, dg.MarkdownMetadataValue):
            return dg.MetadataValue.md(spec.as_written(value.md_str or ""))
        return value if isinstance(value, dg.MetadataValue) else spec.as_written(value)

    return {name: written(value) for name, value in metadata.items()}


@contextmanager
def _tried_again(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Retry the step after a network fault, and after no other error. Samples already bought are in the ledger."""
    try:
        yield
    except Exception as error:
        if context.retry_number >= len(transient.WAITS) or not transient.is_fault(error):
            raise
        seconds = transient.WAITS[context.retry_number]
        context.log.warning(f"{error}; retrying in {seconds:g} s")
        raise dg.RetryRequested(max_retries=len(transient.WAITS), seconds_to_wait=seconds) from error


def shown_in(context: dg.AssetExecutionContext) -> progress.Sink:
    """Return a sink that shows progress in the UI, as a log line and as an observation of the partition."""

    def tell(now: progress.Report) -> None:
        context.log.info(str(now))
        key = context.partition_key if context.has_partition_key else None
        facts: dict[str, Any] = {"doing": now.what, **now.numbers}
        context.log_event(dg.AssetObservation(context.asset_key, partition=key, metadata=facts))

    return progress.every(TELL_EVERY, tell)


def check_spec(rule: Rule, key: dg.AssetKey, partitions: dg.PartitionsDefinition | None) -> dg.AssetCheckSpec:
    """Return the spec of a rule's asset check, which Dagster evaluates for each partition separately."""
    with warnings.catch_warnings():
        # Partitioned checks are a preview feature; tests/orchestration/test_checks.py tests what this code relies on.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            rule.name,
            asset=key,
            description=rule.description,
            blocking=rule.blocks_downstream,
            partitions_def=partitions,
        )


def own(spec: StudySpec, name: str, mapping: dg.PartitionMapping | None = None) -> dg.AssetIn:
    """Return another table of the same study as an asset input."""
    return dg.AssetIn(key=[spec.name, name], partition_mapping=mapping)
