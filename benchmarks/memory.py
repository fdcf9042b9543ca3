"""GPUs that a finetuning needs, for models from 0.5 to 70 billion parameters, as a Markdown table.

    python benchmarks/memory.py [--tokens 2048] [--rows 1] [--gpu 80]

A cell is the smallest number of GPUs with `--gpu` GB each that suffices, and the GB that each of them must hold. With
more than one GPU the training is sharded (FSDP2). The figures are estimates (`cos_assets.training.memory`) from the
published configurations, without weights: bf16 mixed precision, gradient checkpointing and the chunked loss, and
`--rows` rows of `--tokens` tokens at once on each GPU.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from cos_assets.training import memory
from cos_assets.training.settings import Finetune

METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "full, `weights: bf16`": {"weights": "bf16"},
    "full, `weights: bf16`, `adamw_8bit`": {"weights": "bf16", "optimizer": "adamw_8bit"},
    "LoRA": {"method": "lora"},
    "QLoRA": {"method": "qlora"},
}
COUNTS = (1, 2, 4, 8, 16, 32)
LESS = {"gradient_checkpointing": True, "chunked_loss": True}


def configs() -> dict[str, Any]:
    from transformers import Gemma2Config, GemmaConfig, LlamaConfig, Qwen2Config

    def qwen(hidden: int, intermediate: int, layers: int, heads: int) -> Any:
        return Qwen2Config(
            vocab_size=151_936,
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        )

    def gemma2(hidden: int, intermediate: int, layers: int, heads: int, size: int) -> Any:
        return Gemma2Config(
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads // 2,
            head_dim=size,
        )

    return {
        "Qwen2.5-0.5B": qwen(896, 4864, 24, 14),
        "Qwen2.5-1.5B": qwen(1536, 8960, 28, 12),
        "Gemma-7B": GemmaConfig(),
        "Gemma-2-9B": gemma2(3584, 14336, 42, 16, 256),
        "Gemma-2-27B": gemma2(4608, 36864, 46, 32, 128),
        "Llama-3-70B": LlamaConfig(
            vocab_size=128_256,
            hidden_size=8192,
            intermediate_size=28_672,
            num_hidden_layers=80,
            num_attention_heads=64,
            num_key_value_heads=8,
        ),
    }


def cell(model: Path, method: dict[str, Any], rows: int, tokens: int, gpu: float) -> str:
    """Return "n x GB", or "(GB)" if no number of GPUs that is tried suffices."""
    shards = method.get("optimizer") is None and method.get("method") != "qlora"
    for count in COUNTS if shards else COUNTS[:1]:
        sharded = {"num_processes": count, "sharding": "fsdp"} if count > 1 else {}
        settings = Finetune.model_validate({"steps": 1, "batch_size": rows * count, **LESS, **sharded, **method})
        known = memory.estimate(str(model), None, settings, tokens, bf16=True)
        assert known is not None
        size = f"{known.total / 1e9:,.0f}"
        if known.total <= gpu * 1e9:
            return f"{count} x {size}"
    return f"({size})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--gpu", type=float, default=80)
    given = parser.parse_args()
    print("| model | " + " | ".join(METHODS) + " |")
    print("|---" * (len(METHODS) + 1) + "|")
    with tempfile.TemporaryDirectory() as root:
        for name, config in configs().items():
            model = Path(root) / name
            config.save_pretrained(model)
            cells = [cell(model, method, given.rows, given.tokens, given.gpu) for method in METHODS.values()]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
