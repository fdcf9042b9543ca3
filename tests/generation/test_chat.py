"""Prompts inside a chat template: the same tokens in sampling and in training, and another prompt for the ledger."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets import tasks
from cos_assets.generation.generate import open_engine
from cos_assets.generation.model import resolve
from cos_assets.generation.prompts import prompt_ids
from cos_assets.generation.types import Chat, Request, Sampling
from cos_assets.tiny import shipped
from cos_assets.training.data import encode

BEFORE = "Ann has 7 apples . "
TEMPLATE = "{% for m in messages %}" + BEFORE + "{{ m['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def instruct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat") / "wc"
    shutil.copytree(shipped("wc"), folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def problems() -> dict[str, str]:
    task = tasks.make({"name": "arithmetic", "train": 1, "validation": 1, "test": 20})
    return {p["problem_id"]: task.prompt(p) for p in task.load().filter(pl.col("split") == "test").to_dicts()}


def answers(
    folder: Path, prompts: dict[str, str], chat: bool, engine: str = "transformers", options: Any = None
) -> dict[str, str]:
    opened = open_engine(resolve(str(folder), engine=engine, chat=Chat() if chat else None, options=options))
    requests = [Request(problem_id, prompt, (0,)) for problem_id, prompt in prompts.items()]
    sampling = Sampling(temperature=0.0, max_tokens=40)
    try:
        return {c.problem_id: c.text for batch in opened.stream(requests, sampling) for c in batch}
    finally:
        opened.close()


def test_prompts_are_sent_inside_the_chat_template(instruct: Path) -> None:
    asked = problems()
    spelled_out = answers(instruct, {name: BEFORE + prompt for name, prompt in asked.items()}, chat=False)
    assert answers(instruct, asked, chat=True) == spelled_out
    assert answers(instruct, asked, chat=False) != spelled_out


def test_training_prompts_have_the_tokens_of_sampling_prompts(instruct: Path) -> None:
    ours = tokenizer(instruct)
    (prompt, *_) = problems().values()
    rows = pl.DataFrame({"prompt": [prompt], "completion": ["1 + 2 = 3 ."]})
    ((row,), _), ((plain,), _) = (encode(rows, ours, None, chat) for chat in (Chat(), None))
    assert row.ids[: row.prompt].tolist() == prompt_ids(ours, prompt, Chat()) == prompt_ids(ours, BEFORE + prompt)
    assert row.ids[row.prompt :].tolist() == plain.ids[plain.prompt :].tolist()


THOUGHTFUL = "{% for m in messages %}{{ m['content'] }}{% if think %}" + BEFORE + "{% endif %}{% endfor %}"


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_sampling_passes_the_arguments_to_the_chat_template(tmp_path: Path, engine: str) -> None:
    folder = tmp_path / "wc"
    shutil.copytree(shipped("wc"), folder)
    (folder / "chat_template.jinja").write_text(THOUGHTFUL)
    asked = problems()
    options = {"chat_template_kwargs": {"think": True}}
    thoughtful = answers(folder, asked, chat=True, engine=engine, options=options)
    assert thoughtful == answers(folder, {name: prompt + BEFORE for name, prompt in asked.items()}, chat=False)
    assert thoughtful != answers(folder, asked, chat=True)


def test_training_passes_the_arguments_to_the_chat_template(tmp_path: Path) -> None:
    from support.toy_training import finetune

    from cos_assets.training.job import Base
    from cos_assets.training.loss_mask import wrongly_learned
    from cos_assets.training.settings import Finetune

    folder = tmp_path / "wc"
    shutil.copytree(shipped("wc"), folder)
    (folder / "chat_template.jinja").write_text(THOUGHTFUL)
    ours = tokenizer(folder)
    (prompt, *_) = problems().values()
    rows = pl.DataFrame({"prompt": [prompt], "completion": ["1 + 2 = 3 ."]})
    ((row,), _) = encode(rows, ours, None, Chat(kwargs={"think": True}))
    assert row.ids[: row.prompt].tolist() == prompt_ids(ours, prompt + BEFORE)
    assert wrongly_learned(rows, Base(str(folder), None, Chat(kwargs={"think": True})), Finetune(steps=1)) == 0
    settings = Finetune(steps=1, batch_size=1, checkpoints=1)
    (thoughtful, plain) = (
        finetune(rows, folder, tmp_path / name, settings, 1, 0, chat=Chat(kwargs=template or {}))
        for name, template in (("a", {"think": True}), ("b", None))
    )
    assert thoughtful.tokens == len(row)
    assert plain.tokens == len(row) - len(ours(BEFORE)["input_ids"])


def test_chat_mode_changes_the_fingerprint_of_the_model(instruct: Path) -> None:
    asked, plain = (resolve(str(instruct), engine="transformers", chat=chat) for chat in (Chat(), None))
    assert asked.fingerprint == f"{plain.fingerprint}-chat"


def test_chat_is_refused_for_a_model_without_a_template() -> None:
    with pytest.raises(ValueError, match=r"chat: true, but the tokenizer of '.*wc' has no chat template; leave chat"):
        prompt_ids(tokenizer(shipped("wc")), "Q", chat=True)
