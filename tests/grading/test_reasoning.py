"""The start of the reply after every form of reasoning block."""

from __future__ import annotations

import pytest

from cos_assets.generation.completions import cut
from cos_assets.grading.reasoning import reply_of, reply_start

REPLIES = {
    "no reasoning": ("48 + 24 = 72.", "48 + 24 = 72."),
    "think": ("<think>\nMaybe 24.\n</think>\n\n72", "\n\n72"),
    "on one line": ("<think>The answer is A?</think>(B)", "(B)"),
    "upper case": ("<THINK>a</THINK>b", "b"),
    "other names": ("<thinking>a</thinking>b", "b"),
    "reasoning": ("<reasoning>\na\n</reasoning>\nb", "\nb"),
    "only the closing tag": ("Maybe 24. No.\n</think>\n72", "\n72"),
    "square brackets": ("[THINK]a[/THINK]b", "b"),
    "a tag with a prefix": ("<seed:think>a</seed:think>b", "b"),
    "other marks": ("◁think▷a◁/think▷b", "b"),
    "special tokens as tags": ("<|START_THINKING|>a<|END_THINKING|>b", "b"),
    "two blocks": ("<think>a</think>b\n<think>c</think>d", "d"),
    "a block that quotes its tag": ("<think>I use <think> tags.\n</think>b", "b"),
    "harmony": (
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>",
        "b",
    ),
    "harmony without special tokens": ("analysisWe add.assistantfinalIt is 72.", "It is 72."),
    "a tag in quotes": ("Split at `</think>` first.", "Split at `</think>` first."),
    "a word": ("analysis of the text", "analysis of the text"),
    "never ended": ("<think>\nIs it 5? Let me", None),
    "begun again and never ended": ("<think>a</think>b\n<think>c", None),
    "never ended in brackets": ("[THINK]is it 5?", None),
    "harmony, never ended": ("<|channel|>analysis<|message|>is it 5?", None),
    "harmony without special tokens, never ended": ("analysisWe add", None),
    "nothing behind it": ("<think>\\boxed{5}</think>", None),
    "a leaked end": ("72<|im_end|>\n<|im_start|>user\nAnd 5?", "72"),
    "a leaked end of sequence": ("3 * 12 = 36 </s> junk", "3 * 12 = 36 "),
    "a leaked start": ("<|im_start|>assistant\n72<|im_end|>", "72"),
    "Llama 3": ("<|start_header_id|>assistant<|end_header_id|>\n\n72<|eot_id|>", "72"),
    "Gemma": ("72<end_of_turn>\n<eos>", "72"),
    "HTML": ("Use <s>this</s> that.", "Use <s>this</s> that."),
    "nothing": ("", ""),
}


@pytest.mark.parametrize("name", REPLIES)
def test_reply_starts_after_the_reasoning(name: str) -> None:
    text, reply = REPLIES[name]
    assert reply_of(text) == reply


def test_stop_strings_are_applied_in_the_reply_only() -> None:
    reasoning = "<think>\nQuestion: how many clips?\n48 + 24 = 72.\n</think>\n#### 72"
    assert cut(reasoning, ("\nQuestion:",)) == reasoning
    assert cut(f"{reasoning}\nQuestion: what is next?", ("\nQuestion:",)) == reasoning
    assert cut("<think>\nQuestion: a", ("\nQuestion:",)) == "<think>\nQuestion: a"
    assert cut("a\nQuestion: b", ("\nQuestion:",)) == "a"


@pytest.mark.parametrize("mark", ["<think>", "</think>", "\n<think>", "<|channel|>", "<|im_end|>", "<s>", "</s>", " "])
def test_a_megabyte_of_one_mark_is_read_in_linear_time(mark: str) -> None:
    text = mark * (1_000_000 // len(mark))
    assert reply_start(text) <= len(text)
    reply_of(text)
