"""LoRA adapters as models: on their base they answer like the merged model; their content is in the fingerprint."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.toy_training import finetune

from cos_assets.generation import adapters
from cos_assets.generation.generate import open_engine
from cos_assets.generation.model import count_parameters, resolve
from cos_assets.generation.types import Request, Sampling
from cos_assets.tasks.arithmetic import Arithmetic
from cos_assets.tiny import shipped
from cos_assets.training.settings import Finetune

TASK = Arithmetic(train=100, validation=1, test=40)
GREEDY = Sampling(temperature=0, max_tokens=56)


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA finetuning of the shipped model on its own kind of solutions without the last sentence."""
    problems = TASK.load().filter(pl.col("split") == "train").to_dicts()
    rows = pl.DataFrame(
        {
            "prompt": [TASK.prompt(p) for p in problems],
            "completion": [p["solution"].split(" The answer is")[0] for p in problems],
        }
    )
    how = {"method": "lora", "steps": 1, "batch_size": 20, "learning_rate": 1e-2, "checkpoints": 1, "lora": {"r": 5}}
    folder = tmp_path_factory.mktemp("lora")
    finetune(rows, shipped("wc"), folder, Finetune.model_validate(how), steps=30, seed=0)
    return folder


def answers(model: str | Path, engine: str, **options: Any) -> list[str]:
    problems = TASK.load().filter(pl.col("split") == "test").to_dicts()
    requests = [Request(p["problem_id"], TASK.prompt(p), (0,)) for p in problems]
    opened = open_engine(resolve(str(model), engine=engine, options=options))
    try:
        found = {c.problem_id: c.text for batch in opened.stream(requests, GREEDY) for c in batch}
    finally:
        opened.close()
    return [found[request.problem_id] for request in requests]


def test_adapter_and_merged_model_give_the_same_answers_with_transformers(lora: Path) -> None:
    served = answers(lora / "adapter", "transformers")
    assert served == answers(lora / "model", "transformers")
    assert len(set(served)) > 30, "the texts depend on the prompts"
    base = answers(shipped("wc"), "transformers")
    assert sum("The answer is" in text for text in base) > 30
    assert sum("The answer is" in text for text in served) < 10, "the adapter was applied"


def test_adapter_and_merged_model_give_the_same_answers_with_vllm(lora: Path) -> None:
    try:
        import vllm  # noqa: F401
    except ImportError as error:
        if os.environ.get("CI"):
            pytest.fail(f"vllm cannot be imported ({error}): in CI these tests must run")
        pytest.skip(f"vllm cannot be imported ({error})")
    served = answers(lora / "adapter", "vllm", max_num_seqs=64)
    assert served == answers(lora / "model", "vllm", max_num_seqs=64)
    assert served == answers(lora / "adapter", "transformers")


def test_fingerprint_of_an_adapter_depends_on_its_content_and_its_base(lora: Path, tmp_path: Path) -> None:
    here = resolve(str(lora / "adapter"), engine="vllm")
    base, moved = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(shipped("wc"), base)
    shutil.copytree(lora / "adapter", moved)

    def say(**changes: Any) -> None:
        file = moved / adapters.CONFIG
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    say(base_model_name_or_path="../base")  # the same base in another folder
    assert resolve(str(moved), engine="vllm").fingerprint == here.fingerprint
    assert here.fingerprint != resolve(str(lora / "model"), engine="vllm").fingerprint
    assert here.params == count_parameters(shipped("wc")) + count_parameters(lora / "adapter")
    say(lora_alpha=1)
    other_scale = resolve(str(moved), engine="vllm").fingerprint
    say(lora_alpha=32.0)
    (base / "config.json").write_text((base / "config.json").read_text().replace("1e-06", "1e-05"))
    other_base = resolve(str(moved), engine="vllm").fingerprint
    assert len({here.fingerprint, other_scale, other_base}) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, r"adapter_config.json: peft_type: 'IA3' cannot be served; expected LORA"),
        ({"base_model_name_or_path": None}, "base_model_name_or_path: is missing; expected the base model's hub id"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save: \['lm_head'\] cannot be served; merge the adapter"),
        ({"base_model_name_or_path": "/no/such/folder"}, "model: '/no/such/folder' is not a folder"),
    ],
)
def test_an_adapter_that_cannot_be_served_is_refused(
    lora: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    shutil.copytree(lora / "adapter", tmp_path / "adapter")
    file = tmp_path / "adapter" / adapters.CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        resolve(str(tmp_path / "adapter"), engine="vllm")


def test_finetuning_an_adapter_is_refused(lora: Path, tmp_path: Path) -> None:
    rows = pl.DataFrame({"prompt": ["a"], "completion": ["b"]})
    with pytest.raises(ValueError, match="is an adapter, which cannot be finetuned; give the merged model's folder"):
        finetune(rows, lora / "adapter", tmp_path, Finetune.model_validate({"steps": 1}), steps=1, seed=0)
