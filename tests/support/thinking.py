"""Chat templates of thinking models, and a small untrained model that gets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.made_tokenizers import byte_level

_TURNS = """\
{%- for m in messages %}
{%- if m.role == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}
{%- if m.reasoning_content %}
{{- '<think>\\n' + m.reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}
{%- endif %}
{{- m.content.lstrip('\\n') + '<|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
"""
PLAIN = _TURNS + "{%- endif %}"
"""A template without a switch; reasoning is a part of the messages."""
SWITCH = (
    _TURNS
    + """\
{%- if enable_thinking is defined and not enable_thinking %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""
)
"""Qwen3's form: the model opens its reasoning, and `enable_thinking: false` puts an empty one into the prompt."""
OPENED = (
    _TURNS
    + """\
{{- '<think>\\n' }}
{%- endif %}"""
)
"""The form of QwQ and DeepSeek-R1: the prompt ends inside the reasoning, and there is no switch."""
NO_SYSTEM = """\
{{- bos_token }}
{%- for m in messages %}
{%- if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{{- '<start_of_turn>' + m.role + '\\n' + m.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
"""Gemma's form: it rejects a system message and adds BOS itself."""


def tokenizer(template: str) -> Any:
    made = byte_level()
    made.chat_template = template
    return made


def model(folder: Path, template: str, seed: int = 0) -> Path:
    """Write a small random Llama with a byte-level tokenizer, and return its folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    made = tokenizer(template)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(made),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=1024,
        bos_token_id=made.bos_token_id,
        eos_token_id=made.eos_token_id,
        initializer_range=0.5,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder
