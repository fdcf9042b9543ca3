"""Damaged and unknown checkpoints are refused before sampling and training."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cos_assets.generation.generate import open_engine
from cos_assets.generation.types import Model, Request, Sampling
from cos_assets.tiny import shipped
from cos_assets.training.job import Base

FILE = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(shipped("wc"), tmp_path / "model")


def sample(folder: Path) -> None:
    engine = open_engine(Model(str(folder), "x", "transformers", params=1, engine_options={"device": "cpu"}))
    try:
        list(engine.stream([Request("p", "1 + 1 =", (0,))], Sampling(temperature=0, max_tokens=4)))
    finally:
        engine.close()


def train(folder: Path) -> None:
    import torch

    Base(str(folder)).load(torch.float32)


def lack(folder: Path) -> None:
    change(folder, remove="model.layers.0.mlp.gate_proj.weight")


def hold_more(folder: Path) -> None:
    change(folder, add="model.layers.9.mlp.gate_proj.weight")


def cut(folder: Path) -> None:
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:1000])


def change(folder: Path, remove: str | None = None, add: str | None = None) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / FILE)
    if remove:
        del tensors[remove]
    if add:
        tensors[add] = torch.zeros(2)
    save_file(tensors, folder / FILE, metadata={"format": "pt"})


@pytest.mark.parametrize("use", [sample, train])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lack,
            "the checkpoint lacks model.layers.0.mlp.gate_proj.weight; expected exactly the tensors",
        ),
        (hold_more, "the checkpoint also has model.layers.9.mlp.gate_proj.weight; expected exactly the"),
        (cut, "the weights cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_refused(
    folder: Path, damage: Callable[[Path], None], message: str, use: Callable[[Path], None]
) -> None:
    use(folder)
    damage(folder)
    with pytest.raises(ValueError, match=message) as caught:
        use(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("use", ["sample", "train"])
def test_code_in_a_checkpoint_folder_is_never_run(folder: Path, tmp_path: Path, use: str) -> None:
    touched = tmp_path / "touched"
    (folder / "evil.py").write_text(f"open({str(touched)!r}, 'w').close()\nclass A: pass\nclass B: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.A", "AutoModelForCausalLM": "evil.B"}}
    (folder / "config.json").write_text(json.dumps(config))
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    code += f"from pathlib import Path\nfrom test_load_network import {use}\n{use}(Path({str(folder)!r}))"
    surroundings = os.environ | {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], input="y\n" * 9, env=surroundings, capture_output=True, text=True
    )
    assert done.returncode != 0 and "trust_remote_code" in done.stderr
    assert not touched.exists()
