"""sharding: fsdp. Two processes on a processor share weights, gradients and optimizer states through the Trainer."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError
from support.toy_apart import processes_of
from support.toy_training import finetune, make_rows

from cos_assets.generation.model import count_parameters
from cos_assets.training.job import Base, Job
from cos_assets.training.launch import train_apart
from cos_assets.training.loop import Checkpoint
from cos_assets.training.settings import Finetune

STEPS = 8


def settings(**given: Any) -> Finetune:
    common = {"steps": STEPS, "batch_size": 8, "learning_rate": 5e-3, "checkpoints": 4}
    return Finetune.model_validate(common | {"num_processes": 2, "sharding": "fsdp"} | given)


def trained(folder: Path, base: Path, given: Finetune) -> tuple[list[Checkpoint], list[int]]:
    """The checkpoints of a training, and the numbers of parameters that its processes held."""
    job = Job(make_rows(40), Base(str(base)), given, STEPS, 0)
    folder.parent.mkdir(exist_ok=True)
    done = train_apart(folder, job, 5e-3, lambda step, loss: None)
    log = (folder / "job" / "output.log").read_text(encoding="utf-8")
    return done, [int(held) for held in re.findall(r"holds (\d+) of \d+ parameters", log)]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"method": "lora", "lora": {"r": 4}},
        {"gradient_checkpointing": True, "chunked_loss": True, "gradient_accumulation": 2},
        {"packing": True, "optimizer": "sgd"},
        {"weights": "bf16"},
    ],
    ids=["full", "lora", "less memory", "packing and sgd", "bf16 weights"],
)
def test_each_process_holds_half_and_the_losses_are_those_of_one(
    tmp_path: Path, base: Path, rows: pl.DataFrame, more: dict[str, Any]
) -> None:
    done, held = trained(tmp_path / "work" / "lr", base, settings(**more))
    whole = sum(held)
    assert len(held) == 2
    assert max(held) < 0.51 * whole
    assert whole >= count_parameters(base)
    one = finetune(rows, base, tmp_path / "one", settings(**more, num_processes=None, sharding=None), STEPS, 0)
    tolerance = 1e-2 if "weights" in more else 1e-4
    assert [each.loss for each in done] == pytest.approx([point["loss"] for point in one.curve], rel=tolerance)


def test_a_sharded_training_ends_with_an_ordinary_checkpoint(tmp_path: Path, base: Path, rows: pl.DataFrame) -> None:
    from transformers import AutoModelForCausalLM

    run = finetune(rows, base, tmp_path / "full", settings(), STEPS, 0)
    files = {path.name for path in run.path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= files
    assert not [name for name in files if name.endswith(".bin")]
    assert AutoModelForCausalLM.from_pretrained(run.path).num_parameters() == count_parameters(base)
    lora = finetune(rows, base, tmp_path / "lora", settings(method="lora", lora={"r": 4}), STEPS, 0)
    assert (lora.path.parent / "adapter" / "adapter_model.safetensors").is_file()
    assert not processes_of(tmp_path)


_RUN = """
import os, signal, sys
from pathlib import Path
from support.toy_training import make_rows
from cos_assets.training.job import Job
from cos_assets.training.launch import train_apart
from cos_assets.training.loop import MARKER

job, folder, moment = Job.read(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])

def on_step(step, loss):
    if len(list(folder.glob(f"checkpoint-*/{MARKER}"))) >= moment:
        os.kill(os.getpid(), signal.SIGKILL)

train_apart(folder, job, 5e-3, on_step)
"""


def test_a_sharded_training_killed_three_times_ends_like_an_undisturbed_one(tmp_path: Path, base: Path) -> None:
    given = settings(steps=60, checkpoints=4)
    job = Job(make_rows(40), Base(str(base)), given, 60, 0)
    whole, folder = tmp_path / "whole" / "lr", tmp_path / "killed" / "lr"
    for each in (whole, folder):
        each.parent.mkdir()
    undisturbed = train_apart(whole, job, 5e-3, lambda step, loss: None)
    job.write(tmp_path / "job")
    for moment in (1, 2, 3):
        command = [sys.executable, "-c", _RUN, str(tmp_path / "job"), str(folder), str(moment)]
        ended = subprocess.run(command, cwd=Path(__file__).parents[1])
        assert ended.returncode in (-9, 0)  # the last steps may be done before the run looks
        shutil.rmtree(folder / "job", ignore_errors=True)
    done = train_apart(folder, job, 5e-3, lambda step, loss: None)
    assert [each.step for each in done] == [15, 30, 45, 60]
    assert [each.loss for each in done] == pytest.approx([each.loss for each in undisturbed], rel=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_processes": None}, "sharding: needs num_processes: 2 or more"),
        ({"optimizer": "adafactor"}, "not available with optimizer: adafactor"),
        ({"method": "qlora"}, "not available with method: qlora"),
        ({"sharding": None, "cpu_offload": True}, "cpu_offload: is only allowed with sharding: fsdp"),
    ],
)
def test_combinations_that_do_not_work_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**given)


def test_offloading_is_refused_without_a_gpu(tmp_path: Path, base: Path, rows: pl.DataFrame) -> None:
    with pytest.raises(RuntimeError, match="cpu_offload: needs GPUs"):
        finetune(rows, base, tmp_path, settings(cpu_offload=True), STEPS, 0)


def test_sharding_is_no_part_of_the_identity() -> None:
    assert settings().recipe == settings(num_processes=None, sharding=None).recipe
