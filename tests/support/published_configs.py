"""The configurations of the models that the paper finetunes, as published with them."""

from __future__ import annotations

from pathlib import Path


def write_config(model: str, folder: Path) -> Path:
    """Write the config.json of a hub id to a folder, and return it."""
    from transformers import Gemma2Config, GemmaConfig

    sizes = {
        "google/gemma-2-9b": (3584, 14336, 42, 16, 8, 256, 256),
        "google/gemma-2-27b": (4608, 36864, 46, 32, 16, 128, 144),
    }
    if model == "google/gemma-7b":
        config = GemmaConfig(
            hidden_size=3072, intermediate_size=24576, num_hidden_layers=28, num_attention_heads=16, head_dim=256
        )
    else:
        hidden, intermediate, layers, heads, key_heads, size, scale = sizes[model]
        config = Gemma2Config(
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=key_heads,
            head_dim=size,
            query_pre_attn_scalar=scale,
        )
    config.save_pretrained(folder / model.replace("/", "--"))
    return folder / model.replace("/", "--")
