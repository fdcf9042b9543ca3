"""Greedy text of a real model: equal from transformers, vLLM and a served vLLM, except near-ties.

All three sum products in a different order, and the server uses bfloat16 by default. Where two texts diverge, the model
must have almost equal logits for both next tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.vllm_served import serve

from cos_assets import tasks
from cos_assets.generation.generate import open_engine
from cos_assets.generation.model import resolve
from cos_assets.generation.prompts import prompt_ids
from cos_assets.generation.tokens import completion_ids
from cos_assets.generation.types import Chat, Completion, Model, Request, Sampling

GREEDY = Sampling(temperature=0, max_tokens=40)
# The margin below the best logit at which other arithmetic may choose a token. Logits are 10 to 30 here:
# 8 bits of mantissa give steps of 0.06 to 0.12, and errors accumulate over 30 layers.
NEAR = {"float32": 1e-3, "bfloat16": 0.5}


@pytest.fixture(scope="module")
def requests(public_data: Path) -> list[Request]:
    task = tasks.make({"name": "gsm8k", "path": str(public_data / "gsm8k")})
    problems = task.load().filter(split="test").head(4).to_dicts()
    return [Request(p["problem_id"], task.prompt(p, chat=True), (0,)) for p in problems]


@pytest.fixture(scope="module")
def expected(smollm2: Path, requests: list[Request]) -> dict[str, Completion]:
    exact = {"dtype": "float32"}
    found = answers(resolve(str(smollm2), engine="transformers", chat=Chat(), options=exact), requests)
    assert len({c.text for c in found.values()}) == len(requests)
    assert all(c.completion_tokens is not None and c.completion_tokens > 10 for c in found.values())
    return found


def answers(model: Model, requests: list[Request]) -> dict[str, Completion]:
    engine = open_engine(model)
    try:
        return {c.problem_id: c for batch in engine.stream(requests, GREEDY) for c in batch}
    finally:
        engine.close()


def parted(smollm2: Path, expected: dict[str, Completion], found: dict[str, Completion]) -> list[float]:
    """For each text that differs: the margin of the model's own next token where the two diverge."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()
    gaps = []
    for problem_id, theirs in found.items():
        ours = expected[problem_id]
        assert (theirs.error, theirs.prompt_tokens) == (None, ours.prompt_tokens)
        if theirs.text == ours.text:
            continue
        a, b = (completion_ids(tokenizer, c.text) for c in (ours, theirs))
        same = next(n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
        ids = torch.tensor([[*prompt_ids(tokenizer, ours.prompt, Chat()), *a[:same]]])
        with torch.no_grad():
            logits = model(ids).logits[0, -1]
        gaps.append((logits.max() - min(logits[a[same]], logits[b[same]])).item())
    return gaps


def test_greedy_text_of_vllm_equals_transformers_except_near_ties(
    smollm2: Path, requests: list[Request], expected: dict[str, Completion]
) -> None:
    options = {"max_model_len": 1024, "dtype": "float32"}
    found = answers(resolve(str(smollm2), engine="vllm", chat=Chat(), options=options), requests)
    gaps = parted(smollm2, expected, found)
    print("float32, gaps:", gaps)
    assert len(gaps) <= len(requests) // 4
    assert all(gap < NEAR["float32"] for gap in gaps), gaps


def test_greedy_text_of_a_served_model_equals_transformers_except_near_ties(
    smollm2: Path, requests: list[Request], expected: dict[str, Completion], server: str
) -> None:
    found = answers(resolve("smollm2", engine="openai", chat=Chat(), options={"base_url": server}), requests)
    gaps = parted(smollm2, expected, found)
    print("bfloat16, gaps:", gaps)
    assert all(gap < NEAR["bfloat16"] for gap in gaps), gaps


@pytest.fixture(scope="module")
def server(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(smollm2, "smollm2", tmp_path_factory.mktemp("vllm") / "log", "--max-model-len", "1024") as url:
        yield url
