from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets import tiny
from cos_assets.generation.generate import Buyer, generate
from cos_assets.generation.model import count_parameters, resolve
from cos_assets.generation.types import Chat, Sampling

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_fingerprint_of_a_folder_depends_on_its_content(tmp_path: Path) -> None:
    here = resolve(str(tiny.shipped("wc")), engine="transformers")
    copied = Path(shutil.copytree(tiny.shipped("wc"), tmp_path / "elsewhere"))
    assert resolve(str(copied), engine="vllm").fingerprint == here.fingerprint
    assert here.params == count_parameters(copied) == 116_544
    (copied / "training_recipe.json").write_text("{}")  # describes the training, not the model
    assert resolve(str(copied), engine="vllm").fingerprint == here.fingerprint
    config = copied / "generation_config.json"
    config.write_text(config.read_text().replace("2", "3", 1))
    assert resolve(str(copied), engine="vllm").fingerprint != here.fingerprint


def test_a_hub_id_is_pinned_to_the_commit_behind_its_branch(tmp_path: Path) -> None:
    """Without a network: the model is in the cache of the hub library."""
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
    assert last.startswith("ValueError: model: 'some/other' is not a folder and was not found on the hub")


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no model files; expected a Hugging Face checkpoint"):
        resolve(str(tmp_path), engine="transformers")


@pytest.mark.parametrize(
    ("installed", "gpu", "engine"),
    [(False, True, "transformers"), (True, False, "transformers"), (True, True, "vllm")],
)
def test_auto_selects_vllm_only_with_a_gpu_and_the_package(
    installed: bool, gpu: bool, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert resolve(str(tiny.shipped("wc")), engine="auto").engine == engine


def test_the_ledger_contains_the_engine_that_auto_selected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as nothing_installed:
        nothing_installed.setattr(importlib.util, "find_spec", lambda name: None)
        chosen = resolve(str(tiny.shipped("wc")), engine="auto")
    prompts = pl.DataFrame({"problem_id": ["p"], "prompt": ["Ann has 7 apples . "]})
    generate(chosen, prompts, 1, Sampling(max_tokens=3), Buyer(tmp_path, "s", "sampling"))
    (part,) = tmp_path.rglob("part-*.parquet")
    assert pl.read_parquet(part)["engine"].to_list() == ["transformers"]


EMBEDDING, HEAD, LAYER = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.up_proj.weight"
PARAMETERS = 100 * 8 + 4 * 8 * 8 + 3 * 8 * 16 + 3 * 8  # tied: embedding, attention, MLP, norms


def llama(folder: Path, tied: bool = True, **config: Any) -> Path:
    """An untrained Llama of 1,464 parameters, plus 800 with an untied output layer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=100, tie_word_embeddings=tied, **sizes)).save_pretrained(folder)
    if config:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return folder


def rewritten(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_parameters_are_counted_from_the_architecture(tmp_path: Path) -> None:
    assert count_parameters(llama(tmp_path / "tied")) == PARAMETERS == 1464
    assert count_parameters(llama(tmp_path / "untied", tied=False)) == PARAMETERS + 800
    for model, count in {"student": 98_112, "wc": 116_544, "se": 356_256}.items():
        assert count_parameters(tiny.shipped(model)) == count


def test_a_stored_copy_of_a_tied_output_layer_does_not_count(tmp_path: Path) -> None:
    spare = rewritten(llama(tmp_path), lambda tensors: tensors.update({HEAD: tensors[EMBEDDING].clone()}))
    assert count_parameters(spare) == PARAMETERS


@pytest.mark.parametrize(
    "beside",
    [
        "adapter_model.safetensors",
        "consolidated.safetensors",
        "optimizer.safetensors",
        "model-00001-of-00002.safetensors",
        "original/model.safetensors",
    ],
)
def test_other_files_in_the_folder_do_not_count(tmp_path: Path, beside: str) -> None:
    import torch
    from safetensors.torch import save_file

    folder = llama(tmp_path)
    (folder / beside).parent.mkdir(exist_ok=True)
    save_file({"lora_A.weight": torch.zeros(8, 8)}, folder / beside)
    (folder / "pytorch_model.bin").write_bytes(b"the same weights")
    assert count_parameters(folder) == PARAMETERS


def test_an_adapter_in_the_folder_of_a_full_model_does_not_count(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    folder = llama(tmp_path)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    save_file({"lora_A.weight": torch.zeros(4, 8)}, folder / "adapter_model.safetensors")
    assert count_parameters(folder) == PARAMETERS


def gptq(tensors: dict[str, Any]) -> None:
    import torch

    tensors.pop(LAYER)
    name = LAYER.removesuffix("weight")
    tensors[f"{name}qweight"] = torch.zeros(1, 16, dtype=torch.int32)  # 8 x 16 weights of 4 bits
    tensors[f"{name}scales"] = torch.ones(1, 16, dtype=torch.float16)
    tensors[f"{name}qzeros"] = torch.zeros(1, 2, dtype=torch.int32)


@pytest.mark.parametrize(
    "quantization",
    [
        {"quant_method": "gptq", "bits": 4, "group_size": 8, "desc_act": False},
        {"quant_method": "awq", "bits": 4, "group_size": 8, "version": "gemm", "zero_point": True},
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        {"quant_method": "fp8", "activation_scheme": "dynamic"},
    ],
)
def test_packed_weights_count_as_unpacked(tmp_path: Path, quantization: dict[str, Any]) -> None:
    folder = rewritten(llama(tmp_path, quantization_config=quantization, dtype="float16"), gptq)
    assert count_parameters(folder) == PARAMETERS


def test_parameters_are_counted_without_the_configured_attention_package(tmp_path: Path) -> None:
    folder = llama(tmp_path, attn_implementation="flash_attention_2", dtype="float8_e4m3fn")
    assert count_parameters(folder) == PARAMETERS


def test_parameters_of_a_large_model_are_counted_without_allocating_it(tmp_path: Path) -> None:
    from transformers import LlamaConfig

    sizes = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64}
    LlamaConfig(vocab_size=128_256, num_key_value_heads=8, **sizes).save_pretrained(tmp_path)
    assert count_parameters(tmp_path) == 70_553_706_496


OWN_CODE = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}


def test_parameters_of_an_unknown_architecture_are_counted_from_the_headers(tmp_path: Path) -> None:
    """Its code is not executed, and no prompt asks for permission."""
    import torch
    from safetensors.torch import save_file

    folder = llama(tmp_path, **OWN_CODE)
    (folder / "own.py").write_text("raise SystemExit('this is never run')")
    assert count_parameters(folder) == PARAMETERS
    save_file({"lora_A.weight": torch.zeros(4, 8)}, folder / "adapter_model.safetensors")
    save_file({"everything": torch.zeros(4, 8)}, folder / "consolidated.safetensors")
    assert count_parameters(folder) == PARAMETERS
    rewritten(folder, lambda tensors: tensors.update({HEAD: tensors[EMBEDDING].clone()}))
    assert count_parameters(folder) == PARAMETERS
    rewritten(folder, gptq)
    with pytest.raises(ValueError, match=r"qweight is packed, so the parameters cannot be counted; give `params:`"):
        count_parameters(folder)


def test_only_the_shards_in_the_index_of_an_unknown_architecture_count(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text(json.dumps(OWN_CODE))
    for number in (1, 2):
        save_file({f"layer{number}": torch.zeros(8, 8)}, tmp_path / f"model-{number}.safetensors")
    save_file({"old": torch.zeros(8, 8)}, tmp_path / "model-3.safetensors")
    index = {"weight_map": {"layer1": "model-1.safetensors", "layer2": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert count_parameters(tmp_path) == 128


def test_a_model_that_cannot_be_counted_requires_params(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(OWN_CODE))
    with pytest.raises(ValueError, match=r"neither an architecture that transformers knows nor .*; give `params:`"):
        resolve(str(tmp_path), engine="vllm")
    assert resolve(str(tmp_path), engine="vllm", params=7e9).params == 7e9


def test_arguments_of_the_chat_template_change_the_fingerprint(tmp_path: Path) -> None:
    def fingerprint(options: dict[str, Any] | None, engine: str = "vllm") -> str:
        return resolve(str(tiny.shipped("wc")), engine=engine, chat=Chat(), options=options).fingerprint

    chat = fingerprint(None)
    assert chat.endswith("-chat")
    assert fingerprint({"chat_template_kwargs": {}}) == fingerprint({"dtype": "float32"}) == chat
    thoughtless, thoughtful = (fingerprint({"chat_template_kwargs": {"enable_thinking": on}}) for on in (False, True))
    assert len({chat, thoughtless, thoughtful}) == 3
    assert thoughtless.startswith(f"{chat}-")
    for engine in ("transformers", "ray"):
        assert fingerprint({"chat_template_kwargs": {"enable_thinking": False}}, engine) == thoughtless


@pytest.mark.parametrize(
    ("given", "chat", "message"),
    [
        ({"enable_thinking": False}, False, "chat_template_kwargs: sets arguments of the chat template, which needs"),
        ("enable_thinking", True, "chat_template_kwargs: 'enable_thinking' is not allowed; expected a mapping"),
        ({"tokenize": False}, True, "chat_template_kwargs: tokenize is set by the engine; leave it out"),
    ],
)
def test_invalid_arguments_of_the_chat_template_are_refused(given: Any, chat: bool, message: str) -> None:
    with pytest.raises(ValueError, match=f"engine_options.{message}"):
        resolve(
            str(tiny.shipped("wc")),
            engine="vllm",
            chat=Chat() if chat else None,
            options={"chat_template_kwargs": given},
        )


def test_ray_passes_the_arguments_of_the_chat_template_to_its_replicas() -> None:
    from cos_assets.generation.generate import open_engine

    def ray(options: dict[str, Any]) -> Any:
        return open_engine(resolve(str(tiny.shipped("wc")), engine="ray", chat=Chat(), options=options))

    given = {"chat_template_kwargs": {"enable_thinking": False}}
    assert ray(given)._model.chat.kwargs == given["chat_template_kwargs"]
    assert ray({})._model.chat == Chat()
    with pytest.raises(
        ValueError, match=r"engine_kwargs: .*chat_template_kwargs is not an argument of vLLM; move it out"
    ):
        ray({"engine_kwargs": given})
