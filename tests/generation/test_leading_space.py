"""Local engines return the text with its leading space, although the tokenizer drops it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support import made_tokenizers as made

from cos_assets.generation.generate import open_engine
from cos_assets.generation.model import resolve
from cos_assets.generation.types import Completion, Request, Sampling

PROMPT = "def f(a):\n"


def fixed_output_model(folder: Path, tokenizer: Any, tokens: Sequence[str]) -> Path:
    """A Llama that always writes the given tokens: its layers add nothing, and each token leads to the next."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    size = 512
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=8,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    one_hot = torch.eye(len(tokenizer), size)
    with torch.no_grad():
        layer = model.model.layers[0]
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(one_hot)
        model.lm_head.weight.zero_()
        for now, following in pairwise(tokenizer.convert_tokens_to_ids(list(tokens))):
            model.lm_head.weight[following] = one_hot[now]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_the_leading_space_of_a_completion_is_kept(tmp_path: Path, engine: str) -> None:
    tokenizer = made.llama2()
    before = tokenizer.convert_ids_to_tokens(tokenizer(PROMPT)["input_ids"])
    assert before[-1] == "<0x0A>"
    model = fixed_output_model(tmp_path, tokenizer, ["<0x0A>", "▁▁▁▁", "return", "▁4", "2", "</s>"])
    opened = open_engine(resolve(str(model), engine=engine))

    def asked(*stop: str) -> tuple[str, str, int | None]:
        sampling = Sampling(temperature=0, max_tokens=20, stop=stop)
        (found,) = [c for batch in opened.stream([Request("p", PROMPT, (0,))], sampling) for c in batch]
        assert isinstance(found, Completion) and found.error is None
        return found.text, found.finish_reason, found.completion_tokens

    try:
        assert asked() == ("    return 42", "stop", 5)
        # Stop strings are looked for in the same text.
        assert asked("return 4") == ("    ", "stop", 3)
        assert asked("    return") == ("", "stop", 2)
        assert asked("     ", "\n") == ("    return 42", "stop", 5)  # five spaces are never there
    finally:
        opened.close()
