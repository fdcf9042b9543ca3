"""sharding: fsdp for SmolLM2-135M-Instruct: two processes on a processor, each with half of the weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest

from cos_assets.generation.types import Chat
from cos_assets.training import sft
from cos_assets.training.job import Base, Job
from cos_assets.training.settings import Finetune

STEPS = 2


class Run(NamedTuple):
    trained: sft.Trained
    held: list[int]
    """Parameters by process."""
    gigabytes: list[float]
    """By process, after a step."""


def rows() -> pl.DataFrame:
    numbers = range(1, 9)
    return pl.DataFrame(
        {
            "prompt": [f"Ann has {n} apples and buys {n + 2} more. How many has she?" for n in numbers],
            "completion": [f"She has {n} + {n + 2} = {2 * n + 2} apples. The answer is {2 * n + 2}." for n in numbers],
        }
    )


def train(smollm2: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Run:
    given = {"steps": STEPS, "batch_size": 4, "learning_rate": 1e-5, "checkpoints": STEPS, "precision": "fp32"}
    given |= {"num_processes": 2, "gradient_checkpointing": False, "chunked_loss": True}
    logs: list[str] = []
    train_apart = sft.train_apart

    def noted(folder: Path, *arguments: Any) -> Any:
        done = train_apart(folder, *arguments)
        logs.append((folder / "job" / "output.log").read_text(encoding="utf-8"))
        return done

    monkeypatch.setattr(sft, "train_apart", noted)
    job = Job(rows(), Base(str(smollm2), chat=Chat()), Finetune.model_validate(given | more), STEPS, 0)
    trained = sft.finetune(job, out)
    (log,) = logs
    held = [int(count) for count in re.findall(r"holds (\d+) of \d+ parameters", log)]
    return Run(trained, held, [float(size) for size in re.findall(r"holds ([\d.]+) GB", log)])


def test_two_processes_hold_half_each_with_the_losses_of_copies(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    copies = train(smollm2, tmp_path / "copies", monkeypatch)
    shared = train(smollm2, tmp_path / "shared", monkeypatch, sharding="fsdp")
    assert len(shared.held) == len(shared.gigabytes) == len(copies.gigabytes) == 2
    assert max(shared.held) < 0.51 * 134_515_008
    # Weights and two moments in fp32 are 1.61 GB, of which each process holds half. Gradients are dropped after a step.
    assert min(copies.gigabytes) - max(shared.gigabytes) > 0.6
    losses = [[point["loss"] for point in run.trained.curve] for run in (copies, shared)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    model = AutoModelForCausalLM.from_pretrained(shared.trained.path, dtype=torch.float32)
    other = AutoModelForCausalLM.from_pretrained(copies.trained.path, dtype=torch.float32)
    assert model.num_parameters() == 134_515_008
    # The result is stored in the base model's bfloat16.
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-3, rtol=1e-2) for a, b in pairs)
    assert AutoTokenizer.from_pretrained(shared.trained.path).chat_template
