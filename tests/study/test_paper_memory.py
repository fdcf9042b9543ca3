"""Every finetuning of the paper's studies fits on the hardware that the study states in its first comment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from study.test_paper_studies import FOLDER, STUDIES
from support.published_configs import write_config

from cos_assets.assets.models import target_spec
from cos_assets.study import StudySpec
from cos_assets.training import memory
from cos_assets.training.job import Base

GPU = 80e9
LENGTH = 1536  # tokens of a prompt and of a solution of 1,024 tokens


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configs")


def needed(spec: StudySpec, target: str, folder: Path) -> memory.Memory:
    settings = spec.finetuning_of(target)
    base = Base(str(write_config(target_spec(spec, target).model or "", folder)))
    decided = memory.decided(base, settings, LENGTH, bf16=True)
    known = memory.estimate(base.name, None, decided, LENGTH, bf16=True)
    assert known is not None
    return known


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_every_finetuning_fits_on_the_stated_gpus(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "of_gpu", lambda: GPU)
    spec = STUDIES[name]
    comment = (FOLDER / name / "defs.yaml").read_text(encoding="utf-8").split("type:")[0]
    stated = re.search(r"Hardware: (\d) GPUs? of 80 GB", comment)
    assert stated is not None
    for target in spec.targets:
        assert (spec.finetuning_of(target).num_processes or 1) == int(stated[1])
        assert needed(spec, target, folder).total <= GPU


def test_without_sharding_no_gpu_holds_the_main_study(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 bytes per parameter: 137 GB for Gemma 7B, 148 GB for Gemma 2 9B, 435 GB for 27B."""
    monkeypatch.setattr(memory, "of_gpu", lambda: GPU)
    spec = STUDIES["math"]
    alone = {"num_processes": None, "sharding": None}
    for target, held in (("student", 137e9), ("wc", 148e9), ("se", 435e9)):
        settings = spec.finetuning_of(target).model_copy(update=alone)
        base = Base(str(write_config(target_spec(spec, target).model or "", folder)))
        decided = memory.decided(base, settings, LENGTH, bf16=True)
        assert decided.gradient_checkpointing is True
        known = memory.estimate(base.name, None, decided, LENGTH, bf16=True)
        assert known is not None
        assert known.weights + known.gradients + known.optimizer == pytest.approx(held, rel=0.01)
