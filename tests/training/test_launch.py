"""Trainings in separate processes have the losses of one process, and leave no process or file behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.toy_apart import STEPS, processes_of, train
from support.toy_training import finetune

from cos_assets import progress, study, tiny
from cos_assets.training.launch import wait_for_others
from cos_assets.training.loop import MARKER
from cos_assets.training.settings import Finetune
from cos_assets.training.sft import Trained


def losses(trained: Trained) -> list[tuple[int, float]]:
    return [(point["step"], point["loss"]) for point in trained.curve]


def weights(trained: Trained) -> bytes:
    return (trained.path / "model.safetensors").read_bytes()


def wait_until(what: Callable[[], Any], seconds: float = 180) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)
    return found


def test_two_processes_have_the_losses_of_one(tmp_path: Path, base: Path) -> None:
    together, alone = (train(tmp_path / str(number), base, processes=number) for number in (2, None))
    # Only rounding differs, and it grows with every step.
    assert losses(together) == [(step, pytest.approx(loss, rel=1e-3)) for step, loss in losses(alone)]
    assert losses(together)[0][1] == pytest.approx(losses(alone)[0][1], rel=1e-5)
    assert together.inputs == alone.inputs
    assert (together.tokens, together.completion_tokens) == (alone.tokens, alone.completion_tokens)
    assert sorted(path.name for path in together.path.parent.iterdir()) == [".lock", "DONE.json", "model"]


def test_a_training_in_processes_continues_after_kills(tmp_path: Path, base: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    undisturbed = train(tmp_path / "undisturbed", base, "lora")

    def kill_a_worker(stage: str, done: int, total: int, tokens: int | None, loss: float | None) -> None:
        marked = list(out.glob(f"work/lr-*/checkpoint-*/{MARKER}"))
        if marked and stage == "train" and (found := processes_of(out, "train")):
            max(found, key=lambda process: process.pid).kill()

    with pytest.raises(RuntimeError, match=r"num_processes: 2: process \d was ended by SIGKILL"):
        train(out, base, "lora", 2, kill_a_worker)
    assert not processes_of(out)
    steps = [json.loads(path.read_text())["step"] for path in out.glob(f"work/lr-*/checkpoint-*/{MARKER}")]
    assert steps and max(steps) < STEPS
    shutil.copytree(out, other)

    # The run itself is killed: its processes end, and the next attempt, which waits like this test, continues.
    for job in out.glob("work/lr-*/job"):
        shutil.rmtree(job)
    run = subprocess.Popen(
        [sys.executable, "-m", "support.toy_apart", str(out), str(base)], cwd=Path(__file__).parents[1]
    )
    wait_until(lambda: any(out.glob("work/lr-*/job/progress.json")))
    assert len(processes_of(out)) == 3
    run.kill()
    run.wait()
    wait_for_others(out / "work")
    assert not processes_of(out)
    again = train(out, base, "lora")
    assert (losses(again), weights(again)) == (losses(undisturbed), weights(undisturbed))
    assert not processes_of(out)

    # One process can complete a training of two; only dropout draws other numbers.
    ended = losses(train(other, base, "lora", processes=None))
    assert ended == [(step, pytest.approx(loss, rel=0.1)) for step, loss in losses(undisturbed)]


def test_the_first_error_of_a_process_is_reported(tmp_path: Path, base: Path, rows: pl.DataFrame) -> None:
    given = {"steps": 1, "num_processes": 1, "method": "lora", "lora": {"target_modules": ["nothing"]}}
    with pytest.raises(RuntimeError, match=r"(?s)num_processes: 1: \w+Error: Target modules .*nothing.*Traceback"):
        finetune(rows, base, tmp_path, Finetune.model_validate(given), 1, 0)


def test_the_asset_reports_the_progress_of_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dagster as dg

    from cos_assets.assets import build_study
    from cos_assets.orchestration.io_manager import ParquetIOManager

    monkeypatch.setenv("COS_HOME", str(tmp_path))
    spec = study.parse(
        {
            "name": "apart",
            "task": {"name": "arithmetic", "train": 30, "validation": 2, "test": 2},
            "models": {name: {"model": str(tiny.shipped(name))} for name in ("wc", "se")},
            "budgets": {"low": {"se": 1}},
            "sources": {"gt": {"reference_solutions": True}},
            "targets": {"student": {"model": str(tiny.shipped("student"))}},
            "finetune": {"steps": 4, "batch_size": 4, "checkpoints": 2, "num_processes": 2},
        }
    )
    shown: list[progress.Report] = []
    with dg.DagsterInstance.ephemeral() as instance, progress.shown_by(shown.append):
        for names, partition in ((["problems", "budget_plan"], None), (["sft_set", "student_checkpoint"], "low|gt")):
            dg.materialize(
                build_study(spec),
                selection=[dg.AssetKey(["apart", name]) for name in names],
                partition_key=partition,
                resources={"io_manager": ParquetIOManager()},
                instance=instance,
            )
    steps = [report for report in shown if report.what == "train student"]
    assert (steps[0].done, steps[-1].done, steps[-1].total) == (0, 4, 4)
    assert steps[-1].loss is not None and steps[-1].tokens
    assert f"loss {steps[-1].loss:.4f}" in str(steps[-1])


def test_a_batch_that_cannot_be_divided_by_the_processes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"num_processes: 3 .* is 6, which does not divide batch_size: 32"):
        Finetune(steps=1, num_processes=3, gradient_accumulation=2)
    with pytest.raises(ValueError, match="num_processes"):
        Finetune(steps=1, num_processes=0)


def test_the_number_of_processes_is_not_part_of_the_recipe() -> None:
    assert Finetune(steps=1, num_processes=4).recipe == Finetune(steps=1).recipe
