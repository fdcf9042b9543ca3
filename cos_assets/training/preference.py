"""Trainers for preferences, from TRL: DPO on pairs, KTO on labelled rows.

The loss, the reference model and the log-probabilities are TRL's. Tokens, batches and checkpoints are those of `loop`,
so TRL's own preparation of texts is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cos_assets.training.data import IGNORE, Labelled, Objective, Pair, Row
from cos_assets.training.job import Job, Prepared


def arguments_class(objective: Objective) -> type[Any]:
    """Return the class of the Trainer's arguments."""
    if objective == "sft":
        from transformers import TrainingArguments

        return TrainingArguments
    from trl import DPOConfig, KTOConfig

    return DPOConfig if objective == "dpo" else KTOConfig


def arguments(job: Job, objective: Objective) -> Mapping[str, Any]:
    """Return the arguments that TRL's classes add. No length is given, because long rows are dropped before."""
    if objective == "sft":
        return {}
    beta = job.settings.preference.beta
    # Checkpointing is turned on in the network itself (`network.with_less_memory`).
    return {"beta": beta, "max_length": None, "gradient_checkpointing": False}


def trainer(job: Job, prepared: Prepared, model: Any, objective: Objective, **settings: Any) -> Any:
    """Return TRL's trainer. `settings` are those of transformers' Trainer, without the data.

    The reference model is the base: with adapters the network without them, else a second, frozen network.
    """
    import torch
    from trl import DPOTrainer, KTOTrainer

    kind: Any = DPOTrainer if objective == "dpo" else KTOTrainer

    class WithTokens(kind):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    reference = None
    if "lora" not in job.settings.method:
        reference = job.base.load(next(model.parameters()).dtype).requires_grad_(False).eval()
    with torch.random.fork_rng():  # the trainer sets the seed again
        made = WithTokens(
            model=model,
            ref_model=reference,
            train_dataset=_dataset(prepared, objective, settings["args"].per_device_train_batch_size),
            data_collator=_collator(objective)(pad_token_id=prepared.collator.pad),
            processing_class=job.base.tokenizer(),
            **settings,
        )
    if "ref" in getattr(model, "peft_config", {}):
        # TRL copies the adapter as a second one, the reference. A new adapter changes nothing, so the network without
        # it is the same reference; and with two adapters the Trainer does not resume.
        model.delete_adapter("ref")
    for weight in model.parameters():
        if weight.requires_grad and job.settings.method == "qlora":
            weight.data = weight.data.float()  # TRL makes the adapters of quantized networks bf16
    return made


def labelled_batch(examples: Sequence[Any], pad: int) -> dict[str, Any]:
    """Return a batch of examples as TRL's collator makes it, with the labels that its mask of completions gives."""
    objective: Objective = "dpo" if isinstance(examples[0], Pair) else "kto"
    batch = _collator(objective)(pad_token_id=pad)([_columns(example) for example in examples])
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORE)
    return {"input_ids": batch["input_ids"], "labels": labels}


def _collator(objective: Objective) -> Any:
    from trl.trainer import dpo_trainer, kto_trainer

    if objective == "dpo":
        return dpo_trainer.DataCollatorForPreference
    return kto_trainer.DataCollatorForUnpairedPreference


def _dataset(prepared: Prepared, objective: Objective, batch: int) -> Any:
    """Return the rows in the order of the schedule, as TRL's columns of tokens."""
    from datasets import Dataset

    rows = [_columns(example) for example in prepared.rows]
    ordered = [rows[i] for i in prepared.plan.ravel()]
    if objective == "kto":  # the KL term pairs each prompt with another completion of the batch, as TRL does
        for start in range(0, len(ordered), batch):
            part = ordered[start : start + batch]
            others = [part[-1], *part[:-1]]
            ordered[start : start + batch] = [
                row | {"KL_completion_ids": other["completion_ids"]} for row, other in zip(part, others, strict=True)
            ]
    return Dataset.from_list(ordered)


def _columns(example: Row | Pair | Labelled) -> dict[str, Any]:
    if isinstance(example, Pair):
        chosen, rejected = example.chosen, example.rejected
        prompt = chosen.prompt  # the same in both
        return {
            "prompt_ids": chosen.ids[:prompt].tolist(),
            "chosen_ids": chosen.ids[prompt:].tolist(),
            "rejected_ids": rejected.ids[prompt:].tolist(),
        }
    row = example.row if isinstance(example, Labelled) else example
    ids, label = row.ids.tolist(), isinstance(example, Labelled) and example.desirable
    return {"prompt_ids": ids[: row.prompt], "completion_ids": ids[row.prompt :], "label": label}
