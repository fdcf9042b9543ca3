"""The memory that the trainings of a study need, known before anything is bought."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import polars as pl

from cos_assets.assets.models import target, target_spec, trained_from
from cos_assets.assets.step import Inputs, Step
from cos_assets.generation import engines
from cos_assets.generation.generate import preflight
from cos_assets.generation.prompts import prompt_ids
from cos_assets.generation.types import Model
from cos_assets.study import StudySpec
from cos_assets.training import hosted, memory
from cos_assets.training.data import Objective
from cos_assets.training.job import Base
from cos_assets.training.network import check_packages, wants_bf16
from cos_assets.training.settings import Finetune
from cos_assets.training.sft_sets import prompts

_SMALL = 2e7  # parameters; smaller models fit everywhere, and their plan would take longer than their training
_MODEL = {"model", "checkpoint", "revision", "engine", "engine_options", "chat"}
_SAME_MEMORY = {
    "steps",
    "seeds",
    "checkpoints",
    "learning_rate",
    "warmup",
    "scheduler",
    "weight_decay",
    "max_grad_norm",
}
_LONGEST = 16  # prompts that are counted in tokens, by their number of characters


def planned_trainings(spec: StudySpec) -> dict[str, Any]:
    """Return by target the settings that `training_plan` depends on, as JSON."""
    return {
        name: [
            target_spec(spec, name).model_dump(mode="json", include=_MODEL),
            spec.finetuning_of(name).model_dump(mode="json", exclude=_SAME_MEMORY),
        ]
        for name in spec.targets
    } | ({} if _largest(spec) == "sft" else {"objective": _largest(spec)})


def training_plan(step: Step, inputs: Inputs, problems: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Return by target what one process of its training needs, in bytes (`memory.Memory`), and for which batch.

    Rows are taken to be as long as the longest prompt with `max_tokens` of the sampler that may write most, at most
    `max_length` and the model's context. Left out are targets below 20 million parameters, those with an external
    trainer or one behind an API, and architectures that transformers does not know.

    Raises
    ------
    ValueError
        If a target does not exist, if its settings need a package or an API that is missing, or if this machine has
        GPUs and a training does not fit on one of them. The message names settings that fit.
    """
    spec, found = step.spec, {}
    objective = _largest(spec)
    for name in spec.targets:
        if target_spec(spec, name).checkpoint is not None:  # as large as the model that it was made from
            continue
        try:
            model = target(step, name, inputs)
        except (ValueError, OSError) as error:
            raise ValueError(f"targets.{name}: {error}") from None
        settings = spec.finetuning_of(name)
        check_packages(settings)
        if settings.method == "hosted":
            _check_api(name, model)
            continue
        if settings.method == "external" or not model.params or model.params < _SMALL:
            continue
        base = trained_from(model)
        length = _longest_row(step, base, settings, problems)
        bf16 = _bf16(settings, base)
        decided = memory.decided(base, settings, length, bf16, objective)
        known = memory.estimate(base.name, base.revision, decided, length, bf16, objective)
        if known is None:
            continue
        _check_gpu(name, base, decided, length, bf16, known, objective)
        rows = settings.batch_size // (settings.gradient_accumulation * (settings.num_processes or 1))
        found[name] = {
            "method": settings.method,
            "rows": rows,
            "length": length,
            "gradient_checkpointing": decided.gradient_checkpointing is True,
            "chunked_loss": decided.chunked_loss is True,
            **asdict(known),
            "total": known.total,
        }
    return found


def _largest(spec: StudySpec) -> Objective:
    """Return the objective of the study's sources whose training needs most memory."""
    used = {source.objective for source in spec.arms.values()}
    return "dpo" if "dpo" in used else "kto" if "kto" in used else "sft"


def _check_api(name: str, model: Model) -> None:
    try:
        preflight(model)
        hosted.preflight(trained_from(model))
    except (ValueError, ConnectionError, RuntimeError) as error:
        raise ValueError(f"targets.{name}: {error}") from None


def _longest_row(step: Step, base: Base, settings: Finetune, problems: pl.DataFrame) -> int:
    spec, tokenizer = step.spec, base.tokenizer()
    asked = prompts(spec.task, problems, base.chat is not None)["prompt"]
    longest = asked.gather(asked.str.len_chars().arg_sort(descending=True).head(_LONGEST))
    prompt = max((len(prompt_ids(tokenizer, text, base.chat)) for text in longest), default=0)
    sampled = [name for name, model in spec.models.items() if not engines.get(model.engine).recorded]
    completion = max((spec.sampling_of(name).max_tokens for name in sampled), default=spec.sampling.max_tokens)
    context = getattr(base.config().get_text_config(), "max_position_embeddings", None)
    return min(n for n in (prompt + completion + 1, settings.max_length, context) if n)


def _bf16(settings: Finetune, base: Base) -> bool:
    try:
        return wants_bf16(settings, base)
    except ValueError:  # this machine only plans; the one that trains checks again
        return True


def _check_gpu(
    name: str,
    base: Base,
    settings: Finetune,
    length: int,
    bf16: bool,
    known: memory.Memory,
    objective: Objective,
) -> None:
    limit = memory.of_gpu()
    if limit is None or known.total <= limit:
        return
    fits = memory.fitting(base, settings, length, bf16, limit, objective)
    advice = "no other settings fit either; choose a smaller model or max_length"
    if fits is not None:
        said = ", ".join(f"{key}: {str(value).lower()}" for key, value in fits[0].items())
        advice = f"it would fit with {said} ({fits[1] / 1e9:.1f} GB)"
    parts = ", ".join(f"{part} {size / 1e9:.1f}" for part, size in asdict(known).items() if part != "accumulates")
    raise ValueError(
        f"finetune: a training of {name} on rows of up to {length} tokens needs {known.total / 1e9:.1f} GB on each GPU"
        f" ({parts}), and a GPU of this machine has {limit / 1e9:.1f} GB; {advice}"
    )
