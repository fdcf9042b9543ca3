from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.toy_training import accuracy, finetune, greedy, make_base

from cos_assets.generation.model import hash_folder
from cos_assets.training.data import Collator, encode
from cos_assets.training.settings import Finetune
from cos_assets.training.sft import read, training_flops


def settings(**given: Any) -> Finetune:
    return Finetune.model_validate({"steps": 1, "batch_size": 8, "learning_rate": 5e-3, **given})


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()


@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_first_loss_is_the_mean_over_completion_tokens(
    tmp_path: Path, base: Path, tokenizer: Any, rows: pl.DataFrame, accumulation: int
) -> None:
    import torch

    few = rows.head(8)
    trained = finetune(few, base, tmp_path, settings(gradient_accumulation=accumulation), steps=1, seed=0)
    encoded, _ = encode(few, tokenizer, None)
    with torch.no_grad():
        wanted = load(base)(**Collator(0)(encoded)).loss.item()
    assert trained.curve == [
        {"learning_rate": 5e-3, "step": 1, "loss": pytest.approx(wanted, rel=1e-5), "validation_accuracy": None}
    ]
    assert trained.tokens == sum(len(row) for row in encoded)
    assert trained.completion_tokens == sum(len(row) - row.prompt for row in encoded)
    assert trained.flops == 6 * load(base).num_parameters() * trained.tokens


def test_a_batch_is_memorized(tmp_path: Path, base: Path, rows: pl.DataFrame) -> None:
    few = rows.head(8)
    trained = finetune(
        few, base, tmp_path, settings(), steps=120, seed=0, evaluate=lambda folder: accuracy(folder, few)
    )
    assert trained.curve[-1]["loss"] < 0.05
    assert trained.validation_accuracy == 1.0
    assert trained.epochs == 120
    assert trained.examples == 8


def test_two_runs_give_the_same_bits_and_another_seed_gives_others(
    tmp_path: Path, base: Path, rows: pl.DataFrame
) -> None:
    runs = [
        finetune(rows, base, tmp_path / name, settings(), steps=6, seed=seed)
        for name, seed in [("a", 1), ("b", 1), ("c", 2)]
    ]
    assert runs[0].hash == runs[1].hash != runs[2].hash
    assert runs[0].curve == runs[1].curve
    weights = [(run.path / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1] != weights[2]


def test_lora_learns_and_its_merged_weights_answer_like_its_adapter(
    tmp_path: Path, base: Path, rows: pl.DataFrame, tokenizer: Any
) -> None:
    from peft import PeftModel

    # Adapters cannot train an untrained model, so the base learns sums and the adapter learns to swap the operands.
    base = finetune(rows, base, tmp_path / "base", settings(), steps=100, seed=0).path
    numbers = rows["prompt"].str.extract_groups(r"(?<a>\d+) \+ (?<b>\d+)").struct.unnest()
    turned = rows.with_columns(completion=pl.format("{} + {} .", numbers["b"], numbers["a"])).head(8)
    lora = settings(method="lora", lora={"r": 4, "alpha": 8, "dropout": 0.1}, learning_rate=1e-2)
    trained = finetune(turned, base, tmp_path, lora, 80, 0, evaluate=lambda folder: accuracy(folder, turned))
    losses = [point["loss"] for point in trained.curve]
    assert losses == sorted(losses, reverse=True)
    assert accuracy(base, turned) == 0
    assert trained.validation_accuracy == 1
    prompts = rows["prompt"].head(12).to_list()
    adapted = PeftModel.from_pretrained(load(base), str(tmp_path / "adapter")).eval()
    merged_texts = greedy(load(trained.path), tokenizer, prompts)
    assert merged_texts == greedy(adapted, tokenizer, prompts)
    assert merged_texts != greedy(load(base), tokenizer, prompts)
    adapter = sum(p.numel() for n, p in adapted.named_parameters() if "lora_" in n)
    params = load(base).num_parameters()
    assert load(trained.path).num_parameters() == params
    assert trained.flops == training_flops(params, trained.tokens, adapter)
    assert trained.flops == (4 * params + 6 * adapter) * trained.tokens


def test_the_trained_model_has_the_configuration_of_its_base(tmp_path: Path, rows: pl.DataFrame) -> None:
    base = make_base(tmp_path / "base", dtype="bfloat16")
    trained = finetune(rows, base, tmp_path / "out", settings(), steps=3, seed=0)
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (base, trained.path))
    assert before == after  # including dtype and use_cache: the Trainer would leave fp32 and no cache
    assert (after["dtype"], after["use_cache"]) == ("bfloat16", True)
    assert str(tmp_path) not in "".join(file.read_text() for file in trained.path.glob("*.json"))


def test_the_checkpoint_that_validates_best_is_kept(tmp_path: Path, base: Path, rows: pl.DataFrame) -> None:
    train, unseen = rows.head(24), rows.tail(4)
    folders: dict[str, float] = {}

    def evaluate(folder: Path) -> float:
        folders[hash_folder(folder)] = score = accuracy(folder, pl.concat([unseen, train.head(4)]))
        return score

    grid = settings(learning_rate=[1.0, 5e-3, 1e-6], checkpoints=3, scheduler="constant")
    progress: list[tuple[str, int, int, int | None]] = []

    def on_progress(stage: str, done: int, total: int, tokens: int | None, loss: float | None) -> None:
        progress.append((stage, done, total, tokens))

    trained = finetune(train, base, tmp_path, grid, 60, 0, evaluate, on_progress)
    points = [(p["learning_rate"], p["step"]) for p in trained.curve]
    assert points == [(rate, step) for rate in (1e-6, 5e-3, 1.0) for step in (20, 40, 60)]
    scores = [p["validation_accuracy"] for p in trained.curve]
    assert len(folders) == 9
    assert sorted(folders.values()) == sorted(scores)
    assert max(scores) > 0
    assert trained.learning_rate == 5e-3  # neither the first nor the last
    assert trained.validation_accuracy == max(scores) == folders[trained.hash]
    assert trained.chosen_step == next(p["step"] for p in trained.curve if p["validation_accuracy"] == max(scores))
    assert hash_folder(trained.path) == trained.hash
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "DONE.json", "model"]
    trained_steps = [done for stage, done, total, _ in progress if stage == "train" and total == 180]
    assert sorted(trained_steps) == trained_steps
    assert set(trained_steps) == set(range(181))
    assert max(tokens or 0 for _, _, _, tokens in progress) == trained.tokens
    assert [e for e in progress if e[0] == "validate"] == [("validate", i, 9, None) for i in range(10)]


def test_a_tie_is_resolved_by_the_earlier_step_then_the_smaller_rate(
    tmp_path: Path, base: Path, rows: pl.DataFrame
) -> None:
    trained = finetune(
        rows, base, tmp_path, settings(learning_rate=[1e-2, 1e-3], checkpoints=2), 4, 0, lambda folder: 0.5
    )
    assert (trained.chosen_step, trained.learning_rate) == (2, 1e-3)


def test_the_last_step_is_kept_without_validation(tmp_path: Path, base: Path, rows: pl.DataFrame) -> None:
    trained = finetune(rows, base, tmp_path, settings(), steps=5, seed=0)
    assert (trained.chosen_step, trained.validation_accuracy) == (5, None)
    assert [point["step"] for point in trained.curve] == [2, 3, 4, 5]


def test_a_diverging_rate_is_in_the_curve_but_not_chosen(tmp_path: Path, base: Path, rows: pl.DataFrame) -> None:
    grid = settings(learning_rate=[1e-3, 1e30], scheduler="constant", warmup=0)
    trained = finetune(rows, base, tmp_path / "grid", grid, 8, 0, lambda folder: 0.5)
    diverged = [point for point in trained.curve if point["learning_rate"] == 1e30]
    assert diverged[-1]["loss"] is None
    assert diverged[-1]["validation_accuracy"] is None
    assert trained.learning_rate == 1e-3
    alone = settings(learning_rate=1e30, scheduler="constant", warmup=0, checkpoints=1)
    for _ in range(2):  # a second call returns the same without training
        with pytest.raises(ValueError, match=r"learning_rate: \[1e\+30\]: the loss is no longer finite"):
            finetune(rows, base, tmp_path / "alone", alone, 8, 0)


def test_a_finished_training_is_not_repeated(
    tmp_path: Path, base: Path, rows: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    assert read(tmp_path) is None
    first = finetune(rows, base, tmp_path, settings(), steps=2, seed=0)
    monkeypatch.setattr(transformers, "Trainer", None)
    assert finetune(rows, base, tmp_path, settings(), steps=2, seed=0) == first == read(tmp_path)
    # The steps of other budgets are not part of this job.
    assert finetune(rows, base, tmp_path, settings(steps={"low": 2, "high": 9}), steps=2, seed=0) == first
    with pytest.raises(ValueError, match="other rows, settings, steps or seed"):
        finetune(rows.head(3), base, tmp_path, settings(), steps=2, seed=0)
    with pytest.raises(ValueError, match="other rows, settings, steps or seed"):
        finetune(rows, base, tmp_path, settings(), steps=3, seed=0)


def test_rows_longer_than_the_limit_are_counted(tmp_path: Path, base: Path, rows: pl.DataFrame) -> None:
    long = pl.DataFrame({"prompt": ["sum " * 70 + "\n"], "completion": ["1 ."]})
    trained = finetune(pl.concat([rows, long]), base, tmp_path, settings(), steps=1, seed=0)
    assert (trained.examples, trained.too_long) == (rows.height, 1)  # the model's context is 64 tokens


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"rows": pl.DataFrame(schema={"prompt": pl.Utf8, "completion": pl.Utf8})},
            "rows: there are no rows",
        ),
        ({"steps": 0}, "steps: 0; allowed: 1 or more"),
        ({"seed": -1}, "seed: -1; allowed: 0 to"),
        ({"settings": settings(learning_rate=[1e-3, 1e-4])}, "needs a validation split"),
        ({"evaluate": lambda folder: float("nan")}, "evaluate: returned nan for 0.005/1; allowed: a finite accuracy"),
    ],
)
def test_invalid_input_is_refused_with_the_reason(
    tmp_path: Path, base: Path, rows: pl.DataFrame, change: dict[str, Any], message: str
) -> None:
    call: dict[str, Any] = {"rows": rows, "settings": settings(), "steps": 1, "seed": 0, **change}
    with pytest.raises(ValueError, match=message):
        finetune(base=base, out=tmp_path, **call)
    assert read(tmp_path) is None


def test_bf16_is_refused_on_a_device_without_it(
    tmp_path: Path, base: Path, rows: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    with pytest.raises(ValueError, match="of this machine does not support bf16; allowed: auto, fp32"):
        finetune(rows, base, tmp_path, settings(precision="bf16"), steps=4, seed=0)
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}
    )  # it is slow without hardware support
    bf16, fp32 = (
        [
            point["loss"]
            for point in finetune(rows, base, tmp_path / how, settings(precision=how), steps=4, seed=0).curve
        ]
        for how in ("bf16", "auto")
    )
    assert bf16 == pytest.approx(fp32, rel=2e-2)
    assert bf16 != fp32  # auto does not use it on a CPU
    assert bf16[-1] < bf16[0]
