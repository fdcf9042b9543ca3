"""Requests to the engine `transformers`, and models with random weights, for tests that compare it with `generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cos_assets.generation.engines.transformers import TransformersEngine
from cos_assets.generation.generate import open_engine
from cos_assets.generation.prompts import prompt_ids
from cos_assets.generation.tokens import decode
from cos_assets.generation.types import Completion, Model, Request, Sampling
from cos_assets.tiny import shipped

MAX_TOKENS = 56
CONTEXT = 512  # of the shipped models
GREEDY = Sampling(temperature=0, max_tokens=MAX_TOKENS)
SAMPLING = Sampling(temperature=0.7, top_k=3, max_tokens=MAX_TOKENS, seed=1)
Samples = dict[tuple[str, int], Completion]
PROSE = [f"Zoë buys {i} naïve figs – at €{i * 7 % 10} each.\n" * (1 + i % 4) for i in range(12)]
BPE_PROMPTS = {str(i): text for i, text in enumerate(PROSE)}
SHARED: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.3}
LLAMA: dict[str, Any] = {**SHARED, "intermediate_size": 96, "num_key_value_heads": 2, "max_position_embeddings": 256}
GPT2: dict[str, Any] = {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 256, "initializer_range": 0.3}
KINDS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "mistral": {**LLAMA, "sliding_window": 12},  # shorter than the prompts
    "gpt2": GPT2,  # learned positions
    "bloom": {"hidden_size": 48, "n_layer": 2, "n_head": 4, "initializer_range": 0.3},  # takes no position_ids
}


def wc(**options: Any) -> TransformersEngine:
    return open_engine(Model(str(shipped("wc")), "wc", "transformers", engine_options={"device": "cpu", **options}))


def ask(
    engine: TransformersEngine, prompts: dict[str, str], indices: tuple[int, ...], sampling: Sampling = SAMPLING
) -> Samples:
    requests = [Request(problem_id, prompt, indices) for problem_id, prompt in prompts.items()]
    found = [c for batch in engine.stream(requests, sampling) for c in batch]
    assert sorted((c.problem_id, c.index) for c in found) == sorted((p, i) for p in prompts for i in indices)
    assert all(c.prompt == prompts[c.problem_id] for c in found)
    return {(c.problem_id, c.index): c for c in found}


def texts(samples: Samples) -> dict[tuple[str, int], str]:
    return {key: completion.text for key, completion in samples.items()}


def generated(folder: str | Path, prompts: dict[str, str], max_tokens: int) -> dict[str, tuple[str, int]]:
    """Greedy text and its number of tokens from transformers' `generate`, one prompt at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = {}
    for problem_id, prompt in prompts.items():
        ids = torch.tensor([prompt_ids(tokenizer, prompt)])
        out = network.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=max_tokens, pad_token_id=0
        )
        new = out[0, ids.shape[1] :].tolist()
        found[problem_id] = decode(tokenizer, new), len(new)
    return found


def random_model(folder: Path, kind: str, spoil: bool = False, **settings: Any) -> Path:
    """An untrained model whose greedy text varies, with a byte-level BPE tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from cos_assets.tiny.tokenizer import bpe_tokenizer

    tokenizer = bpe_tokenizer(PROSE, 300)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), eos_token_id=2, bos_token_id=1, **settings)
    torch.manual_seed(0)
    network: Any = AutoModelForCausalLM.from_config(config)
    if spoil:
        next(network.parameters()).data.fill_(torch.nan)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
