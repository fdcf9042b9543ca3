"""Tokens per second of finetuning versus trl's SFTTrainer: same rows, same model, same steps, in one run.

    python benchmarks/training.py [--rounds 3] [--model FOLDER]

    demo      the demo's student on 1,280 of its problems with their solutions (a word is a token), 40 steps of 32 rows
    gsm8k     an untrained Llama of 10 million parameters on GSM8K's reference solutions (a tokenizer of 4,096 tokens),
              4 steps of 8 rows, in bf16 if the machine supports it; from the folder that COS_PUBLIC_DATA names (or
              ../shared/data)
    real      only with --model, and then alone: LoRA of that model on GSM8K's reference solutions, 4 steps of 8 rows

The variants are: ours; ours with packing; trl with its defaults (rows in random order, bf16, gradient checkpointing);
and trl configured like ours (our order of rows, our precision, no checkpointing), which separates the effect of the
code from that of the settings. Learning rate, its schedule and warm-up, optimizer, batch size and steps are ours for
all variants. All log and save at the same steps.

Tokens are those of prompts and completions, without padding. Time is processor time on one thread (real: wall-clock
time, with the threads that each side chooses), from the end of
the first step to the end of the last; loading and tokenizing are excluded. The variants alternate, each round has its
own seed, and the ratio is that of the medians. With the same rows in the same order, losses must be equal except for
rounding. With trl's defaults, every step has different rows. Comparable is then only the loss of the trained models
on held-out problems, relative to its variation between seeds.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cos_assets import tasks
from cos_assets.tiny import shipped
from cos_assets.tiny.tokenizer import bpe_tokenizer
from cos_assets.training.data import Collator, encode, schedule
from cos_assets.training.job import Base, Job
from cos_assets.training.loop import wants_bf16
from cos_assets.training.settings import Finetune
from cos_assets.training.sft import finetune

DATA = Path(os.environ.get("COS_PUBLIC_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
WAYS = ("ours", "ours, packed", "trl as ours", "trl as it comes")


@dataclass(frozen=True)
class World:
    """A training setup: as many `rows` [prompt, completion] as fill `steps` batches, each used once."""

    name: str
    base: Path
    rows: pl.DataFrame
    unseen: pl.DataFrame
    settings: Finetune
    clock: Callable[[], float] = time.process_time

    @property
    def steps(self) -> int:
        return self.settings.steps_for("")


@dataclass(frozen=True)
class Run:
    """Tokens per second after the first step, and losses in nats per token.

    `losses` are the means between consecutive checkpoints; `unseen` is the loss on unseen rows.
    """

    speed: float
    losses: list[float]
    unseen: float


class Clock:
    """Seconds of the world's clock between the end of the first step and the end of the last."""

    def __init__(self, world: World) -> None:
        self.at: dict[int, float] = {}
        self.steps, self.now = world.steps, world.clock

    def __call__(self, step: int) -> None:
        self.at.setdefault(step, self.now())

    def seconds(self) -> float:
        return self.at[self.steps] - self.at[1]


def ours(world: World, seed: int, out: Path, packing: bool) -> Run:
    clock = Clock(world)

    def on_progress(stage: str, done: int, total: int, tokens: int | None, loss: float | None) -> None:
        clock(done)

    settings = world.settings.model_copy(update={"packing": packing})
    job = Job(world.rows, Base(str(world.base)), settings, world.steps, seed)
    trained = finetune(job, out, on_progress=on_progress)
    rows, plan = _planned(world, seed)
    tokens = sum(len(rows[i]) for i in plan[1:].ravel())
    model = Base(str(trained.path)).load(torch.float32)
    return Run(tokens / clock.seconds(), [point["loss"] for point in trained.curve], unseen_loss(model, world))


def trl(world: World, seed: int, out: Path, **given: Any) -> Run:
    """Train with trl's SFTTrainer and its defaults, except for `given`.

    Rows are in our order if the sampling is sequential.
    """
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    clock, settings = Clock(world), world.settings
    every = world.steps // settings.checkpoints

    class Clocked(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock(state.global_step)

    rows = world.rows
    if given.get("train_sampling_strategy") == "sequential":
        rows = rows[_planned(world, seed)[1].ravel().tolist()]
    config = SFTConfig(
        output_dir=str(out),
        max_steps=world.steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rates[0],
        lr_scheduler_type=settings.scheduler,
        warmup_steps=math.ceil(settings.warmup * world.steps),
        logging_steps=every,
        logging_first_step=True,
        save_strategy="steps",
        save_steps=every,
        seed=seed,
        use_cpu=not torch.cuda.is_available(),  # bf16 is the default even on a CPU
        report_to="none",
        disable_tqdm=True,
        **given,
    )
    lora, peft = settings.lora, None
    if settings.method == "lora":
        from peft import LoraConfig

        peft = LoraConfig(
            task_type="CAUSAL_LM", r=lora.r, lora_alpha=int(lora.alpha), target_modules=lora.target_modules
        )
    trainer = SFTTrainer(
        str(world.base),
        config,
        train_dataset=Dataset.from_list(rows.to_dicts()),
        callbacks=[Clocked()],
        peft_config=peft,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    first, *logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    losses = [entry["loss"] for entry in logs]
    if every == 1:
        losses.insert(0, first["loss"])
    else:  # the first step is logged separately and is missing from the mean that follows
        losses[0] += (first["loss"] - losses[0]) / every
    tokens = logs[-1]["num_tokens"] - first["num_tokens"]
    return Run(tokens / clock.seconds(), losses, unseen_loss(trainer.model, world))


def unseen_loss(model: Any, world: World) -> float:
    tokenizer = Base(str(world.base)).tokenizer()
    rows, _ = encode(world.unseen, tokenizer, None)
    batches = [rows[i : i + 25] for i in range(0, len(rows), 25)]
    collate = Collator(tokenizer.pad_token_id)
    with torch.no_grad():
        losses = [model.eval()(**collate(batch), use_cache=False).loss.item() for batch in batches]
    return float(np.average(losses, weights=[sum(len(row) - row.prompt for row in batch) for batch in batches]))


def _planned(world: World, seed: int) -> tuple[list[Any], Any]:
    """Return our rows as tokens, and the row indices of each step."""
    rows, _ = encode(world.rows, Base(str(world.base)).tokenizer(), None)
    return rows, schedule([len(row) for row in rows], world.steps, world.settings.batch_size, seed)


def demo() -> World:
    task = tasks.make({"name": "arithmetic", "train": 1780, "validation": 1, "test": 1})
    settings = Finetune(steps=40, batch_size=32, learning_rate=5e-4, checkpoints=8)
    return World("demo", shipped("student"), *_rows(task, settings, unseen=500), settings)


def gsm8k(folder: Path, hidden: int = 256, layers: int = 9, steps: int = 4) -> World:
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = Finetune(steps=steps, batch_size=8, learning_rate=5e-4, checkpoints=1, precision="bf16")
    try:
        wants_bf16(settings, Base(str(shipped("student"))))
    except ValueError:
        settings = settings.model_copy(update={"precision": "fp32"})
    rows, unseen = _rows(tasks.make({"name": "gsm8k", "path": str(DATA / "gsm8k")}), settings, unseen=25)
    tokenizer = bpe_tokenizer([text for row in rows.iter_rows() for text in row], 4096)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return World("gsm8k", folder, rows, unseen, settings)


def real(model: Path) -> World:
    settings = Finetune(method="lora", steps=4, batch_size=8, learning_rate=5e-4, checkpoints=1)
    rows, unseen = _rows(tasks.make({"name": "gsm8k", "path": str(DATA / "gsm8k")}), settings, unseen=25)
    return World("real", model, rows, unseen, settings, time.perf_counter)


def _rows(task: Any, settings: Finetune, unseen: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the training problems that fill the batches of all steps, and `unseen` others.

    The completions are the reference solutions.
    """
    count = settings.steps_for("") * settings.batch_size
    problems = task.load().filter(pl.col("split") == "train").head(count + unseen)
    prompts = [task.prompt(problem) for problem in problems.to_dicts()]
    rows = pl.DataFrame({"prompt": prompts, "completion": problems["solution"]})
    return rows.head(count), rows.tail(unseen)


def measure(world: World, rounds: int) -> dict[str, list[Run]]:
    """Run every variant once per round, in alternating order."""
    bf16 = wants_bf16(world.settings, Base(str(world.base)))
    alike: dict[str, Any] = {"train_sampling_strategy": "sequential", "bf16": bf16, "gradient_checkpointing": False}
    run: dict[str, Callable[[int, Path], Run]] = {
        "ours": lambda seed, out: ours(world, seed, out, packing=False),
        "ours, packed": lambda seed, out: ours(world, seed, out, packing=True),
        "trl as ours": lambda seed, out: trl(world, seed, out, **alike),
        "trl as it comes": lambda seed, out: trl(world, seed, out),
    }
    runs: dict[str, list[Run]] = {way: [] for way in WAYS}
    for seed in range(rounds):
        for way in WAYS[:: -1 if seed % 2 else 1]:
            with tempfile.TemporaryDirectory() as out:
                runs[way].append(run[way](seed, Path(out) / "out"))
    return runs


def apart(runs: list[Run], others: list[Run]) -> float:
    """Return the largest relative difference between their losses."""
    pairs = [pair for a, b in zip(runs, others, strict=True) for pair in zip(a.losses, b.losses, strict=True)]
    return max(abs(a - b) / b for a, b in pairs)


def report(world: World, runs: dict[str, list[Run]]) -> None:
    params = sum(p.numel() for p in Base(str(world.base)).load(torch.float32).parameters())
    how = "bf16" if wants_bf16(world.settings, Base(str(world.base))) else "fp32"
    print(f"\n{world.name}: {params:,} parameters, {world.steps} steps of {world.settings.batch_size} rows, {how}")
    speed = {way: statistics.median(run.speed for run in found) for way, found in runs.items()}
    for way, found in runs.items():
        curve = " ".join(f"{loss:.3f}" for loss in found[0].losses)
        unseen = [run.unseen for run in found]
        ratio = speed["ours"] / speed[way]
        print(f"{way:<16}{speed[way]:>8,.0f} tokens/s, ours is {ratio:.2f} times that; loss {curve}")
        print(f"{'':<16}unseen {statistics.mean(unseen):.4f}, by seed {min(unseen):.4f} to {max(unseen):.4f}")
    print(f"packing: {speed['ours, packed'] / speed['ours']:.2f} of the speed without")
    for way in ("ours, packed", "trl as ours"):
        print(f"losses, {way} against ours: apart by {apart(runs[way], runs['ours']):.1e} at most")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path)
    given = parser.parse_args()
    import datasets
    import transformers

    if not given.model:
        torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for world in [real(given.model)] if given.model else [demo(), gsm8k(Path(folder))]:
            report(world, measure(world, given.rounds))


if __name__ == "__main__":
    main()
