"""Share of the time that loading takes when many LoRA models of one base are evaluated.

    python benchmarks/adapters.py MODEL [--engine vllm|transformers] [--adapters 12] [--problems 200] [--tokens 64]
                                  [--ways adapters merged]

MODEL is a folder of a chat model. Untrained adapters of rank 16 with random weights are written for it, and the models
with these merged. Each answers the first questions of GSM8K's test split greedily. `adapters` are served by one engine,
as the platform does on a GPU; `merged` models are loaded one after another, as it does on the processor. Loading is the
time until the engine can take requests; the rest is sampling, with its ledger. The first load of a process imports the
libraries.
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


def written(model: str, count: int, folder: Path) -> list[Path]:
    """Write untrained adapters whose weights are not zero, each in `adapter` beside the merged `model`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = LoraConfig(task_type="CAUSAL_LM", r=16, target_modules="all-linear")
    found = []
    for number in range(count):
        torch.manual_seed(number)
        adapted: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.01)
        found.append(folder / str(number))
        adapted.save_pretrained(str(found[-1] / "adapter"))
        adapted.merge_and_unload().save_pretrained(str(found[-1] / "model"))
        AutoTokenizer.from_pretrained(model).save_pretrained(str(found[-1] / "model"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--engine", choices=("vllm", "transformers"), default="vllm")
    parser.add_argument("--adapters", type=int, default=12)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--ways", nargs="+", choices=("adapters", "merged"), default=["adapters", "merged"])
    given = parser.parse_args()
    sampling = Sampling(temperature=0, max_tokens=given.tokens)
    lines = (DATA / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()[: given.problems]
    prompts = pl.DataFrame(
        {
            "problem_id": [str(number) for number in range(len(lines))],
            "prompt": [json.loads(line)["question"] for line in lines],
        }
    )
    loads: list[float] = []
    open_engine = generate.open_engine

    def timed(model: Any) -> Any:
        started = time.perf_counter()
        engine = open_engine(model)
        engine.load()  # type: ignore[attr-defined]
        loads.append(time.perf_counter() - started)
        return engine

    generate.open_engine = timed  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as root:
        folders = written(given.model, given.adapters, Path(root))
        for way in given.ways:
            name = {"adapters": "adapter", "merged": "model"}[way]
            loads.clear()
            started = time.perf_counter()
            for folder in folders:
                model = resolve(str(folder / name), engine=given.engine, chat=Chat())
                buyer = generate.Buyer(Path(root) / way, "bench", "evaluation")
                generate.generate(model, prompts, 1, sampling, buyer)
            loaded.release()
            seconds = time.perf_counter() - started
            first, share = loads[0], sum(loads) / seconds
            print(f"{way:<9} {seconds:7.1f} s, loading {sum(loads):6.1f} s ({share:.1%}), the first {first:.1f} s")


if __name__ == "__main__":
    main()
