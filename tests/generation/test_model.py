from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from cos_assets import tiny
from cos_assets.generation.door import Buyer, generate
from cos_assets.generation.model import count_parameters, resolve
from cos_assets.generation.types import Sampling

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_folder_is_named_by_its_content(tmp_path: Path) -> None:
    here = resolve(str(tiny.shipped("wc")), engine="transformers")
    copied = Path(shutil.copytree(tiny.shipped("wc"), tmp_path / "elsewhere"))
    assert resolve(str(copied), engine="vllm").fingerprint == here.fingerprint
    assert here.params == count_parameters(copied) == 116_544
    (copied / "training_recipe.json").write_text("{}")  # says how it was made, not what it is
    assert resolve(str(copied), engine="vllm").fingerprint == here.fingerprint
    config = copied / "generation_config.json"
    config.write_text(config.read_text().replace("2", "3", 1))
    assert resolve(str(copied), engine="vllm").fingerprint != here.fingerprint


def test_a_hub_id_is_pinned_to_the_commit_behind_its_branch(tmp_path: Path) -> None:
    """Without a network, from what was downloaded before: the hub library's own cache."""
    cache = tmp_path / "hub" / "models--some--model"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(COMMIT)
    (cache / "snapshots" / COMMIT).mkdir(parents=True)
    (cache / "snapshots" / COMMIT / "config.json").write_text("{}")
    code = (
        "from cos_assets.generation.model import resolve\n"
        "m = resolve('some/model', engine='vllm', params=9.24e9)\n"
        "print(m.revision, m.fingerprint.startswith('model-'), m.params)\n"
        "resolve('some/other', engine='vllm')\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == [COMMIT, "True", "9240000000.0"]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: model: 'some/other' is no folder here and was not found on the hub")


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model files here; expected a Hugging Face checkpoint"):
        resolve(str(tmp_path), engine="transformers")


@pytest.mark.parametrize(
    ("installed", "gpu", "engine"),
    [(False, True, "transformers"), (True, False, "transformers"), (True, True, "vllm")],
)
def test_auto_is_vllm_beside_a_gpu(installed: bool, gpu: bool, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert resolve(str(tiny.shipped("wc")), engine="auto").engine == engine


def test_what_auto_chose_stands_in_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as nothing_installed:
        nothing_installed.setattr(importlib.util, "find_spec", lambda name: None)
        chosen = resolve(str(tiny.shipped("wc")), engine="auto")
    prompts = pl.DataFrame({"problem_id": ["p"], "prompt": ["Ann has 7 apples . "]})
    generate(chosen, prompts, 1, Sampling(max_tokens=3), Buyer(tmp_path, "s", "sampling"))
    (part,) = tmp_path.rglob("part-*.parquet")
    assert pl.read_parquet(part)["engine"].to_list() == ["transformers"]
