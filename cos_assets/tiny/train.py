"""Training recipe of the tiny models: a small Llama, trained from scratch on pairs of prompt and solution.

The optimizers are Muon for the matrices of the layers and AdamW for embeddings and norms. The learning rates follow a
cosine schedule to 5 % after 5 % of warm-up. The loss covers only the solution, and batches contain texts of similar
length. The embeddings of numbers are initialized with the Fourier features that trained models develop (Zhou et al.
2024, "Pre-trained large language models use Fourier features to compute addition"), which saves about half of the
steps. Training uses one thread: two processes of one thread each are several times faster on two busy cores than one
process of two threads.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from cos_assets.progress import no_progress_bars
from cos_assets.tiny import ROLES, corpus
from cos_assets.tiny.tokenizer import word_tokenizer

STEPS = 1500  # of BATCH texts. After only 1,000, WC is right too seldom for its data to be the better choice.
BATCH = 32
MUON_LR, ADAM_LR = 0.02, 2e-3
PERIODS = (2, 5, 10, 20, 50, 100, 200)
IGNORE = -100  # the label that torch's cross-entropy ignores
Pair = tuple[str, str]


@dataclass(frozen=True)
class Shape:
    """The size of a Llama. hidden / heads must be a head size that the engines support; all support 32."""

    hidden: int
    layers: int
    ffn: int
    heads: int
    context: int = 512


SHAPES = {"student": Shape(64, 2, 128, 2), "wc": Shape(64, 2, 176, 2), "se": Shape(96, 3, 256, 3)}
assert tuple(SHAPES) == ROLES


def new_model(shape: Shape, tokenizer: Any, seed: int) -> Any:
    """Return an untrained fp32 Llama with tied embeddings. The same seed gives the same model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        numbers = {int(token): i for token, i in tokenizer.get_vocab().items() if token.isascii() and token.isdigit()}
        if numbers:
            angles = 2 * math.pi * torch.tensor(sorted(numbers))[:, None] / torch.tensor(PERIODS)
            waves = torch.cat([angles.sin(), angles.cos()], dim=1)
            mixed = waves @ torch.randn(waves.shape[1], shape.hidden) * config.initializer_range
            with torch.no_grad():
                model.model.embed_tokens.weight[[numbers[n] for n in sorted(numbers)]] += mixed
    return model


def encode(pairs: Sequence[Pair], tokenizer: Any) -> list[tuple[list[int], int]]:
    """Return (tokens of prompt, solution and EOS; length of the prompt) for each pair.

    Prompt and solution are tokenized separately, as in the engines.
    """
    prompts = tokenizer([p for p, _ in pairs])["input_ids"]
    solutions = tokenizer([s for _, s in pairs], add_special_tokens=False)["input_ids"]
    return [([*p, *s, tokenizer.eos_token_id], len(p)) for p, s in zip(prompts, solutions, strict=True)]


def batches(rows: Sequence[tuple[list[int], int]], size: int, rng: Random) -> Iterator[list[int]]:
    """Yield endless batches of indices, shuffled every epoch.

    Each epoch is cut into windows whose rows are sorted by length. This needs little padding and keeps batches
    random.
    """
    size, window = min(size, len(rows)), 64 * size
    while True:
        order = list(range(len(rows)))
        rng.shuffle(order)
        epoch = []
        for start in range(0, len(order), window):
            part = sorted(order[start : start + window], key=lambda i: len(rows[i][0]))
            epoch += [part[i : i + size] for i in range(0, len(part) - size + 1, size)]
        rng.shuffle(epoch)
        yield from epoch


def train_from_texts(
    pairs: Sequence[Pair],
    tokenizer: Any,
    config: Shape,
    out: Path,
    steps: int,
    *,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train a model from scratch on (prompt, completion) pairs and save it to `out` as a Hugging Face checkpoint.

    The same arguments give the same weights on one machine. `out` is complete or absent, and replaces an existing
    folder. `on_progress(done, steps)` is called after every step.

    Returns params, steps, texts, tokens (of prompts and solutions), seconds, and final_loss: the mean loss per
    solution token, in nats, over the last 5 % of the steps. Raises ValueError for no pairs, steps below 1, or a text
    longer than the model's context.
    """
    if not pairs or steps < 1:
        raise ValueError(f"pairs: {len(pairs)}, steps: {steps}; allowed: 1 or more of each")
    rows = encode(pairs, tokenizer)
    longest = max(len(ids) for ids, _ in rows)
    if longest > config.context:
        raise ValueError(f"pairs: a text has {longest} tokens; allowed: {config.context} (config.context) or fewer")

    import torch

    started = time.perf_counter()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = new_model(config, tokenizer, seed).train()
        matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
        others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
        optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=MUON_LR, weight_decay=0.0),
            torch.optim.AdamW(others, lr=ADAM_LR, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: _rate(step, steps)) for o in optimizers]
        losses, tokens = [], 0
        order = batches(rows, BATCH, Random(f"cos_assets batches {seed}"))
        for step in range(steps):
            chosen = [rows[i] for i in next(order)]
            loss = solution_loss(model, chosen)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            tokens += sum(len(ids) for ids, _ in chosen)
            if on_progress is not None:
                on_progress(step + 1, steps)
    finally:
        torch.set_num_threads(threads)
    last = losses[-max(1, steps // 20) :]
    facts = {
        "params": sum(p.numel() for p in model.parameters()),
        "steps": steps,
        "texts": steps * min(BATCH, len(pairs)),
        "tokens": tokens,
        "final_loss": round(sum(last) / len(last), 6),
    }
    recipe = {"shape": asdict(config), "batch": BATCH, "seed": seed, "muon_lr": MUON_LR, "adam_lr": ADAM_LR, **facts}
    _save(model, tokenizer, recipe, Path(out))
    return {**facts, "seconds": time.perf_counter() - started}


def solution_loss(model: Any, rows: Sequence[tuple[list[int], int]]) -> Any:
    """Return the mean cross-entropy (nats) of the solution tokens, given the preceding tokens, as a scalar tensor.

    Padding is on the right, where a causal model cannot see it, so no mask is needed. Logits are computed only for
    solution tokens.
    """
    import torch

    width = max(len(ids) for ids, _ in rows)
    inputs = torch.full((len(rows), width), model.config.pad_token_id)
    labels = torch.full((len(rows), width), IGNORE)
    for i, (ids, start) in enumerate(rows):
        inputs[i, : len(ids)] = torch.tensor(ids)
        labels[i, start - 1 : len(ids) - 1] = inputs[i, start : len(ids)]
    hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
    asked = labels != IGNORE
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[asked]), labels[asked])


def _rate(step: int, steps: int) -> float:
    warm = max(1, round(0.05 * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _save(model: Any, tokenizer: Any, recipe: dict[str, Any], out: Path) -> None:
    """Write to a temporary folder next to `out`, then rename it: a killed run leaves no partial checkpoint."""
    temp = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(temp, ignore_errors=True)
    temp.mkdir(parents=True)
    with no_progress_bars():
        model.eval().save_pretrained(temp)
    tokenizer.save_pretrained(temp)
    (temp / "training_recipe.json").write_text(json.dumps(recipe, indent=1) + "\n", encoding="utf-8")
    if out.exists():
        shutil.rmtree(out)
    temp.replace(out)


def train(
    role: str,
    out: Path,
    steps: int = STEPS,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train one of the demo's models ("student", "wc", "se") on `corpus.texts`; see `train_from_texts`.

    Every role has its own corpus, because models trained on one corpus would make the same mistakes.
    """
    if role not in SHAPES:
        raise ValueError(f"role: {role!r} is not allowed; allowed: {', '.join(SHAPES)}")
    pairs = list(corpus.texts(steps * BATCH, seed=len(ROLES) * seed + ROLES.index(role)))
    return train_from_texts(pairs, word_tokenizer(), SHAPES[role], out, steps, seed=seed, on_progress=on_progress)
