"""Tokens per second of a real model through the platform versus the bare engine with its own defaults, in one run.

    python benchmarks/real_sampling.py MODEL [--engine transformers|vllm] [--rows 1 8 32 128] [--rounds 2] [--top-p 1]
                                       [--tokens 64] [--batch-size N]

MODEL is a folder or hub id of a chat model. Each side draws one sample of at most 64 tokens for each of the first
questions of GSM8K's test split (from the folder that COS_PUBLIC_DATA names, or ../shared/data), in processes of its own
that alternate; the best round counts. Seconds are wall-clock time after one batch to warm up; loading is excluded.

The reference for transformers is `generate()` with all questions in one batch, or in batches of `--batch-size`, which
is then also the most that the platform decodes at once. For vLLM it is `LLM.generate`. Both use their own threads,
number format, batch size, compilation and processes. vLLM's memory for the cache is set to 2 GiB, because its default
is nearly all memory of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from cos_assets.generation import generate
from cos_assets.generation.model import resolve
from cos_assets.generation.types import Chat, Sampling

DATA = Path(os.environ.get("COS_PUBLIC_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
_RESULT = "result: "
Run = Callable[[list[str]], int]


def ours(given: argparse.Namespace) -> Run:
    from cos_assets.generation.compute import size, torch_threads

    options = {"batch_size": given.batch_size} if given.batch_size else {}
    model = resolve(given.model, engine=given.engine, chat=Chat(), options=options)
    with torch_threads(size(model)):
        opened = generate.open_engine(model)
    opened.close = lambda: None  # type: ignore[method-assign]
    generate.open_engine = lambda model: opened  # type: ignore[assignment]
    sampling = Sampling(temperature=0.7, top_p=given.top_p, max_tokens=given.tokens)

    def run(questions: list[str]) -> int:
        prompts = pl.DataFrame({"problem_id": [str(n) for n in range(len(questions))], "prompt": questions})
        with tempfile.TemporaryDirectory() as root:
            bought = generate.generate(model, prompts, 1, sampling, generate.Buyer(Path(root), "bench", "sampling"))
        return int(bought.rows["completion_tokens"].sum())

    return run


def alone(given: argparse.Namespace) -> Run:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(given.model, padding_side="left")

    def chats(questions: list[str], **options: Any) -> Any:
        messages = [[{"role": "user", "content": question}] for question in questions]
        return tokenizer.apply_chat_template(messages, add_generation_prompt=True, **options)

    if given.engine == "vllm":
        from vllm import LLM, SamplingParams, TokensPrompt

        llm = LLM(model=given.model, kv_cache_memory_bytes=2 << 30)
        parameters = SamplingParams(temperature=0.7, top_p=given.top_p, max_tokens=given.tokens)

        def run(questions: list[str]) -> int:
            prompts = [TokensPrompt(prompt_token_ids=ids) for ids in chats(questions, return_dict=False)]
            found = llm.generate(prompts, parameters, use_tqdm=False)
            return sum(len(output.outputs[0].token_ids) for output in found)

        return run
    network: Any = AutoModelForCausalLM.from_pretrained(given.model)
    options = {"do_sample": True, "temperature": 0.7, "top_p": given.top_p, "top_k": 0, "max_new_tokens": given.tokens}

    def run_generate(questions: list[str]) -> int:
        total, size = 0, given.batch_size or len(questions)
        for start in range(0, len(questions), size):
            inputs = chats(questions[start : start + size], return_tensors="pt", padding=True, return_dict=True)
            out = network.generate(**inputs, **options, pad_token_id=tokenizer.eos_token_id)
            new = out[:, inputs["input_ids"].shape[1] :]
            written = (new != tokenizer.eos_token_id).cumprod(1).sum(1) + 1
            total += int(written.clamp(max=new.shape[1]).sum())
        return total

    return run_generate


def measured(given: argparse.Namespace) -> dict[str, float]:
    """Return the tokens per second by number of rows, for one side in this process."""
    lines = (DATA / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines[: max(given.rows)]]
    run = {"ours": ours, "alone": alone}[given.side](given)
    run(questions[:2])
    speeds = {}
    for count in given.rows:
        started = time.perf_counter()
        tokens = run(questions[:count])
        speeds[str(count)] = tokens / (time.perf_counter() - started)
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--side", choices=("ours", "alone"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(_RESULT + json.dumps(measured(given)))
        return
    best: dict[str, dict[str, float]] = {"ours": {}, "alone": {}}
    for number in range(given.rounds):
        for side in ("ours", "alone")[:: -1 if number % 2 else 1]:
            command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            (line,) = [line for line in done.stdout.splitlines() if line.startswith(_RESULT)]  # engines print, too
            for rows, speed in json.loads(line.removeprefix(_RESULT)).items():
                best[side][rows] = max(speed, best[side].get(rows, 0.0))
    reference = "generate()" if given.engine == "transformers" else "LLM.generate"
    print(f"{given.model}, {given.engine}: tokens per second by number of samples drawn at once")
    for rows, speed in best["ours"].items():
        other = best["alone"][rows]
        print(f"{rows:>5}  platform {speed:>9,.1f}  {reference} {other:>9,.1f}  ratio {speed / other:.2f}")


if __name__ == "__main__":
    main()
