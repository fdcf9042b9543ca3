"""The shipped checkpoints: the files match their checksums, and the usual libraries load them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cos_assets import tiny
from cos_assets.tiny import corpus
from cos_assets.tiny.train import encode, solution_loss

PARAMS = {"student": 98_112, "wc": 116_544, "se": 356_256}


@pytest.mark.parametrize("role", tiny.ROLES)
def test_a_shipped_checkpoint_loads_and_has_a_low_loss(role: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny.shipped(role)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert sum(p.numel() for p in model.parameters()) == PARAMS[role]
    assert next(model.parameters()).dtype == torch.float32
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == 2
    with torch.no_grad():
        # On unseen texts of the corpus, an untrained model has a loss of 5.5, and these have 0.24 to 0.25.
        loss = solution_loss(model, encode(list(corpus.texts(200, seed=10_000)), tokenizer)).item()
    assert loss < 0.28


def test_the_greedy_solution_of_an_easy_problem_is_correct_and_ends() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny.shipped("se")
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    prompt = "Ann has 7 apples . Ann finds 5 apples . Ann gets 2 apples . How many apples does Ann have now ?\n"
    ids = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=56, do_sample=False)[0, ids["input_ids"].shape[1] :]
    text = tokenizer.decode(out, skip_special_tokens=True)
    assert out[-1] == tokenizer.eos_token_id
    assert text.endswith("The answer is 14 .")


def test_peft_wraps_a_shipped_checkpoint() -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny.shipped("wc"))
    wrapped = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert 0 < wrapped.get_nb_trainable_parameters()[0] < PARAMS["wc"]


def test_every_file_is_in_the_checksums() -> None:
    listed = {line.split(maxsplit=1)[1] for line in (tiny.WEIGHTS / "SHA256SUMS").read_text().splitlines()}
    files = {f.relative_to(tiny.WEIGHTS).as_posix() for f in tiny.WEIGHTS.rglob("*") if f.is_file()}
    assert files == listed | {"SHA256SUMS"}
    assert sum(f.stat().st_size for f in tiny.WEIGHTS.rglob("*") if f.is_file()) < 3_000_000


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setattr(tiny, "WEIGHTS", Path(shutil.copytree(tiny.WEIGHTS, tmp_path / "weights")))
    assert tiny.shipped("wc").parent == tmp_path / "weights"
    file = tmp_path / "weights" / "wc" / "model.safetensors"
    if damage == "changed":
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    else:
        file.unlink()
    with pytest.raises(
        ValueError, match=r"wc.model\.safetensors: " + ("sha256" if damage == "changed" else "is missing")
    ):
        tiny.shipped("wc")
    assert tiny.shipped("se").is_dir()


def test_missing_sums_and_unknown_role_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="role: 'huge' is not allowed; allowed: student, wc, se"):
        tiny.shipped("huge")
    monkeypatch.setattr(tiny, "WEIGHTS", tmp_path)
    with pytest.raises(ValueError, match="SHA256SUMS: is missing"):
        tiny.shipped("wc")
