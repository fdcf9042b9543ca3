"""Tokens per second through the platform (ledger, spend, progress) versus the bare engine, for the same requests.

    python benchmarks/sampling.py [transformers|vllm]      by default transformers

The demo's WC model, loaded in advance, draws 30 samples of each of 400 problems (vllm: 150). A second comparison is
30 samples per prompt in one request versus 30 requests of one. The variants alternate, and the best of several rounds
counts for each, because other load on the machine can only slow a run down. For transformers, the bare engine is the
engine without `generate`. For vLLM, it is vLLM's own loop over all samples, as in `LLM.generate`; 30 samples per
prompt are then also requested with vLLM's `n`, which has no seed per sample. Seconds are processor time. Engines run
in this process, on one thread.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from cos_assets import progress, tasks
from cos_assets.generation import generate
from cos_assets.generation.completions import sample_seed
from cos_assets.generation.model import resolve
from cos_assets.generation.prompts import prompt_ids
from cos_assets.generation.types import Model, Request, Sampling
from cos_assets.tiny import shipped

SAMPLES = 30
ROUNDS = 5
SAMPLING = Sampling(temperature=0.7, top_k=3, max_tokens=56)
PRICES = generate.Prices(0.1, 0.3)


class Loaded:
    """An engine that is not closed after each call."""

    def __init__(self, engine: Any) -> None:
        self.name, self.stream = engine.name, engine.stream

    def close(self) -> None: ...


def timed(what: Callable[[], int]) -> tuple[int, float]:
    """Return tokens and seconds."""
    started = time.process_time()
    tokens = what()
    return tokens, time.process_time() - started


def streamed(engine: Any, requests: list[Request]) -> int:
    return sum(c.completion_tokens or 0 for batch in engine.stream(requests, SAMPLING) for c in batch)


def vllm_alone(engine: Any, requests: list[Request], n: int = 1) -> int:
    """Run the requests as vLLM does by itself: add all of them, then step until none is left.

    With `n`, each request asks for n samples.
    """
    from vllm import SamplingParams, TokensPrompt
    from vllm.sampling_params import RequestOutputKind

    vllm, tokenizer = engine._engine, engine._engine.get_tokenizer()
    tokens = serial = 0
    for request in requests:
        prompt = TokensPrompt(prompt_token_ids=prompt_ids(tokenizer, request.prompt))
        for index in request.indices if n == 1 else (0,):
            parameters = SamplingParams(
                n=n,
                temperature=SAMPLING.temperature,
                top_k=SAMPLING.top_k or 0,
                max_tokens=SAMPLING.max_tokens,
                seed=sample_seed(SAMPLING.seed, request.prompt, index),
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            vllm.add_request(f"alone-{serial}", prompt, parameters)
            serial += 1
    while vllm.has_unfinished_requests():
        tokens += sum(len(s.token_ids) for out in vllm.step() if out.finished for s in out.outputs)
    return tokens


def platform(model: Model, prompts: pl.DataFrame) -> int:
    shown: list[str] = []
    watcher = progress.lines(shown.append)
    with tempfile.TemporaryDirectory() as root, progress.shown_by(watcher):
        buyer = generate.Buyer(Path(root), "bench", "sampling")
        bought = generate.generate(model, prompts, SAMPLES, SAMPLING, buyer, PRICES)
    return int(bought.rows["completion_tokens"].sum())


def main(engine: str = "transformers") -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    task = tasks.make({"name": "arithmetic", "train": 150 if engine == "vllm" else 400, "validation": 1, "test": 1})
    problems = task.load().filter(pl.col("split") == "train")
    texts = [task.prompt(problem) for problem in problems.to_dicts()]
    prompts = problems.select("problem_id").with_columns(prompt=pl.Series(texts))
    model = resolve(str(shipped("wc")), engine=engine)
    together = [Request(i, p, tuple(range(SAMPLES))) for i, p in prompts.iter_rows()]
    alone = [Request(i, p, (n,)) for n in range(SAMPLES) for i, p in prompts.iter_rows()]
    opened = generate.open_engine(model)
    streamed(opened, together[:20])  # imports, loads and warms up
    generate.open_engine = lambda model: Loaded(opened)  # type: ignore[assignment]

    def fresh(what: Callable[[], int]) -> tuple[int, float]:
        if engine == "vllm":
            opened._engine.reset_prefix_cache()  # type: ignore[attr-defined]
        return timed(what)

    ways: dict[str, Callable[[], int]] = {
        "bare engine": lambda: vllm_alone(opened, together) if engine == "vllm" else streamed(opened, together),
        "through the platform": lambda: platform(model, prompts),
        "30 samples together": lambda: streamed(opened, together),
        "30 requests of one": lambda: streamed(opened, alone),
    }
    if engine == "vllm":
        ways["vLLM's own n=30"] = lambda: vllm_alone(opened, together, SAMPLES)
    runs: dict[str, list[tuple[float, int]]] = {name: [] for name in ways}
    for number in range(ROUNDS):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            tokens, seconds = fresh(ways[name])
            runs[name].append((seconds, tokens))
    best = {name: min(found) for name, found in runs.items()}
    assert best["bare engine"][1] == best["through the platform"][1], "the same samples both ways"
    references = {"through the platform": "bare engine", "30 requests of one": "30 samples together"}
    print(f"{engine}: {len(together)} prompts x {SAMPLES} samples, {best['bare engine'][1]:,} tokens")
    for name, (seconds, tokens) in best.items():
        speed = f"{name:<22} {tokens / seconds:>9,.0f} tokens/s"
        other = references.get(name)
        print(f"{speed}, {best[other][0] / seconds:.3f} of: {other}" if other else speed)
    opened.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
