"""The recipe: it learns within a minute, is reproducible, and writes complete checkpoints only."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from cos_assets.tiny import corpus
from cos_assets.tiny.tokenizer import bpe_tokenizer
from cos_assets.tiny.tokenizer import word_tokenizer as words
from cos_assets.tiny.train import (
    Shape,
    batches,
    encode,
    new_model,
    solution_loss,
    train,
    train_from_texts,
)

SMALL = Shape(hidden=32, layers=1, ffn=32, heads=1)


def test_weights_depend_only_on_the_seed(tmp_path: Path) -> None:
    pairs = list(corpus.texts(64, seed=1))
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_from_texts(pairs, words(), SMALL, tmp_path / name, steps=5, seed=seed)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]


def test_a_model_is_trained_on_another_corpus_with_a_bpe_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    pairs = [(f"How much is {a} and {b}?\n", f"{a}+{b}={a + b}") for a in range(8) for b in range(8)]
    tokenizer = bpe_tokenizer([p + s for p, s in pairs], 300)
    seen: list[tuple[int, int]] = []
    out = tmp_path / "deep" / "model"
    facts = train_from_texts(
        pairs, tokenizer, SMALL, out, steps=150, seed=0, on_progress=lambda done, steps: seen.append((done, steps))
    )
    assert seen[0] == (1, 150) and seen[-1] == (150, 150)
    assert facts["final_loss"] < 1.2
    model, loaded = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert sum(p.numel() for p in model.parameters()) == facts["params"]
    assert loaded(pairs[5][0])["input_ids"] == tokenizer(pairs[5][0])["input_ids"]
    assert json.loads((out / "training_recipe.json").read_text())["steps"] == 150


def test_a_killed_run_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "model"
    out.mkdir()
    (out / "old").write_text("old")

    def stop(done: int, steps: int) -> None:
        raise KeyboardInterrupt

    pairs = list(corpus.texts(32, seed=1))
    with pytest.raises(KeyboardInterrupt):
        train_from_texts(pairs, words(), SMALL, out, steps=3, on_progress=stop)
    assert [f.name for f in out.iterdir()] == ["old"]
    train_from_texts(pairs, words(), SMALL, out, steps=1)
    assert not (out / "old").exists() and (out / "model.safetensors").is_file()
    assert [f.name for f in tmp_path.iterdir()] == ["model"]


def test_only_the_solution_contributes_to_the_loss() -> None:
    """The loss equals that of a plain forward pass over each row without the prompt, for any padding."""
    import torch

    tokenizer = words()
    model = new_model(SMALL, tokenizer, seed=0)
    rows = encode(list(corpus.texts(3, seed=2)), tokenizer)
    total = count = 0.0
    for ids, start in rows:
        logits = model(torch.tensor([ids])).logits[0, start - 1 : -1]
        total += torch.nn.functional.cross_entropy(logits, torch.tensor(ids[start:]), reduction="sum").item()
        count += len(ids) - start
    assert solution_loss(model, rows).item() == pytest.approx(total / count, rel=1e-4)


def test_batches_contain_every_text_once_per_epoch() -> None:
    rows = [([0] * (i % 40 + 1), 0) for i in range(320)]
    stream = batches(rows, 32, Random(0))
    epoch = [next(stream) for _ in range(10)]
    assert sorted(i for b in epoch for i in b) == list(range(320))
    padded = sum(max(len(rows[i][0]) for i in b) * len(b) for b in epoch)
    assert padded < 1.2 * sum(len(ids) for ids, _ in rows)


@pytest.mark.parametrize(
    ("pairs", "steps", "shape", "says"),
    [
        ([], 1, SMALL, "pairs: 0, steps: 1"),
        ([("a\n", "b")], 0, SMALL, "pairs: 1, steps: 0"),
        ([("Ann\n", "7 " * 30)], 1, Shape(32, 1, 32, 1, context=20), "a text has 33 tokens; allowed: 20"),
    ],
)
def test_invalid_input_is_refused(tmp_path: Path, pairs: list, steps: int, shape: Shape, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        train_from_texts(pairs, words(), shape, tmp_path / "m", steps)
    assert list(tmp_path.iterdir()) == []


def test_unknown_role_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="role: 'big' is not allowed; allowed: student, wc, se"):
        train("big", tmp_path / "m", steps=1)
