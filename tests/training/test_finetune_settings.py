from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from cos_assets.training.job import Base
from cos_assets.training.network import wants_bf16
from cos_assets.training.settings import Finetune


def test_the_settings_of_the_paper_are_accepted() -> None:
    text = "{method: full, steps: {low: 600, high: 6000}, learning_rate: [1e-6, 1e-7, 5e-7], checkpoints: 10}"
    settings = Finetune.model_validate(yaml.safe_load(text))
    assert settings.learning_rates == (1e-7, 5e-7, 1e-6)  # PyYAML reads 1e-7 as a string
    assert settings.steps_for("low") == 600
    assert settings.steps_for("high") == 6000
    assert settings.checkpoint_steps(600) == [60 * i for i in range(1, 11)]
    with pytest.raises(ValueError, match=r"finetune\.steps: has no entry for budget 'middle'; allowed: low, high"):
        settings.steps_for("middle")


def test_one_number_of_steps_applies_to_all_budgets() -> None:
    assert Finetune(steps=7).steps_for("anything") == 7


@pytest.mark.parametrize(
    ("steps", "checkpoints", "expected"),
    [(60, 4, [15, 30, 45, 60]), (10, 4, [3, 5, 8, 10]), (2, 4, [1, 2]), (1, 1, [1]), (7, 1, [7])],
)
def test_checkpoints_are_evenly_spaced(steps: int, checkpoints: int, expected: list[int]) -> None:
    assert Finetune(steps=steps, checkpoints=checkpoints).checkpoint_steps(steps) == expected


@pytest.mark.parametrize(
    ("given", "key", "message"),
    [
        ({"steps": 0}, ("steps",), "whole number of at least 1"),
        ({"steps": True}, ("steps",), "whole number of at least 1"),
        ({"steps": 2.5}, ("steps",), "whole number of at least 1"),
        ({"steps": {}}, ("steps",), "one per budget"),
        ({"steps": {"low": -1}}, ("steps",), "{'low': -1}"),
        ({}, ("steps",), "required"),
        ({"learning_rate": 0}, ("learning_rate",), "above 0"),
        ({"learning_rate": "fast"}, ("learning_rate",), "above 0"),
        ({"learning_rate": float("nan")}, ("learning_rate",), "above 0"),
        ({"learning_rate": []}, ("learning_rate",), "above 0"),
        ({"learning_rate": [1e-3, 0.001]}, ("learning_rate",), "list of different ones"),
        ({"learning_rate": [1e-3, None]}, ("learning_rate",), "above 0"),
        ({"method": "dora"}, ("method",), "'full', 'lora', 'qlora', 'external' or 'hosted'"),
        ({"optimizer": "adam"}, ("optimizer",), "'adamw', 'adamw_8bit'"),
        ({"method": "lora", "weights": "bf16"}, (), "weights: bf16 is only allowed with method: full"),
        ({"batch_size": 0}, ("batch_size",), "greater than or equal to 1"),
        ({"gradient_accumulation": 3}, (), "gradient_accumulation: 3 does not divide batch_size: 32"),
        ({"checkpoints": 0}, ("checkpoints",), "greater than or equal to 1"),
        ({"warmup": 1}, ("warmup",), "less than 1"),
        ({"scheduler": "step"}, ("scheduler",), "'cosine', 'linear' or 'constant'"),
        ({"weight_decay": -1}, ("weight_decay",), "greater than or equal to 0"),
        ({"max_grad_norm": 0}, ("max_grad_norm",), "greater than 0"),
        ({"max_length": 1}, ("max_length",), "greater than or equal to 2"),
        ({"precision": "fp16"}, ("precision",), "'auto', 'fp32' or 'bf16'"),
        ({"epochs": 3}, ("epochs",), "Extra inputs are not permitted"),
        ({"lora": {"r": 4}}, (), "lora: is only allowed with method: lora"),
        ({"method": "lora", "lora": {"r": 0}}, ("lora", "r"), "greater than or equal to 1"),
        ({"method": "lora", "lora": {"dropout": 1}}, ("lora", "dropout"), "less than 1"),
        ({"method": "lora", "lora": {"rank": 4}}, ("lora", "rank"), "Extra inputs are not permitted"),
        ({"method": "lora", "lora": {"target_modules": "all"}}, ("lora", "target_modules"), "all-linear or a list"),
        ({"method": "lora", "lora": {"target_modules": []}}, ("lora", "target_modules"), "all-linear or a list"),
    ],
)
def test_invalid_settings_are_refused_with_the_key_and_the_allowed_values(
    given: dict, key: tuple[str, ...], message: str
) -> None:
    defaults = {} if given == {} else {"steps": 10}
    with pytest.raises(ValidationError) as caught:
        Finetune.model_validate({**defaults, **given})
    (error,) = caught.value.errors()
    assert error["loc"] == key
    assert message in f"{error['type']} {error['msg']}" if key != ("steps",) or given else error["type"] == "missing"


def test_every_field_is_described() -> None:
    for model in (Finetune, Finetune.model_fields["lora"].annotation):
        assert all(field.description for field in model.model_fields.values())


def test_importing_the_package_loads_no_heavy_package() -> None:
    code = (
        "import sys, cos_assets.training.sft, cos_assets.training.settings\n"
        "print([m for m in ('torch', 'transformers', 'peft', 'datasets', 'accelerate') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("hidden", "native", "expected"), [(32, True, False), (512, True, True), (512, False, False)])
def test_auto_precision_is_bf16_on_a_cpu_for_large_models_only(
    hidden: int, native: bool, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaConfig

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": native})
    sizes = {"hidden_size": hidden, "intermediate_size": 4 * hidden, "num_hidden_layers": 4, "num_attention_heads": 4}
    LlamaConfig(vocab_size=1000, **sizes).save_pretrained(tmp_path)
    assert wants_bf16(Finetune(steps=1), Base(str(tmp_path))) is expected
    assert not wants_bf16(Finetune(steps=1, precision="fp32"), Base(str(tmp_path)))
    if native:
        assert wants_bf16(Finetune(steps=1, precision="bf16"), Base(str(tmp_path)))
    else:
        with pytest.raises(ValueError, match="precision: the CPU of this machine does not support bf16"):
            wants_bf16(Finetune(steps=1, precision="bf16"), Base(str(tmp_path)))
