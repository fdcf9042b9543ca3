"""The starter study: hub ids by default, folders where the environment names them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support import ROOT

from cos_assets.study.environment import expand
from cos_assets.study.spec import StudySpec

VARIABLES = ("STARTER_WC", "STARTER_SE", "STARTER_STUDENT", "GSM8K_DATA")


def read(name: str) -> StudySpec:
    text = (ROOT / "dagster_project" / "defs" / name / "defs.yaml").read_text(encoding="utf-8")
    return StudySpec.model_validate(expand(yaml.safe_load(text)["attributes"])[0])


def models(spec: StudySpec) -> list[str | None]:
    return [spec.models["wc"].model, spec.models["se"].model, spec.targets["student"].model]


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["starter", "starter_smoke"])
def test_models_and_problems_come_from_the_hub_unless_folders_are_named(
    name: str, monkeypatch: pytest.MonkeyPatch, public_data: Path
) -> None:
    spec = read(name)
    assert models(spec) == [
        "Qwen/Qwen2.5-Coder-0.5B-Instruct",
        "Qwen/Qwen2.5-Coder-1.5B-Instruct",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    ]
    assert spec.task.provenance() == {"dataset": "openai/gsm8k", "config": "main", "revision": None}
    for variable in VARIABLES:
        monkeypatch.setenv(variable, f"/folders/{variable}")
    monkeypatch.setenv("GSM8K_DATA", str(public_data / "gsm8k"))
    spec = read(name)
    assert models(spec) == ["/folders/STARTER_WC", "/folders/STARTER_SE", "/folders/STARTER_STUDENT"]
    counts = spec.task.load()["split"].value_counts().rows()
    assert dict(counts) == spec.task.limit


def test_the_small_study_asks_as_the_whole_one_does() -> None:
    """So that what it buys is not bought again by the whole study."""
    whole, small = read("starter"), read("starter_smoke")
    assert small.models == whole.models
    assert small.sampling == whole.sampling
    assert small.targets == whole.targets
    assert small.evaluation == whole.evaluation
    assert all(small.task.limit[split] < count for split, count in whole.task.limit.items())
