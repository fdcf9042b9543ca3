"""Share of the time that loading takes when many LoRA adapters of one base are evaluated.

    python benchmarks/adapters.py MODEL [--engine vllm|transformers] [--adapters 12] [--problems 200]

MODEL is a folder of a chat model. Untrained adapters of rank 16 with random weights are written for it. Each answers
the first questions of GSM8K's test split with at most 32 tokens, greedily. `kept` is what the platform does: one engine
serves all adapters. `opened` loads the model for each adapter, as the platform did before. Loading is the time until
the engine can take requests; the rest is sampling, with its ledger. The first load of a process imports the libraries.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from cos_assets.generation import generate, loaded
from cos_assets.generation.model import resolve
from cos_assets.generation.types import Chat, Sampling

DATA = Path(os.environ.get("COS_PUBLIC_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SAMPLING = Sampling(temperature=0, max_tokens=32)


def written(model: str, count: int, folder: Path) -> list[Path]:
    """Write untrained adapters whose weights are not zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(task_type="CAUSAL_LM", r=16, target_modules="all-linear")
    found = []
    for number in range(count):
        torch.manual_seed(number)
        adapted: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.01)
        found.append(folder / f"adapter-{number}")
        adapted.save_pretrained(str(found[-1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--engine", choices=("vllm", "transformers"), default="vllm")
    parser.add_argument("--adapters", type=int, default=12)
    parser.add_argument("--problems", type=int, default=200)
    given = parser.parse_args()
    lines = (DATA / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()[: given.problems]
    prompts = pl.DataFrame(
        {
            "problem_id": [str(number) for number in range(len(lines))],
            "prompt": [json.loads(line)["question"] for line in lines],
        }
    )
    loading = 0.0
    open_engine = generate.open_engine

    def timed(model: Any) -> Any:
        nonlocal loading
        started = time.perf_counter()
        engine = open_engine(model)
        engine.load()  # type: ignore[attr-defined]
        loading += time.perf_counter() - started
        return engine

    generate.open_engine = timed  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as root:
        folders = written(given.model, given.adapters, Path(root))
        for way in ("kept", "opened"):
            loading, started = 0.0, time.perf_counter()
            for folder in folders:
                model = resolve(str(folder), engine=given.engine, chat=Chat())
                buyer = generate.Buyer(Path(root) / way, "bench", "evaluation")
                generate.generate(model, prompts, 1, SAMPLING, buyer)
                if way == "opened":
                    loaded.release()
            loaded.release()
            seconds = time.perf_counter() - started
            print(f"{way:<7} {seconds:7.1f} s, loading {loading:6.1f} s ({loading / seconds:.1%})", flush=True)


if __name__ == "__main__":
    main()
