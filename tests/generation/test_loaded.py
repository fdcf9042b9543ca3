"""An engine that is kept between purchases serves the adapters of one base, and every other model gets its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.toy_training import finetune

from cos_assets.generation import generate as purchase
from cos_assets.generation import loaded
from cos_assets.generation.generate import Buyer, generate
from cos_assets.generation.model import resolve
from cos_assets.generation.types import Model, Sampling
from cos_assets.tasks.arithmetic import Arithmetic
from cos_assets.tiny import shipped
from cos_assets.training.settings import Finetune

TASK = Arithmetic(train=40, validation=1, test=12)
GREEDY = Sampling(temperature=0, max_tokens=40)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two LoRA finetunings of the shipped model: one leaves out the last sentence, the other repeats the question."""
    problems = TASK.load().filter(pl.col("split") == "train").to_dicts()
    prompts = [TASK.prompt(problem) for problem in problems]
    lessons = {
        "short": [problem["solution"].split(" The answer is")[0] for problem in problems],
        "echo": [problem["question"] for problem in problems],
    }
    how = {"method": "lora", "steps": 1, "batch_size": 20, "learning_rate": 1e-2, "checkpoints": 1, "lora": {"r": 8}}
    root = tmp_path_factory.mktemp("lora")
    for name, texts in lessons.items():
        rows = pl.DataFrame({"prompt": prompts, "completion": texts})
        finetune(rows, shipped("wc"), root / name, Finetune.model_validate(how), steps=30, seed=0)
    return {name: root / name for name in lessons}


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep tiny models, too, and release the last one."""
    monkeypatch.setattr(loaded, "worth_keeping", lambda params: True)
    yield
    loaded.release()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The engines that were opened."""
    found: list[Any] = []
    real = purchase.open_engine

    def noted(model: Model) -> Any:
        found.append(real(model))
        return found[-1]

    monkeypatch.setattr(purchase, "open_engine", noted)
    return found


def models(trained: dict[str, Path], engine: str) -> dict[str, Model]:
    """The base, and both finetuned models, as adapters and merged."""
    options: dict[str, Any] = {"dtype": "float32"}
    options |= {"max_model_len": 256, "max_num_seqs": 16} if engine == "vllm" else {}
    found = {"base": resolve(str(shipped("wc")), engine=engine, options=options)}
    for name, folder in trained.items():
        merged = resolve(str(folder / "model"), engine=engine, options=options)
        found |= {f"{name} merged": merged, name: replace(merged, adapter=str(folder / "adapter"))}
    return found


def texts(model: Model, root: Path) -> list[str]:
    problems = TASK.load().filter(pl.col("split") == "test")
    prompts = problems.select("problem_id").with_columns(
        prompt=pl.Series([TASK.prompt(p) for p in problems.to_dicts()])
    )
    return generate(model, prompts, 1, GREEDY, Buyer(root, "s", "evaluation")).rows["completion"].to_list()


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_one_engine_serves_all_adapters_of_a_base(
    trained: dict[str, Path], engine: str, opened: list[Any], tmp_path: Path
) -> None:
    found = models(trained, engine)
    served = {}
    for number, name in enumerate(["short", "echo", "base", "short", "echo"]):
        served[name, number] = texts(found[name], tmp_path / str(number))
    assert len(opened) == 1, "the base was loaded once"
    assert served["short", 0] == served["short", 3] and served["echo", 1] == served["echo", 4]
    loaded.release()
    merged = {name: texts(found[name], tmp_path / name) for name in ("short merged", "echo merged", "base")}
    assert served["short", 0] == merged["short merged"]
    assert served["echo", 1] == merged["echo merged"]
    assert served["base", 2] == merged["base"]
    assert len({*map(tuple, merged.values())}) == 3, "the three models answer differently"
    assert found["short"].fingerprint == found["short merged"].fingerprint, "an adapter is the same model in the ledger"


def test_another_model_closes_the_engine_before_it_is_loaded(
    trained: dict[str, Path], opened: list[Any], tmp_path: Path
) -> None:
    texts(models(trained, "transformers")["base"], tmp_path / "1")
    texts(resolve(str(shipped("se")), engine="transformers"), tmp_path / "2")
    first, second = opened
    assert first._network is None and second._network is not None


def test_an_engine_that_fails_is_closed(opened: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(solutions: Any) -> None:
        raise ValueError("enough")

    model = resolve(str(shipped("wc")), engine="transformers")
    prompts = pl.DataFrame({"problem_id": ["p"], "prompt": ["2 + 3"]})
    warm, buyer = Sampling(temperature=1.0, max_tokens=40), Buyer(tmp_path, "s", "sampling")
    with pytest.raises(ValueError, match="enough"):
        generate(model, prompts, 40, warm, buyer, look=look)
    (engine,) = opened
    assert engine._network is None
    texts(model, tmp_path)
    assert len(opened) == 2


def test_a_changed_folder_is_loaded_again(opened: list[Any], tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(shipped("wc"), tmp_path / "model"))
    model = resolve(str(folder), engine="transformers")
    texts(model, tmp_path / "1")
    shutil.copy(shipped("wc") / "model.safetensors", folder / "model.safetensors")
    (folder / "model.safetensors").touch()
    texts(model, tmp_path / "2")
    assert len(opened) == 2
