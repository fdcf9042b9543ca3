"""Resolution of the models that a study names, including checkpoints of other studies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from cos_assets.assets.step import Inputs, Step
from cos_assets.budget.matching import Prices
from cos_assets.generation import adapters, engines
from cos_assets.generation.generate import preflight
from cos_assets.generation.model import resolve, served_name
from cos_assets.generation.types import Model
from cos_assets.judging.llm import RESPONSE_FORMAT
from cos_assets.study import StudySpec
from cos_assets.study.models import CheckpointRef, ModelSpec, TargetSpec
from cos_assets.training import checkpoints
from cos_assets.training.job import Base


def checkpoint_inputs(*parts: ModelSpec | TargetSpec | None) -> dict[str, dg.AssetIn]:
    """Return the checkpoints of other studies that models refer to, as asset inputs."""
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
    """Return a model of the study's `models:`. Imported solutions are matched to `problems`."""
    model = step.spec.models[name]
    if engines.get(model.engine).recorded:
        given = {"path": model.path, "columns": model.columns, "where": model.where, "tokenizer": model.tokenizer}
        options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if problems is not None:
            texts = problems.select("problem_id", "question").iter_rows()
            options["questions"] = {problem_id: step.spec.task.texts(question) for problem_id, question in texts}
        return resolve(model.model or name, engine=model.engine, params=_active(model), options=options)
    return _resolve(step, model, inputs, _active(model))


def judge_model(step: Step, name: str, inputs: Inputs) -> Model:
    """Return the model of one of the study's judges."""
    judge = step.spec.judge.models[name]
    options = engines.get(judge.engine).json_options(judge.chat_format, judge.engine_options, RESPONSE_FORMAT)
    return _resolve(step, judge.model_copy(update={"engine_options": options}), inputs, _active(judge))


def check_samplers(step: Step, inputs: Inputs) -> None:
    """Check, before anything is bought, that every model that samples or judges exists and can be called.

    Costs nothing. Raises ValueError that names the model, for example for an unknown hub id or a key that is not set.
    """
    for name, part in step.spec.models.items():
        # A checkpoint is an input and so exists; with `params` stated, its weights need not be read before sampling.
        if engines.get(part.engine).recorded or (part.params and part.checkpoint is not None):
            continue
        try:
            preflight(sampler(step, name, inputs))
        except (ValueError, ConnectionError) as error:
            raise ValueError(f"models.{name}: {error}") from None
    for name, judge in step.spec.judge.models.items():
        if judge.checkpoint is None:
            try:
                preflight(judge_model(step, name, inputs))
            except (ValueError, ConnectionError) as error:
                raise ValueError(f"judge {name}: {error}") from None


def _active(model: ModelSpec) -> float | None:
    """Return the number of parameters that a token passes through."""
    return model.active_params or model.params


def target(step: Step, name: str, inputs: Inputs) -> Model:
    """Return the untouched model of one of the study's `targets:`; {} means the sampler of the same name."""
    part = target_spec(step.spec, name)
    if isinstance(part, ModelSpec) and not engines.get(part.engine).local:
        return _resolve(step, part, inputs, _active(part))  # an API's parameters cannot be counted
    return _resolve(step, part, inputs)


def trained_from(model: Model) -> Base:
    """Return a target's untouched model as the base of its training."""
    revision = None if Path(model.model_id).is_dir() else model.revision
    served = {} if engines.get(model.engine).local else model.engine_options
    return Base(model.model_id, revision, model.chat, served, model.params)


def target_spec(spec: StudySpec, name: str) -> ModelSpec | TargetSpec:
    """Return the spec that a target's model is resolved from: its own, or that of the sampler of the same name."""
    part = spec.targets[name]
    return spec.models[name] if part.model is None and part.checkpoint is None else part


def prices(spec: StudySpec, model: str) -> Prices | None:
    """Return the token prices of a sampler, less the discount of a batch API where it is called through one."""
    return prices_of(spec.models[model])


def prices_of(part: ModelSpec) -> Prices | None:
    """Return the token prices of any model (see `prices`); None where the study states none."""
    return part.price.of(engines.get(part.engine).discounted(part.engine_options)) if part.price else None


def finetuned(folder: Path, part: ModelSpec | TargetSpec) -> Model:
    """Return the finetuned model in a folder, to be served like `part`.

    On a GPU, vLLM serves a LoRA model as an adapter on its base, so that one engine serves all that share the base. On
    the processor vLLM computes adapters many times slower than merged models (benchmarks/adapters.py).
    """
    import torch

    model = resolve(str(folder), engine=part.engine, chat=part.chat_format, options=part.engine_options)
    adapter = adapters.find(folder.parent / "adapter")
    if adapter is None or model.engine != "vllm" or not torch.cuda.is_available():
        return model
    moved = Path(adapter.base).is_absolute() and not Path(adapter.base).is_dir()
    return model if moved else replace(model, adapter=str(adapter.folder))


def checkpoint_folder(step: Step, frame: pl.LazyFrame) -> Path:
    """Return the local folder of the complete model of a checkpoint table; of several seeds, the first one."""
    return checkpoints.fetched(step.root, *frame.select("path", "hash").collect().row(0))


def _resolve(step: Step, part: ModelSpec | TargetSpec, inputs: Inputs, params: float | None = None) -> Model:
    if part.checkpoint is not None:
        model_id = str(checkpoint_folder(step, inputs[_input_name(part.checkpoint)]))
        if not engines.get(part.engine).local and served_name(model_id) is None:
            raise ValueError(
                f"engine: {part.engine} serves no weights, and this checkpoint is a folder of them; leave engine: out"
            )
    else:
        model_id = str(Path(part.model or "").expanduser())
    return resolve(
        model_id,
        engine=part.engine,
        revision=part.revision,
        params=params,
        chat=part.chat_format,
        options=part.engine_options,
    )


def _input_name(ref: CheckpointRef) -> str:
    return "_".join(["checkpoint", *(p for p in (ref.study, ref.target, ref.budget, ref.source) if p)])
