"""GB per GPU that a finetuning needs, for models from 0.5 to 70 billion parameters, as a Markdown table.

    python benchmarks/memory.py [--tokens 2048] [--rows 1]

The figures are estimates (`cos_assets.training.memory`) from the published configurations, without weights: bf16 mixed
precision, gradient checkpointing and the chunked loss, and `--rows` rows of `--tokens` tokens at once on each GPU.
Sharded means over 8 GPUs.
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
    "full, `weights: bf16`, `adamw_8bit`": {"weights": "bf16", "optimizer": "adamw_8bit"},
    "full, sharded": {"num_processes": 8, "sharding": "fsdp"},
    "LoRA": {"method": "lora"},
    "LoRA, sharded": {"method": "lora", "num_processes": 8, "sharding": "fsdp"},
    "QLoRA": {"method": "qlora"},
}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--rows", type=int, default=1)
    given = parser.parse_args()
    print("| model | " + " | ".join(METHODS) + " |")
    print("|---" * (len(METHODS) + 1) + "|")
    with tempfile.TemporaryDirectory() as root:
        for name, config in configs().items():
            config.save_pretrained(Path(root) / name)
            cells = []
            for method in METHODS.values():
                rows = given.rows * method.get("num_processes", 1)
                less = {"gradient_checkpointing": True, "chunked_loss": True}
                settings = Finetune.model_validate({"steps": 1, "batch_size": rows, **less, **method})
                known = memory.estimate(str(Path(root) / name), None, settings, given.tokens, bf16=True)
                assert known is not None
                cells.append(f"{known.total / 1e9:,.0f}")
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
