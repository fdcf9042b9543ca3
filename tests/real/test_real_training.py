"""Steps of LoRA on a real model: the losses equal trl's on the same rows in its chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.toy_training import finetune

from cos_assets import tasks
from cos_assets.generation.types import Chat
from cos_assets.training.job import Base, Job, prepare
from cos_assets.training.loop import trainable
from cos_assets.training.loss_mask import wrongly_learned
from cos_assets.training.settings import Finetune

SETTINGS = Finetune(
    method="lora",
    steps=2,
    batch_size=3,
    learning_rate=1e-3,
    checkpoints=2,
    warmup=0,
    scheduler="constant",
    precision="fp32",
)


@pytest.fixture(scope="module")
def rows(public_data: Path) -> pl.DataFrame:
    """Short problems of GSM8K with their reference solutions, as chat prompts."""
    task = tasks.make({"name": "gsm8k", "path": str(public_data / "gsm8k")})
    problems = task.load().filter(pl.col("question").str.len_chars() + pl.col("solution").str.len_chars() < 330).head(6)
    asked = [task.prompt(problem, chat=True) for problem in problems.to_dicts()]
    return pl.DataFrame({"prompt": asked, "completion": problems["solution"]})


def test_losses_of_lora_equal_those_of_trl(smollm2: Path, tokenizer: Any, rows: pl.DataFrame, tmp_path: Path) -> None:
    base = Base(str(smollm2), chat=Chat())
    assert wrongly_learned(rows, base, SETTINGS) == 0
    ours = finetune(rows, smollm2, tmp_path / "ours", SETTINGS, steps=2, seed=0, chat=Chat())
    encoded, too_long, plan, _ = prepare(Job(rows, base, SETTINGS, steps=2, seed=0))
    assert (too_long, ours.examples, ours.tokens) == (0, 6, sum(map(len, encoded)))
    losses = [point["loss"] for point in ours.curve]
    theirs = trl(smollm2, tokenizer, rows[plan.ravel().tolist()], tmp_path / "trl")
    assert losses == pytest.approx(theirs, rel=1e-4)
    assert losses[0] != pytest.approx(losses[1], rel=1e-2)  # other rows, and weights that have been trained


def trl(folder: Path, tokenizer: Any, rows: pl.DataFrame, out: Path) -> list[float]:
    """The losses of trl's SFTTrainer on these rows in this order, from the same adapters."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    def rendered(prompt: str) -> str:
        message = [{"role": "user", "content": prompt}]
        return tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)

    config = SFTConfig(
        output_dir=str(out),
        max_steps=2,
        per_device_train_batch_size=SETTINGS.batch_size,
        learning_rate=SETTINGS.learning_rates[0],
        lr_scheduler_type="constant",
        train_sampling_strategy="sequential",
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    texts = [{"prompt": rendered(prompt), "completion": text} for prompt, text in rows.iter_rows()]
    model = trainable(Base(str(folder)), SETTINGS, bf16=False, seed=0)
    trainer = SFTTrainer(model, config, train_dataset=Dataset.from_list(texts), processing_class=tokenizer)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
