"""Packed rows give the tokens, losses and gradients of separate rows."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.toy_training import WORDS, accuracy, finetune, make_rows

from cos_assets.generation.types import Chat
from cos_assets.training.data import IGNORE, Collator, Row, encode
from cos_assets.training.packing import Packer, check, pack, packed
from cos_assets.training.settings import Finetune

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}sum sum {{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}={% endif %}"
)


def rows_of(lengths: list[int], seed: int = 0) -> list[Row]:
    rng = np.random.default_rng(seed)
    return [Row(rng.integers(4, len(WORDS), size=n), int(rng.integers(1, n))) for n in lengths]


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()


@pytest.mark.parametrize("limit", [None, 60, 110])
def test_every_row_is_in_one_line_and_no_line_is_too_long(limit: int | None) -> None:
    rng = random.Random(0)
    for _ in range(50):
        rows = rows_of([rng.randint(2, 60) for _ in range(rng.randint(1, 40))])
        lines = pack(rows, limit, hidden=2**20)
        assert sorted(id(row) for line in lines for row in line) == sorted(map(id, rows))
        longest = max(map(len, rows))
        assert all(sum(map(len, line)) <= min(2 * longest, limit or 999) for line in lines)
        tokens, padded = sum(map(len, rows)), len(rows) * longest
        assert tokens <= len(lines) * max(sum(map(len, line)) for line in lines) <= padded


def test_rows_fill_the_lines_and_rows_of_one_length_are_not_packed() -> None:
    rows = rows_of([60, 10, 20, 30, 40, 50, 12, 18])
    lines = pack(rows, None, hidden=1024)
    assert sorted(sum(map(len, line)) for line in lines) == [120, 120]  # 240 tokens, instead of 480 with padding
    assert [len(line) for line in pack(rows_of([9] * 8), None, 1024)] == [1] * 8
    batch = Packer(0, None, 1024)(rows_of([9] * 8))
    assert sorted(batch) == ["attention_mask", "input_ids", "labels"]


@pytest.mark.parametrize("chat", [False, True])
def test_labels_cover_exactly_the_completions_and_eos(tokenizer: Any, chat: bool) -> None:
    if chat:
        tokenizer.chat_template = TEMPLATE
    rows = pl.DataFrame({"prompt": ["sum 1\n", "sum 4 + 5\n", "2\n"], "completion": ["1 .", "4 + 5 = 9 .", "2 = 2 ."]})
    prompts = [["<s>", "sum", "1", "\n"], ["<s>", "sum", "4", "+", "5", "\n"], ["<s>", "2", "\n"]]
    if chat:
        prompts = [["<s>", "sum", "sum", *prompt[1:], "="] for prompt in prompts]
    learned = [["1", ".", "</s>"], ["4", "+", "5", "=", "9", ".", "</s>"], ["2", "=", "2", ".", "</s>"]]
    encoded, _ = encode(rows, tokenizer, None, Chat() if chat else None)
    first, second, third = encoded
    for batch, lines in [
        (Collator(0)(encoded), [[0], [1], [2]]),
        (packed([[first, second], [third]], 0), [[0, 1], [2]]),
    ]:
        for i, line in enumerate(lines):
            whole = [word for row in line for word in prompts[row] + learned[row]]
            ids, labels = batch["input_ids"][i], batch["labels"][i]
            assert tokenizer.convert_ids_to_tokens(ids)[: len(whole)] == whole
            assert set(ids[len(whole) :].tolist()) <= {0}
            wanted = [
                word for row in line for word in [None] * len(prompts[row]) + learned[row]
            ]  # None: no loss on the prompt
            found = [None if label == IGNORE else tokenizer.convert_ids_to_tokens(int(label)) for label in labels]
            assert found == wanted + [None] * (len(ids) - len(whole))
    positions = packed([[first, second], [third]], 0)["position_ids"].tolist()
    padding = len(first) + len(second) - len(third)
    assert positions[0] == [*range(len(first)), *range(len(second))]
    assert positions[1] == [*range(len(third)), *range(padding)]


def test_loss_and_gradients_equal_those_of_unpacked_rows(base: Path, tokenizer: Any) -> None:
    import torch

    model = load(base)
    model.config.use_cache = False
    rows, _ = encode(make_rows(8), tokenizer, None)
    packer = Packer(0, 64, 1024)(rows)
    assert packer["input_ids"].numel() < Collator(0)(rows)["input_ids"].numel()
    found = []
    for batch in (packer, Collator(0)(rows)):
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        found.append((loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()])))
    (loss, gradient), (padded_loss, padded_gradient) = found
    with torch.no_grad():  # by hand, each row alone: the token at t is predicted from the logits at t - 1
        surprise = []
        for row in rows:
            logits = model(input_ids=torch.from_numpy(row.ids)[None]).logits[0].log_softmax(dim=-1)
            surprise += [-logits[t - 1, row.ids[t]].item() for t in range(row.prompt, len(row))]
    assert loss == pytest.approx(np.mean(surprise), rel=1e-5)
    assert loss == pytest.approx(padded_loss, rel=1e-5)
    torch.testing.assert_close(gradient, padded_gradient, rtol=1e-4, atol=1e-6)


def test_the_logits_of_a_row_do_not_depend_on_its_neighbours(base: Path) -> None:
    import torch

    model = load(base)
    model.config.use_cache = False
    before, row, other = rows_of([11, 13, 11])
    with torch.no_grad():
        logits = [model(**packed([[first, row]], 0)).logits[0, 11:] for first in (before, other)]
    assert torch.equal(*logits)


def tiny(kind: str) -> Any:
    """A small untrained model of an architecture, with weights large enough to affect the output."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": len(WORDS)}
    more: dict[str, dict[str, Any]] = {
        "llama": {"intermediate_size": 64},
        "mistral": {"intermediate_size": 64, "num_key_value_heads": 1, "sliding_window": 4},
        "gemma2": {"intermediate_size": 64, "num_key_value_heads": 1, "head_dim": 16, "sliding_window": 4},
        "qwen3": {"intermediate_size": 64, "num_key_value_heads": 1, "head_dim": 16},
        "gpt2": {"n_positions": 64},
        "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
        "mamba": {},
        "bloom": {},
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **sizes, **more[kind], pad_token_id=0, bos_token_id=1, eos_token_id=2)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights *= 4
    return model


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "qwen3", "gpt2"])
def test_models_that_separate_packed_rows_are_accepted(kind: str) -> None:
    import torch

    model = tiny(kind)  # in training mode; GPT-2 has dropout
    state = torch.get_rng_state()
    check(model, rows_of([14, 9, 12, 7]), 0, kind)
    assert torch.equal(torch.get_rng_state(), state)  # otherwise a resumed training would differ


@pytest.mark.parametrize("kind", ["mamba", "bloom", "opt"])
def test_models_that_mix_packed_rows_are_refused(kind: str) -> None:
    for count in (4, 3, 2):
        with pytest.raises(ValueError, match=f"packing: {kind} .*; leave it out"):
            check(tiny(kind), rows_of([14, 9, 12, 7])[:count], 0, kind)


def test_packing_with_a_model_that_mixes_rows_is_refused_before_training(
    tmp_path: Path, base: Path, rows: pl.DataFrame
) -> None:
    from transformers import AutoTokenizer

    tiny("mamba").save_pretrained(tmp_path / "mamba")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "mamba")
    with pytest.raises(ValueError, match=r"packing: .*/mamba does not keep packed rows apart"):
        finetune(rows, tmp_path / "mamba", tmp_path / "out", settings(packing=True), steps=2, seed=0)
    assert not list((tmp_path / "out").rglob("checkpoint-*"))


def settings(**given: Any) -> Finetune:
    return Finetune.model_validate({"steps": 1, "batch_size": 8, "learning_rate": 5e-3, **given})


@pytest.mark.parametrize(
    "given",
    [{}, {"gradient_accumulation": 2}, {"method": "lora", "lora": {"r": 4}}],
    ids=["full", "accumulated", "lora"],
)
def test_training_with_packing_has_the_same_losses(
    tmp_path: Path, base: Path, rows: pl.DataFrame, given: dict[str, Any]
) -> None:
    packing, padding = (
        finetune(rows, base, tmp_path / str(on), settings(checkpoints=6, packing=on, **given), steps=6, seed=0)
        for on in (True, False)
    )
    losses = [[point["loss"] for point in trained.curve] for trained in (packing, padding)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0] != losses[1]  # packing is a different procedure
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    assert (packing.tokens, packing.completion_tokens) == (padding.tokens, padding.completion_tokens)
    assert packing.inputs != padding.inputs


def test_a_packed_batch_is_memorized(tmp_path: Path, base: Path, rows: pl.DataFrame) -> None:
    few = rows.head(8)
    trained = finetune(few, base, tmp_path, settings(packing=True), 120, 0, lambda folder: accuracy(folder, few))
    assert trained.curve[-1]["loss"] < 0.05
    assert trained.validation_accuracy == 1.0


def test_the_recipe_without_packing_is_unchanged() -> None:
    assert "packing" not in Finetune(steps=1).recipe
    assert "packing" not in Finetune(steps=1).model_dump(mode="json")  # a part of the asset's code version
    assert '"packing":true' in Finetune(steps=1, packing=True).recipe
