"""One training at one learning rate: the library's Trainer, its checkpoints, and how it goes on after a kill.

A checkpoint counts once its marker is there, which is written last. What a kill left without a marker is removed, and
training goes on from the last marked one, with the same batches and the same random numbers, to the same weights.
"""

from __future__ import annotations

import gc
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cos_assets.generation.weights import load_network
from cos_assets.training import packing
from cos_assets.training.settings import Finetune

MARKER = "COMPLETE.json"
# What only the newest checkpoint needs, and what makes it three times as large as the weights.
_FOR_RESUMING = ("optimizer.pt", "scheduler.pt", "rng_state*.pth")  # of several processes, each writes the last one
_SCHEDULERS = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


@dataclass(frozen=True)
class Base:
    """The model that is finetuned: a folder or a hub id, the hub's revision, and whether it is asked as a chat, with
    which further arguments of the chat template."""

    name: str
    revision: str | None = None
    chat: bool = False
    template: Mapping[str, Any] | None = None

    def load(self, dtype: Any) -> Any:
        return load_network(self.name, revision=self.revision, dtype=dtype)

    def config(self) -> Any:
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self.name, revision=self.revision, trust_remote_code=False)

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.name, revision=self.revision, trust_remote_code=False)


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint. `loss` is the mean over the steps since the one before, in nats per token; None means that
    it is not finite any more. `seconds` counts from the start of the training, without what a kill undid."""

    folder: Path
    step: int
    loss: float | None
    seconds: float


def train(
    folder: Path,
    base: Base,
    dataset: Any,
    collator: Any,
    settings: Finetune,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    on_step: Callable[[int], None],
) -> list[Checkpoint]:
    """Train on `dataset`, which holds exactly steps x batch_size rows in order, and leave checkpoints in `folder`.

    Goes on from the last complete checkpoint there, and returns at once when training has ended. It ends at `steps`, or
    at the first checkpoint at which the loss is not finite. Raises ValueError for a precision that this device lacks.
    """
    done = complete_checkpoints(folder)
    if not ended(done, steps):
        train_on(
            folder,
            base,
            dataset,
            collator,
            settings,
            done,
            steps=steps,
            learning_rate=learning_rate,
            seed=seed,
            on_step=on_step,
        )
        _free_the_gpu()  # what evaluates next wants its memory
        done = complete_checkpoints(folder)
    on_step(steps)
    return done


def ended(done: Sequence[Checkpoint], steps: int) -> bool:
    """Has a training that left these checkpoints come to its end?"""
    return bool(done) and (done[-1].step >= steps or done[-1].loss is None)


def train_on(
    folder: Path,
    base: Base,
    dataset: Any,
    collator: Any,
    settings: Finetune,
    done: Sequence[Checkpoint],
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    on_step: Callable[[int], None],
    callbacks: Sequence[Any] = (),
) -> None:
    """Go on after the checkpoints `done`, in as many processes as accelerate has started; each of them calls this.

    A step's rows are shared out among them, and the loss is the mean over all of its completion tokens whatever their
    number is.
    """
    import torch
    from transformers import PrinterCallback, Trainer, TrainingArguments

    bf16 = wants_bf16(settings)  # raises before anything is loaded
    processes = settings.num_processes or 1
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size // (settings.gradient_accumulation * processes),
        gradient_accumulation_steps=settings.gradient_accumulation,
        train_sampling_strategy="sequential",  # the dataset is already in order
        remove_unused_columns=False,  # the dataset's rows are no dicts
        learning_rate=learning_rate,
        lr_scheduler_type=_SCHEDULERS[settings.scheduler],
        warmup_steps=math.ceil(settings.warmup * steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=bf16,
        seed=seed,
        use_cpu=not torch.cuda.is_available(),
        # The callback asks for logs and saves where they are wanted; every other step has nothing to wait for.
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    if arguments.world_size != processes:
        raise ValueError(f"num_processes: {processes}, but found {arguments.world_size}; start it without torchrun")
    arguments._n_gpu = 1  # otherwise the Trainer multiplies the batch by the GPUs it sees
    model = trainable(base, settings, bf16, seed)
    if settings.packing and not done:
        few = range(min(4, settings.batch_size, len(dataset)))
        packing.check(model.to(arguments.device), [dataset[i] for i in few], collator.pad, base.name)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=collator,
        callbacks=[
            _checkpoints(folder, settings.checkpoint_steps(steps), on_step, done[-1].seconds if done else 0.0),
            *callbacks,
        ],
    )
    trainer.remove_callback(PrinterCallback)
    with _little_to_collect():
        trainer.train(resume_from_checkpoint=str(done[-1].folder) if done else None)


def _free_the_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def wants_bf16(settings: Finetune) -> bool:
    """Mixed precision or not, on this device."""
    import torch

    if torch.cuda.is_available():
        has, takes = torch.cuda.is_bf16_supported(including_emulation=False), True
    else:
        found = torch.cpu.get_capabilities()
        has, takes = any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")), False
    if settings.precision == "bf16" and not has:
        raise ValueError("precision: bf16 is not in this machine's GPU, or CPU if it has none; allowed: auto, fp32")
    return has and (settings.precision == "bf16" or (settings.precision == "auto" and takes))


def trainable(base: Base, settings: Finetune, bf16: bool, seed: int) -> Any:
    """The base model, ready to be trained, with untrained adapters for LoRA.

    Weights that are trained are fp32, also under mixed precision; what LoRA leaves alone is bf16 there.
    """
    import torch
    from transformers import set_seed

    if settings.method == "full":
        return base.load(torch.float32)
    from peft import LoraConfig, get_peft_model

    lora = settings.lora
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a float does as well
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        revision=base.revision,  # what the adapter belongs on, to be served there
    )
    set_seed(seed)  # the adapters start at random
    return get_peft_model(base.load(torch.bfloat16 if bf16 else torch.float32), config)


def complete_checkpoints(folder: Path) -> list[Checkpoint]:
    """The marked checkpoints in `folder` by step; unmarked ones are removed, so nobody may be training there."""
    for path in folder.glob("checkpoint-*"):
        if not (path / MARKER).is_file():
            shutil.rmtree(path)
    return marked_checkpoints(folder)


def marked_checkpoints(folder: Path) -> list[Checkpoint]:
    """The marked checkpoints in `folder` by step."""
    found = [
        Checkpoint(marker.parent, **json.loads(marker.read_text(encoding="utf-8")))
        for marker in folder.glob(f"checkpoint-*/{MARKER}")
    ]
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def _checkpoints(folder: Path, at: Sequence[int], on_step: Callable[[int], None], seconds_before: float) -> Any:
    """A callback that saves and marks a checkpoint at each of the steps `at`."""
    from transformers import TrainerCallback

    started = time.perf_counter()

    class Checkpoints(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            on_step(state.global_step)
            control.should_log = control.should_save = state.global_step in at

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            step, loss = state.global_step, state.log_history[-1]["loss"]
            finite = math.isfinite(loss)
            if not finite:
                control.should_training_stop = True
            if args.world_size > 1:
                args.distributed_state.wait_for_everyone()  # each of them has written its random numbers' state
            if args.process_index != 0:
                return
            seconds = seconds_before + time.perf_counter() - started
            path = folder / f"checkpoint-{step}"
            write_json(path / MARKER, {"step": step, "loss": loss if finite else None, "seconds": seconds})
            for older in folder.glob("checkpoint-*"):
                if older != path:
                    for name in _FOR_RESUMING:
                        for file in older.glob(name):
                            file.unlink()

    return Checkpoints()


@contextmanager
def _little_to_collect() -> Iterator[None]:
    """Spare the garbage collector the objects that are there already, a million of them once the libraries are loaded.

    The Trainer collects garbage when it starts, which takes as long as ten steps of a tiny model.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
