"""The memory of a study's trainings, in `cos plan` and before a purchase."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pytest

from cos_assets import study, tiny
from cos_assets.assets import training_plan
from cos_assets.assets.step import Step
from cos_assets.report.plan import plan_lines
from cos_assets.training import memory

TASK = {"name": "arithmetic", "train": 30, "validation": 4, "test": 4}


def spec(**more: Any) -> study.StudySpec:
    given = {
        "name": "planned",
        "task": TASK,
        "models": {name: {"model": str(tiny.shipped(name))} for name in ("wc", "se")},
        "budgets": {"low": {"se": 1}},
        "sampling": {"max_tokens": 40},
        "targets": {
            "student": {"model": str(tiny.shipped("student"))},
            "wc": {"finetune": {"method": "full", "batch_size": 4}},
        },
        "finetune": {"steps": 2, "batch_size": 8, "method": "lora"},
    }
    return study.parse(given | more)


def planned(of: study.StudySpec) -> dict[str, dict[str, Any]]:
    return training_plan.training_plan(cast(Step, SimpleNamespace(spec=of)), {}, of.task.load())


@pytest.fixture
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_plan, "_SMALL", 0)


def test_models_below_20_million_parameters_are_left_out() -> None:
    assert planned(spec()) == {}


@pytest.mark.usefixtures("small_ones_too")
def test_every_target_has_its_memory_and_the_plan_shows_it() -> None:
    found = planned(spec())
    assert {name: (known["method"], known["rows"]) for name, known in found.items()} == {
        "student": ("lora", 8),
        "wc": ("full", 4),
    }
    assert found["wc"]["weights"] == found["wc"]["gradients"] == 4 * 116_544
    assert found["wc"]["optimizer"] == 8 * 116_544
    assert found["student"]["gradients"] < found["student"]["weights"]
    # The longest prompt, 40 tokens and the end of the text, up to the context of the model.
    assert all(41 < known["length"] <= 256 for known in found.values())
    facts = {"match": "flops", "match_rule": "nominal", "count_prefill": False, "training": found}
    lines = plan_lines(_no_plan(), facts)
    assert any(line.startswith("target   method  rows x tokens") for line in lines)
    (shown,) = (line for line in lines if line.startswith("wc "))
    assert shown.split()[1:5] == ["full", "4", "x", str(found["wc"]["length"])]
    assert shown.endswith("16 GB")


@pytest.mark.usefixtures("small_ones_too")
def test_a_shorter_max_length_shortens_the_rows() -> None:
    found = planned(spec(finetune={"steps": 2, "max_length": 33}))
    assert found["student"]["length"] == 33


@pytest.mark.usefixtures("small_ones_too")
def test_a_training_that_no_gpu_holds_is_refused_with_settings_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = spec(targets={"wc": {"finetune": {"method": "full"}}})
    needed = planned(alone)["wc"]["total"]
    monkeypatch.setattr(memory, "of_gpu", lambda: needed - 1e5)
    with pytest.raises(
        ValueError, match=r"finetune: a training of wc on rows of up to \d+ tokens needs .* GB"
    ) as caught:
        planned(alone)
    assert "it would fit with gradient_checkpointing: true" in str(caught.value)
    monkeypatch.setattr(memory, "of_gpu", lambda: memory.RUNTIME)
    with pytest.raises(ValueError, match="no other settings fit either; choose a smaller model or max_length"):
        planned(alone)


def test_a_target_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"targets\.student: model: 'no/such-model' is not a folder"):
        planned(spec(targets={"student": {"model": "no/such-model"}}))


def test_a_missing_package_is_named_before_a_purchase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cos_assets.training.network.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="method: qlora: needs bitsandbytes"):
        planned(spec(finetune={"steps": 2, "method": "qlora"}))


def _no_plan() -> pl.DataFrame:
    from cos_assets.storage.schemas import TABLES

    return pl.DataFrame(schema=TABLES["budget_plan"].schema)
