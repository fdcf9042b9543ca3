"""What every stage shares: how an asset is declared, and which model a study means."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from cos_assets import automation, network, progress, store
from cos_assets.assets.checks import SOUND, Check, Rule, sound
from cos_assets.budget import Prices
from cos_assets.generation.door import Buyer, check
from cos_assets.generation.engines.openai_options import Options, api_of
from cos_assets.generation.model import resolve
from cos_assets.generation.spend import Cap, Stage
from cos_assets.generation.types import Model
from cos_assets.io_manager import STOPPED_BY
from cos_assets.judging.llm import structured
from cos_assets.models import CheckpointRef, ModelSpec, TargetSpec
from cos_assets.partitions import as_dict
from cos_assets.places import Place
from cos_assets.report.figures import svg
from cos_assets.study import StudySpec
from cos_assets.training import checkpoints

TELL_EVERY = 30.0
"""Seconds. Every observation is a row in Dagster's own database."""
Inputs = Mapping[str, pl.LazyFrame]
Body = Callable[["Step", Inputs], dg.MaterializeResult]


class Refused(RuntimeError):
    """A check failed before anything was spent."""


class Step:
    """One materialization: the study, the partition, and where things lie."""

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
        """Go on only where a check passes. Raises Refused; that it failed stands in the UI all the same."""
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
                    blocking=check.rule.stops,
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
    """An asset of a study. `config` is what its result depends on besides its inputs: it makes the code version, so
    that a change in the YAML makes stale what it touches, and nothing else. `checks` are the rules of which the body's
    `result` or `Step.require` says whether they are kept. `pool` is what it shares with other assets (see `pools`).
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
        automation_condition=automation.condition(spec),
        pool=pool,
    )
    def compute(context, **inputs):  # no annotations: Dagster takes them for types, and cannot read them as text
        step = Step(spec, context)
        started, meter = time.perf_counter(), progress.Meter()
        with progress.shown_by(meter, shown_in(context)):
            if ins:
                step.require(sound(*context.resources.io_manager.unsound(context)))
            with _tried_again(context):
                made = body(step, inputs)
        # What this run spent; what is in the ledger already, or trained already, is not paid for again.
        spent = {f"spent_{name}": value for name, value in meter.spent().items()}
        outcomes = [*(check.outcome() for check in step.required), *(made.check_results or [])]
        metadata = {**_as_written(spec, made.metadata or {}), **spent, "run_seconds": time.perf_counter() - started}
        return made._replace(check_results=outcomes, metadata=metadata)

    return compute


def _as_written(spec: StudySpec, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata without the values of environment variables."""

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
    """After a fault of the network, and no other, the step waits and begins again; what was bought is in the ledger."""
    try:
        yield
    except Exception as error:
        if context.retry_number >= len(network.WAITS) or not network.is_fault(error):
            raise
        seconds = network.WAITS[context.retry_number]
        context.log.warning(f"{error}; again in {seconds:g} s")
        raise dg.RetryRequested(max_retries=len(network.WAITS), seconds_to_wait=seconds) from error


def shown_in(context: dg.AssetExecutionContext) -> progress.Sink:
    """Shows in the UI how far the work has come: as a line of the log, and as numbers of the partition."""

    def tell(now: progress.Report) -> None:
        context.log.info(str(now))
        key = context.partition_key if context.has_partition_key else None
        facts: dict[str, Any] = {"doing": now.what, **now.numbers}
        context.log_event(dg.AssetObservation(context.asset_key, partition=key, metadata=facts))

    return progress.every(TELL_EVERY, tell)


def check_spec(rule: Rule, key: dg.AssetKey, partitions: dg.PartitionsDefinition | None) -> dg.AssetCheckSpec:
    """A rule as the UI lists it, for each partition by itself."""
    with warnings.catch_warnings():
        # Checks of partitions are new in Dagster; tests/assets/test_checks.py holds them to what we take them for.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            rule.name, asset=key, description=rule.description, blocking=rule.stops, partitions_def=partitions
        )


def result(
    frame: pl.DataFrame, facts: Mapping[str, Any] | None = None, *checks: Check, **metadata: Any
) -> dg.MaterializeResult:
    """A table with its metadata. `facts` go to the lineage too; equal tables get equal data versions, so that making
    one again leaves what comes after it fresh."""
    plain = {k: v for k, v in (facts or {}).items() if v is not None and v == v}  # NaN is not equal to itself
    if failed := [check.rule.name for check in checks if check.rule.stops and not check.passed]:
        plain[STOPPED_BY] = failed
    return dg.MaterializeResult(
        value=frame,
        data_version=dg.DataVersion(store.content_hash(frame)),
        metadata={**plain, "facts": dg.MetadataValue.json(plain), **metadata},
        check_results=[check.outcome() for check in checks],
    )


def picture(svg: str, alt: str) -> dg.MetadataValue:
    """A figure as the UI shows it: an image in Markdown, nothing beside it."""
    return dg.MetadataValue.md(f"![{alt}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")


def sketch(draw: Callable[..., Any], alt: str, *of: Any) -> dg.MetadataValue:
    """A figure of `report.sketches`, drawn of `of`; words where there is nothing to draw."""
    if not len(of[0]):
        return dg.MetadataValue.text(f"{alt}: none")
    return picture(svg(partial(draw, *of)), alt)


def own(spec: StudySpec, name: str, mapping: dg.PartitionMapping | None = None) -> dg.AssetIn:
    """Another table of the same study as an input."""
    return dg.AssetIn(key=[spec.name, name], partition_mapping=mapping)


def checkpoint_inputs(*parts: ModelSpec | TargetSpec | None) -> dict[str, dg.AssetIn]:
    """The checkpoints of other studies that models refer to, as inputs."""
    found = {}
    for ref in (part.checkpoint for part in parts if part is not None):
        if ref is not None:
            mapping = None
            if ref.budget is not None and ref.source is not None:
                key = dg.MultiPartitionKey({"budget": ref.budget, "source": ref.source})
                mapping = dg.SpecificPartitionsPartitionMapping([key])
            found[_input_name(ref)] = dg.AssetIn(key=[ref.study, f"{ref.target}_checkpoint"], partition_mapping=mapping)
    return found


def sampler(step: Step, name: str, inputs: Inputs, problems: pl.DataFrame | None = None) -> Model:
    """The model that a study's `models:` names. `problems` are what imported solutions are matched to."""
    model = step.spec.models[name]
    if model.engine == "imported":
        given = {"path": model.path, "columns": model.columns, "where": model.where, "tokenizer": model.tokenizer}
        options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if problems is not None:
            texts = problems.select("problem_id", "question").iter_rows()
            options["questions"] = {problem_id: step.spec.task.texts(question) for problem_id, question in texts}
        return resolve(model.model or name, engine="imported", params=_active(model), options=options)
    return _resolve(step, model, inputs, _active(model))


def judge_model(step: Step, name: str, inputs: Inputs) -> Model:
    """The model that is a study's judge."""
    judge = step.spec.judge.models[name]
    if judge.engine == "openai" and api_of(Options.read(judge.engine_options), judge.chat) == "chat":
        judge = judge.model_copy(update={"engine_options": structured(judge.engine_options)})
    return _resolve(step, judge, inputs, _active(judge))


def check_samplers(step: Step, inputs: Inputs) -> None:
    """Before anything is bought: is every model there that samples or judges, and does it answer? Costs nothing.

    Raises ValueError that names the model, for example for an unknown hub id or a key that is not set.
    """
    for name, part in step.spec.models.items():
        # The weights of a folder are read when it is sampled: that they are there is enough for now.
        if part.engine == "imported" or (part.params and part.checkpoint is not None):
            continue
        try:
            check(sampler(step, name, inputs))
        except (ValueError, ConnectionError) as error:
            raise ValueError(f"models.{name}: {error}") from None
    for name, judge in step.spec.judge.models.items():
        if judge.checkpoint is None:
            try:
                check(judge_model(step, name, inputs))
            except (ValueError, ConnectionError) as error:
                raise ValueError(f"judge {name}: {error}") from None


def _active(model: ModelSpec) -> float | None:
    """The parameters that a token passes through."""
    return model.active_params or model.params


def target(step: Step, name: str, inputs: Inputs) -> Model:
    """The untouched model that a study's `targets:` names; {} means the sampler of that name."""
    part = step.spec.targets[name]
    own_model = part.model is None and part.checkpoint is None
    return _resolve(step, step.spec.models[name] if own_model else part, inputs)


def target_spec(spec: StudySpec, name: str) -> ModelSpec | TargetSpec:
    """What says where a target comes from."""
    part = spec.targets[name]
    return spec.models[name] if part.model is None and part.checkpoint is None else part


def prices(spec: StudySpec, model: str) -> Prices | None:
    """What a model's tokens cost; a batch API's discount is taken off where the model is asked through one."""
    return prices_of(spec.models[model])


def prices_of(part: ModelSpec) -> Prices | None:
    """The same of any model."""
    batch = part.engine == "openai" and bool(part.engine_options.get("batch"))
    return part.price.of(batch) if part.price else None


def checkpoint_folder(step: Step, frame: pl.LazyFrame) -> Path:
    """Where the model of a checkpoint table lies on this machine, complete; of several seeds the first."""
    return checkpoints.fetched(step.root, *frame.select("path", "hash").collect().row(0))


def _resolve(step: Step, part: ModelSpec | TargetSpec, inputs: Inputs, params: float | None = None) -> Model:
    if part.checkpoint is not None:
        model_id = str(checkpoint_folder(step, inputs[_input_name(part.checkpoint)]))
    else:
        model_id = str(Path(part.model or "").expanduser())
    return resolve(
        model_id,
        engine=part.engine,
        revision=part.revision,
        params=params,
        chat=part.chat,
        options=part.engine_options,
    )


def _input_name(ref: CheckpointRef) -> str:
    return "_".join(["checkpoint", *(p for p in (ref.study, ref.target, ref.budget, ref.source) if p)])


@contextmanager
def single_thread_torch() -> Iterator[None]:
    """One torch thread where there is no GPU: the same bits whatever else the machine does, and faster for small models
    than two threads that wait for one another."""
    import torch

    before = torch.get_num_threads()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
