"""Training at one learning rate with the Trainer of transformers: checkpoints, and resuming after a kill.

A checkpoint is complete once its marker file exists, which is written last. Checkpoints without a marker are removed.
Training resumes from the last marked checkpoint with the same batches and random numbers, and reaches the same weights.
"""

from __future__ import annotations

import gc
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cos_assets.generation import compute, loaded
from cos_assets.generation.weights import architecture
from cos_assets.training import memory, packing, preference
from cos_assets.training.data import objective_of
from cos_assets.training.job import Job, Prepared, write_json
from cos_assets.training.network import check_packages, trainable, wants_bf16, with_less_memory

MARKER = "COMPLETE.json"
# Files that only the newest checkpoint needs. They make it three times as large as the weights.
_FOR_RESUMING = ("optimizer.*", "pytorch_model_fsdp*", "scheduler.pt", "rng_state*.pth")  # one rng_state per process
_TRIM_EVERY = 4  # steps
_SCHEDULERS = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
_OPTIMIZERS = {"adamw": "adamw_torch_fused"}  # the others have the same name in transformers


OnStep = Callable[[int, float | None], None]
"""Called with the number of finished steps, and the loss at the last checkpoint; None before the first one."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    `loss` is the mean over the steps since the previous checkpoint, in nats per token; None if it is not finite, or if
    an external trainer does not tell it (`told`).
    `seconds` is the training time up to the checkpoint, without steps that were lost to a kill.
    """

    folder: Path
    step: int
    loss: float | None
    seconds: float
    told: bool = True

    @property
    def diverged(self) -> bool:
        """Whether the loss is not finite."""
        return self.loss is None and self.told


def train(folder: Path, job: Job, learning_rate: float, prepared: Prepared, on_step: OnStep) -> list[Checkpoint]:
    """Train at one learning rate and return the checkpoints in `folder`, sorted by step.

    Training resumes from the last complete checkpoint in `folder`; if it has already ended, nothing is trained. It ends
    at the job's last step, or at the first checkpoint whose loss is not finite. Raises ValueError for a precision that
    this device lacks.
    """
    done = complete_checkpoints(folder)
    if not ended(done, job.steps):
        train_on(folder, job, learning_rate, prepared, done, on_step)
        network = architecture(job.base.name, job.base.revision)
        if loaded.worth_keeping(network and network.num_parameters()):
            compute.give_back_memory()  # the evaluation that follows needs it
        done = complete_checkpoints(folder)
    on_step(job.steps, done[-1].loss)
    return done


def ended(done: Sequence[Checkpoint], steps: int) -> bool:
    """Return whether a training with checkpoints `done` has ended: at `steps`, or at a loss that is not finite."""
    return bool(done) and (done[-1].step >= steps or done[-1].diverged)


def train_on(
    folder: Path,
    job: Job,
    learning_rate: float,
    prepared: Prepared,
    done: Sequence[Checkpoint],
    on_step: OnStep,
) -> None:
    """Train from the last of the checkpoints `done`. Each process that accelerate has started calls this function.

    The rows of a step are divided among the processes. The loss is the mean over all completion tokens of the step,
    whatever the number of processes.
    """
    import torch
    from transformers import PrinterCallback, Trainer

    settings, dataset, collator = job.settings, prepared.dataset, prepared.collator
    objective = objective_of(job.rows)
    if settings.cpu_offload and not torch.cuda.is_available():
        raise ValueError("cpu_offload: needs GPUs; on processors the shares are in the machine's memory anyway")
    check_packages(settings)  # raises before anything is loaded, as does the next line
    bf16 = wants_bf16(settings, job.base)
    settings = memory.decided(job.base, settings, prepared.longest, bf16, objective)
    processes = settings.num_processes or 1
    arguments = preference.arguments_class(objective)(
        output_dir=str(folder),
        max_steps=job.steps,
        per_device_train_batch_size=settings.batch_size // (settings.gradient_accumulation * processes),
        gradient_accumulation_steps=settings.gradient_accumulation,
        train_sampling_strategy="sequential",  # the dataset is already in order
        remove_unused_columns=False,  # the dataset's rows are not dicts
        learning_rate=learning_rate,
        lr_scheduler_type=_SCHEDULERS[settings.scheduler],
        warmup_steps=math.ceil(settings.warmup * job.steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim=_OPTIMIZERS.get(settings.optimizer, settings.optimizer),
        bf16=bf16 and settings.weights == "fp32",
        seed=job.seed,
        use_cpu=not torch.cuda.is_available(),
        # The callback requests logs and saves at checkpoints only, so that other steps need not wait for them.
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        fsdp=True if settings.sharding else None,
        fsdp_config={"version": 2, "cpu_offload": settings.cpu_offload} if settings.sharding else None,
        **preference.arguments(job, objective),
    )
    if settings.sharding:
        _shard_on_processors(arguments)
    if arguments.world_size != processes:
        raise ValueError(f"num_processes: {processes}, but found {arguments.world_size} processes; do not use torchrun")
    loaded.release()
    arguments._n_gpu = 1  # otherwise the Trainer multiplies the batch size by the number of visible GPUs
    model = trainable(job.base, settings, bf16, job.seed)
    if settings.packing and not done:
        few = range(min(4, settings.batch_size, len(dataset)))
        packing.check(model.to(arguments.device), [dataset[i] for i in few], collator.pad, job.base.name)
    trims = arguments.use_cpu and loaded.worth_keeping(model.num_parameters())
    callbacks = [
        _checkpoints(folder, settings.checkpoint_steps(job.steps), on_step, done, trims),
        *([_check_of_shares()] if settings.sharding else []),
    ]
    if objective == "sft":
        with_less_memory(model, settings)
        trainer = Trainer(
            model=model, args=arguments, train_dataset=dataset, data_collator=collator, callbacks=callbacks
        )
    else:  # its loss never holds all logits
        with_less_memory(model, settings.model_copy(update={"chunked_loss": False}))
        trainer = preference.trainer(job, prepared, model, objective, args=arguments, callbacks=callbacks)
    trainer.remove_callback(PrinterCallback)
    with _little_to_collect(), compute.torch_threads(model.num_parameters()):
        trainer.train(resume_from_checkpoint=str(done[-1].folder) if done else None)


def _shard_on_processors(arguments: Any) -> None:
    """Let processes on processors share the weights, too.

    accelerate shards on accelerators only, and on processors it trains with copies of everything, without a word. Here
    its state says that the processes can be sharded; FSDP2 itself works on processors.
    """
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    if arguments.distributed_state.distributed_type == DistributedType.MULTI_CPU:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def _check_of_shares() -> Any:
    """Return a Trainer callback that raises RuntimeError if this process holds more than its share of the weights."""
    from torch.distributed.tensor import DTensor
    from transformers import TrainerCallback

    class Shares(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            weights = list(model.parameters())
            whole = sum(weight.numel() for weight in weights)
            held = sum(w.to_local().numel() if isinstance(w, DTensor) else w.numel() for w in weights)
            print(f"process {args.process_index} holds {held} of {whole} parameters", flush=True)
            if held > 1.1 * whole / args.world_size:  # shares differ by some rows
                raise RuntimeError(
                    f"sharding: a process holds {held:,} of {whole:,} parameters; the model is not sharded"
                )

    return Shares()


def complete_checkpoints(folder: Path) -> list[Checkpoint]:
    """Remove unmarked checkpoints in `folder` and return the marked ones, sorted by step.

    No other process may be training in `folder`.
    """
    for path in folder.glob("checkpoint-*"):
        if not (path / MARKER).is_file():
            shutil.rmtree(path)
    return marked_checkpoints(folder)


def marked_checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the marked checkpoints in `folder`, sorted by step."""
    found = [
        Checkpoint(marker.parent, **json.loads(marker.read_text(encoding="utf-8")))
        for marker in folder.glob(f"checkpoint-*/{MARKER}")
    ]
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def _checkpoints(folder: Path, at: Sequence[int], on_step: OnStep, done: Sequence[Checkpoint], trims: bool) -> Any:
    """Return a Trainer callback that saves and marks a checkpoint at each of the steps `at`.

    With `trims`, memory is returned to the system now and then. Rows of many lengths leave gaps in it, which grew by a
    half in 30 steps of a model with 0.5 billion parameters.
    """
    from transformers import TrainerCallback

    started = time.perf_counter()
    seconds_before = done[-1].seconds if done else 0.0

    class Checkpoints(TrainerCallback):
        loss = done[-1].loss if done else None
        begun = False

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if args.world_size > 1 and not self.begun:
                self.begun = True
                compute.give_back_memory()
                held = compute.held_memory() / 1e9
                print(f"process {args.process_index} holds {held:.2f} GB after its first step", flush=True)
            if trims and state.global_step % _TRIM_EVERY == 0:
                compute.trim()
            on_step(state.global_step, self.loss)
            control.should_log = control.should_save = state.global_step in at

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            step, loss = state.global_step, state.log_history[-1]["loss"]
            finite = math.isfinite(loss)
            self.loss = loss if finite else None
            if not finite:
                control.should_training_stop = True
            if args.world_size > 1:
                args.distributed_state.wait_for_everyone()  # until each process has written its RNG state
            if args.process_index != 0:
                return
            seconds = seconds_before + time.perf_counter() - started
            path = folder / f"checkpoint-{step}"
            write_json(path / MARKER, {"step": step, "loss": self.loss, "seconds": seconds})
            for older in folder.glob("checkpoint-*"):
                if older != path:
                    for name in _FOR_RESUMING:
                        for file in older.glob(name):
                            file.unlink()

    return Checkpoints()


@contextmanager
def _little_to_collect() -> Iterator[None]:
    """Exclude existing objects from garbage collection while the block runs.

    There are a million of them once the libraries are loaded. The Trainer collects garbage when it starts, which would
    take as long as ten steps of a tiny model.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
