"""Chat templates of real models, as trl ships them: Qwen, DeepSeek, gpt-oss, Gemma, GLM, Nemotron, Llama and others."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.made_tokenizers import byte_level

from cos_assets.generation.completions import text_of
from cos_assets.generation.prompts import assistant_ids, opens_reasoning, prompt_ids, tags
from cos_assets.generation.types import Chat, Reasoning

TRL = find_spec("trl")
FILES = sorted(Path(str(TRL.origin)).parent.glob("chat_templates/*.jinja")) if TRL else []
# The templates of models that reason: with a switch, or without.
SWITCHED = ("qwen3", "qwen3_5_think", "qwen3_5_nothink", "qwen3_6", "qwen3_8", "glm4moe", "gemma4", "nemotron_3_nano")
ALWAYS = ("deepseek_r1_distill", "deepseekv3", "gptoss")
# Those that render the reasoning of the last message behind the prompt that they make.
PLACED = ("qwen3", "qwen3_5_think", "qwen3_6", "qwen3_8", "glm4moe", "nemotron_3_nano", "gptoss")
UNREAD = ("muse_glimmer", "muse_glimmer_training")  # a format without tags
MARKER = re.compile(r"<[|｜][^<>\s]*?[|｜]>|<\w+_of_turn>|<\|channel>|<channel\|>|<\|turn>|<turn\|>")
THOUGHT, REPLY = "First 2 + 3.", "It is 5."


def tokenizer(file: Path) -> Any:
    """A byte-level tokenizer for which the markers of the template are special tokens."""
    made, template = byte_level(), file.read_text(encoding="utf-8")
    own = sorted(set(MARKER.findall(template)) - set(made.all_special_tokens))
    made.add_special_tokens({"additional_special_tokens": own})
    made.chat_template = template
    return made


def named(name: str) -> Path:
    return next(file for file in FILES if file.stem == name)


def test_there_are_templates() -> None:
    assert len(FILES) > 40
    assert {*SWITCHED, *ALWAYS, *UNREAD} <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_trained_on_is_read_back(file: Path) -> None:
    """Reasoning and reply, written in the template's place for them, are told apart again."""
    made, chat = tokenizer(file), Chat(system="Be brief.")
    prompt = made.decode(prompt_ids(made, "2 + 3?", chat))
    assert "Be brief." in prompt and "2 + 3?" in prompt
    ids = assistant_ids(made, chat)(THOUGHT, REPLY, True)
    found = text_of(made, ids[:-1], (), chat, opens_reasoning(made, chat))
    if file.stem in UNREAD:
        assert found.reasoning is None
        return
    assert (str(found.reasoning).strip(), found.reply.strip()) == (THOUGHT, REPLY)
    plain = text_of(made, assistant_ids(made, chat)(None, REPLY, False), (), chat, opens_reasoning(made, chat))
    assert ((plain.reasoning or "").strip(), plain.reply.strip()) == ("", REPLY)


@pytest.mark.parametrize("name", PLACED)
def test_a_template_with_a_place_for_reasoning_is_followed(name: str) -> None:
    """The prompt and what is trained on are the template's own rendering of the conversation, up to its end."""
    made, chat = tokenizer(named(name)), Chat()
    messages = [
        {"role": "user", "content": "2 + 3?"},
        {"role": "assistant", "content": REPLY, "reasoning_content": THOUGHT, "thinking": THOUGHT},
    ]
    whole = made.apply_chat_template(messages, tokenize=False)
    ids = prompt_ids(made, "2 + 3?", chat) + assistant_ids(made, chat)(THOUGHT, REPLY, False)
    assert THOUGHT in whole
    assert whole.startswith(made.decode(ids))
    assert ids == made(made.decode(ids), add_special_tokens=False)["input_ids"], "the same tokens"


def test_a_template_that_shows_no_prompt_is_refused() -> None:
    made = byte_level()
    made.chat_template = "{% for m in messages %}{{ m.role }}{% endfor %}"
    with pytest.raises(ValueError, match="does not show the text of a user message"):
        prompt_ids(made, "2 + 3?", Chat())


@pytest.mark.parametrize("name", SWITCHED)
def test_a_switch_turns_reasoning_off(name: str) -> None:
    made = tokenizer(named(name))
    on, off = (prompt_ids(made, "2 + 3?", Chat(reasoning=Reasoning(mode=mode))) for mode in ("on", "off"))
    assert on != off
    assert not opens_reasoning(made, Chat(reasoning=Reasoning(mode="off")))


@pytest.mark.parametrize("name", ALWAYS)
def test_a_model_that_always_reasons_cannot_be_turned_off(name: str) -> None:
    with pytest.raises(ValueError, match=r"reasoning.mode: off, but the chat template has no switch"):
        prompt_ids(tokenizer(named(name)), "2 + 3?", Chat(reasoning=Reasoning(mode="off")))


def test_tags_are_a_pair_of_the_template() -> None:
    found = {file.stem: tags(tokenizer(file), Chat()) for file in FILES}
    assert found["qwen3"] == found["deepseek_r1_distill"] == ("<think>", "</think>")
    assert found["gemma4"] == found["gemma4_v2"] == ("<|channel>thought", "<channel|>")
    assert found["gptoss"][0] == "<|channel|>analysis<|message|>"
