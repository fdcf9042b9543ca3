"""The estimated memory of a training, and the settings that lower it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.toy_training import finetune, make_base

from cos_assets.generation.model import count_parameters
from cos_assets.training import memory
from cos_assets.training.job import Base, Job, prepare
from cos_assets.training.loop import train
from cos_assets.training.network import check_packages
from cos_assets.training.settings import Finetune

VOCABULARY, HIDDEN, LAYERS = 4096, 64, 6


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a model, without weights."""
    from transformers import LlamaConfig

    folder = tmp_path_factory.mktemp("llama")
    LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=128,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    ).save_pretrained(folder)
    return folder


def estimate(model: Path, bf16: bool = False, length: int = 256, **settings: Any) -> memory.Memory:
    found = memory.estimate(str(model), None, Finetune(steps=1, batch_size=8, **settings), length, bf16)
    assert found is not None
    return found


def test_full_training_holds_16_bytes_per_parameter(base: Path) -> None:
    known, params = estimate(base, length=16), count_parameters(base)
    assert known.weights == 4 * params
    assert known.gradients == 4 * params
    assert known.optimizer == 8 * params
    assert known.total >= memory.RUNTIME + 16 * params


@pytest.mark.parametrize(
    ("settings", "weights", "gradients", "optimizer"),
    [
        ({"weights": "bf16"}, 2, 2, 4),
        ({"optimizer": "sgd"}, 4, 4, 0),
        ({"optimizer": "adamw_8bit"}, 4, 4, pytest.approx(2.1, abs=0.15)),
        ({"optimizer": "adafactor"}, 4, 4, pytest.approx(0.1, abs=0.1)),
    ],
)
def test_bytes_per_parameter(
    llama: Path, settings: dict[str, Any], weights: Any, gradients: Any, optimizer: Any
) -> None:
    params = estimate(llama).weights / 4
    known = estimate(llama, **settings)
    assert known.weights / params == weights
    assert known.gradients / params == gradients
    assert known.optimizer / params == optimizer


def test_lora_has_gradients_of_its_adapters_alone(llama: Path) -> None:
    rank, linear = 8, 4 * (HIDDEN + HIDDEN) - 2 * HIDDEN // 2 + 3 * (HIDDEN + 128)
    params, known = estimate(llama).weights / 4, estimate(llama, method="lora", lora={"r": rank})
    assert known.gradients == 4 * rank * linear * LAYERS
    assert known.weights == 4 * params + known.gradients
    halved = estimate(llama, bf16=True, method="lora", lora={"r": rank})
    assert halved.weights == 2 * params + known.gradients
    quantized = estimate(llama, bf16=True, method="qlora", lora={"r": rank})
    assert known.gradients + 2 * 2 * VOCABULARY * HIDDEN < quantized.weights < halved.weights


def test_recomputed_activations_are_the_inputs_of_the_layers(llama: Path) -> None:
    kept, recomputed = estimate(llama), estimate(llama, gradient_checkpointing=True)
    inputs = 4 * 8 * 256 * HIDDEN * LAYERS
    assert inputs <= recomputed.activations < 2 * inputs < kept.activations / 5
    assert recomputed.weights == kept.weights


def test_a_chunked_loss_holds_less_than_one_table_of_logits(llama: Path) -> None:
    table = 4 * 8 * 1024 * VOCABULARY * 8
    whole = estimate(llama, length=8 * 1024)
    assert whole.logits > 2 * table
    chunked = estimate(llama, length=8 * 1024, chunked_loss=True)
    assert chunked.logits < table


def test_parts_of_a_batch_hold_less_and_keep_the_gradients(llama: Path) -> None:
    whole, parts = estimate(llama), estimate(llama, gradient_accumulation=4)
    assert parts.activations < whole.activations / 3
    passing = parts.activations + parts.logits
    assert parts.total == memory.RUNTIME + parts.weights + parts.optimizer + passing + parts.gradients
    assert estimate(llama, num_processes=4).activations == parts.activations


def test_a_model_of_70_billion_parameters_is_estimated(tmp_path: Path) -> None:
    from transformers import LlamaConfig

    LlamaConfig(
        vocab_size=128256,
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
    ).save_pretrained(tmp_path)
    known = estimate(tmp_path, bf16=True, length=1024, gradient_checkpointing=True)
    assert known.weights == 4 * 70_553_706_496  # Llama-3-70B
    assert known.total > 16 * 70e9


def test_an_unknown_architecture_has_no_estimate(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "unheard_of"}', encoding="utf-8")
    assert memory.estimate(str(tmp_path), None, Finetune(steps=1), 16, False) is None


def test_auto_changes_nothing_for_a_small_model(base: Path) -> None:
    settings = Finetune(steps=1)
    assert memory.decided(Base(str(base)), settings, 64, False) is settings


def test_auto_saves_memory_where_a_step_does_not_fit(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, length = Finetune(steps=1, batch_size=8), 32 * 1024
    monkeypatch.setattr(memory, "available", lambda: 1e12)
    fits = memory.decided(Base(str(llama)), settings, length, False)
    assert (fits.chunked_loss, fits.gradient_checkpointing) == (True, "auto")  # the logits exceed 1 GiB
    monkeypatch.setattr(memory, "available", lambda: memory.RUNTIME)
    short = memory.decided(Base(str(llama)), settings, length, False)
    assert (short.chunked_loss, short.gradient_checkpointing) == (True, True)
    stated = settings.model_copy(update={"gradient_checkpointing": False, "chunked_loss": False})
    assert memory.decided(Base(str(llama)), stated, length, False) is stated


@pytest.mark.parametrize("method", [{"method": "full"}, {"method": "lora", "lora": {"r": 4}}])
def test_less_memory_gives_the_same_losses(
    tmp_path: Path, base: Path, rows: pl.DataFrame, method: dict[str, Any]
) -> None:
    common = {"steps": 4, "batch_size": 8, "learning_rate": 5e-3, "checkpoints": 4, **method}
    plain = finetune(rows, base, tmp_path / "plain", Finetune.model_validate(common), 4, 0)
    for name in ("gradient_checkpointing", "chunked_loss"):
        with_less = Finetune.model_validate({**common, name: True})
        assert with_less.recipe == Finetune.model_validate(common).recipe  # the same training by name
        run = finetune(rows, base, tmp_path / name, with_less, 4, 0)
        wanted = [point["loss"] for point in plain.curve]
        assert [point["loss"] for point in run.curve] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("settings", [{"optimizer": "adafactor"}, {"optimizer": "sgd"}, {"weights": "bf16"}])
def test_other_optimizers_and_weights_learn_and_are_other_trainings(
    tmp_path: Path, base: Path, rows: pl.DataFrame, settings: dict[str, Any]
) -> None:
    common = {"steps": 30, "batch_size": 8, "learning_rate": 5e-2, "checkpoints": 2, "warmup": 0}
    given = Finetune.model_validate({**common, **settings})
    assert given.recipe != Finetune.model_validate(common).recipe
    run = finetune(rows.head(8), base, tmp_path, given, 30, 0)
    assert run.curve[-1]["loss"] < run.curve[0]["loss"]


@pytest.mark.parametrize("optimizer", ["adamw_8bit", "paged_adamw_8bit"])
@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
def test_states_in_8_bits_give_nearly_the_same_losses(tmp_path: Path, rows: pl.DataFrame, optimizer: str) -> None:
    import torch

    base = make_base(tmp_path / "base", hidden=64)  # bitsandbytes keeps states of up to 4,096 numbers in fp32
    common = {"steps": 30, "batch_size": 8, "learning_rate": 5e-3, "checkpoints": 3}
    full = finetune(rows, base, tmp_path / "full", Finetune.model_validate(common), 30, 0)
    job = Job(rows, Base(str(base)), Finetune.model_validate({**common, "optimizer": optimizer}), 30, 0)
    done = train(tmp_path / "small", job, 5e-3, prepare(job), lambda step, loss: None)
    wanted = [point["loss"] for point in full.curve]
    assert [checkpoint.loss for checkpoint in done] == pytest.approx(wanted, rel=0.05)
    saved = torch.load(done[-1].folder / "optimizer.pt", weights_only=True)["state"].values()
    states = [state["__bnb_optimizer_quant_state__"]["state1"] for state in saved]
    assert {state.dtype for state in states if state.numel() > 4096} == {torch.uint8}


def test_qlora_learns_like_lora_and_is_merged_into_the_weights_as_they_were(
    tmp_path: Path, base: Path, rows: pl.DataFrame
) -> None:
    from safetensors.torch import load_file

    common = {"steps": 30, "batch_size": 8, "learning_rate": 1e-2, "checkpoints": 2, "lora": {"r": 4}}
    runs = {
        method: finetune(rows, base, tmp_path / method, Finetune.model_validate({**common, "method": method}), 30, 0)
        for method in ("lora", "qlora")
    }
    wanted = [point["loss"] for point in runs["lora"].curve]
    assert [point["loss"] for point in runs["qlora"].curve] == pytest.approx(wanted, rel=0.05)
    assert wanted[-1] < wanted[0]
    before, after = (load_file(folder / "model.safetensors") for folder in (base, runs["qlora"].path))
    assert set(before) == set(after)
    name = "model.embed_tokens.weight"  # has no adapter
    assert before[name].equal(after[name])
    assert (runs["qlora"].path.parent / "adapter" / "adapter_config.json").is_file()
    assert runs["qlora"].flops == runs["lora"].flops


@pytest.mark.parametrize("settings", [{"method": "qlora"}, {"optimizer": "adamw_8bit"}])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    monkeypatch.setattr("cos_assets.training.network.find_spec", lambda name: None)
    ((key, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{key}: {value}: needs bitsandbytes; install it with"):
        check_packages(Finetune(steps=1, **settings))
