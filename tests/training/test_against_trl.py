"""trl's SFTTrainer has equal losses on the same rows in the same order: see benchmarks/training.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from support.toy_training import make_rows

from cos_assets.training.settings import Finetune


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    file = Path(__file__).parents[2] / "benchmarks" / "training.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_training", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses need the module in sys.modules
    spec.loader.exec_module(module)
    return module


def test_losses_equal_those_of_trl(base: Path, bench: Any) -> None:
    rows = make_rows(40)
    # trl separates prompt and completion in the tokens of both together, which is equal for these words.
    settings = Finetune(steps=4, batch_size=8, learning_rate=5e-3, checkpoints=4)
    world = bench.World("toy", base, rows.head(32), rows.tail(8), settings)
    runs = bench.measure(world, rounds=1)
    assert list(runs) == ["ours", "ours, packed", "trl as ours", "trl as it comes"]
    assert bench.apart(runs["trl as ours"], runs["ours"]) < 1e-4
    assert bench.apart(runs["ours, packed"], runs["ours"]) < 1e-4
    assert runs["trl as ours"][0].unseen == pytest.approx(runs["ours"][0].unseen, rel=1e-4)
    # By default it shuffles the rows differently.
    assert bench.apart(runs["trl as it comes"], runs["ours"]) > 1e-3
    assert all(run.speed > 0 for (run,) in runs.values())
