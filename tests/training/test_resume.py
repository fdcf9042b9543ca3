"""A finetuning that is killed and resumed ends with the same bits as an uninterrupted one."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
from support.toy_killed import SETTINGS, run, start, start_server

from cos_assets.training.loop import MARKER, complete_checkpoints
from cos_assets.training.sft import Trained, read


@pytest.fixture(scope="session")
def undisturbed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """The results by the name of their settings, trained in this process without a kill."""
    import torch

    start_server()
    results = {}
    for method in SETTINGS:
        out = tmp_path_factory.mktemp(method) / "out"
        with pytest.MonkeyPatch.context() as patch:  # `run` replaces both; restore them
            patch.setattr(torch, "save", torch.save)
            patch.setattr(os, "replace", os.replace)
            run(out, base, method, "never")
        results[method] = ended(out)
    return results


def ended(out: Path) -> Trained:
    """The result without its duration."""
    trained = read(out)
    assert trained is not None
    assert sorted(path.name for path in out.iterdir() if path.name != "adapter") == [".lock", "DONE.json", "model"]
    return dataclasses.replace(trained, seconds=0.0, path=Path("model"))


# Checkpoints are at steps 4, 8 and 12 of two learning rates; steps 13 to 24 are the second's. "#2" is the second time.
@pytest.mark.parametrize(
    "moment",
    [
        "step 3",
        "half of optimizer.pt #2",
        f"before {MARKER} #2",
        "evaluate #3",
        "before DONE.json #2",
    ],
)
def test_a_training_killed_at_any_moment_ends_with_the_same_bits(
    tmp_path: Path, base: Path, undisturbed: dict[str, Trained], moment: str
) -> None:
    out = tmp_path / "out"
    assert start(out, base, "full", moment) == -9
    assert read(out) is None
    assert start(out, base, "full", "never") == 0
    assert ended(out) == undisturbed["full"]


def test_a_training_killed_many_times_ends_with_the_same_bits(
    tmp_path: Path, base: Path, undisturbed: dict[str, Trained]
) -> None:
    out = tmp_path / "out"
    moments = ["half of rng_state.pth", "step 5", "step 9", "step 15", "half of scheduler.pt #2"]
    moments += [f"after {MARKER} #2", "evaluate #2", "after scores.json #2", "before model", "after model"]
    assert [start(out, base, "lora", moment) for moment in moments] == [-9] * len(moments)
    assert start(out, base, "lora", "never") == 0
    assert ended(out) == undisturbed["lora"]
    evaluated = out.with_suffix(".log").read_text().split()
    assert len(evaluated) == 6  # a completed evaluation is never repeated; a killed one is not recorded
    assert len(set(evaluated)) == 6


@pytest.mark.parametrize("settings", ["lean", "qlora", "dpo"])
def test_other_settings_resume_with_the_same_bits(
    tmp_path: Path, base: Path, undisturbed: dict[str, Trained], settings: str
) -> None:
    out = tmp_path / "out"
    moments = ["step 6", "half of optimizer.pt #2", "step 15"]
    assert [start(out, base, settings, moment) for moment in moments] == [-9] * len(moments)
    assert start(out, base, settings, "never") == 0
    assert ended(out) == undisturbed[settings]


def test_a_partially_written_checkpoint_is_not_used(
    tmp_path: Path, base: Path, undisturbed: dict[str, Trained]
) -> None:
    out = tmp_path / "out"
    assert start(out, base, "full", "step 7") == -9
    first = out / "work" / "lr-0.005" / "checkpoint-4"
    assert (first / MARKER).exists()
    # A later checkpoint without a marker, which contains the weights of another step.
    later = shutil.copytree(first, first.with_name("checkpoint-8"))
    (later / MARKER).unlink()
    state = json.loads((later / "trainer_state.json").read_text())
    (later / "trainer_state.json").write_text(json.dumps({**state, "global_step": 8}))
    assert start(out, base, "full", "never") == 0
    assert ended(out) == undisturbed["full"]


def test_only_marked_checkpoints_are_used(tmp_path: Path) -> None:
    for step in (10, 9, 8):
        (tmp_path / f"checkpoint-{step}").mkdir()
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}" / MARKER).write_text(json.dumps({"step": step, "loss": 1.5, "seconds": 2.0}))
    assert [checkpoint.step for checkpoint in complete_checkpoints(tmp_path)] == [9, 10]
    assert not (tmp_path / "checkpoint-8").exists()
