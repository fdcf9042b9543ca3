"""A study of two samplers with settings of their own: a base model with examples, and a thinking chat model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support import thinking

from cos_assets.generation.prompts import prompt_ids
from cos_assets.generation.types import Chat, Reasoning
from cos_assets.training.data import encode

PROBLEMS, BUDGET, TOKENS = 3, 6, 24


@pytest.fixture
def thinker(smollm2: Path, tmp_path: Path) -> Path:
    """SmolLM2 with the template of a thinking model."""
    folder = tmp_path / "thinker"
    folder.mkdir()
    for file in smollm2.iterdir():
        if file.name != "chat_template.jinja":
            (folder / file.name).symlink_to(file)
    (folder / "chat_template.jinja").write_text(thinking.OPENED)
    return folder


@pytest.fixture
def root(smollm2: Path, thinker: Path, public_data: Path, materialize: Callable[[dict[str, Any]], Path]) -> Path:
    reasons = {
        "model": str(thinker),
        "engine": "transformers",
        "chat": True,
        "system": "Think first.",
        "reasoning": {"mode": "on", "budget": BUDGET},
    }
    return materialize(
        {
            "name": "thinks",
            "task": {
                "name": "gsm8k",
                "path": str(public_data / "gsm8k"),
                "limit": {"train": PROBLEMS + 2, "validation": 2},
            },
            "models": {
                "wc": {"model": str(smollm2), "engine": "transformers", "shots": 1, "sampling": {"temperature": 0.5}},
                "se": {**reasons, "sampling": {"max_tokens": TOKENS, "min_p": 0.05, "repetition_penalty": 1.1}},
            },
            "budgets": {"one": {"se": 1}},
            "match": "number",
            "sampling": {"max_tokens": 8, "unreadable": "continue"},
            "verification": "none",
            "sources": {"replies": {"take": {"se": 1.0}, "reasoning": "strip"}},
            "targets": {"student": {**reasons, "sampling": {"max_tokens": TOKENS}}},
            "finetune": {"method": "lora", "steps": 1, "batch_size": 2, "checkpoints": 1, "max_length": 800},
            "evaluation": {"limit": 2, "max_tokens": 4, "unreadable": "continue"},
        }
    )


def test_each_model_is_sampled_in_its_own_way(root: Path, tokenizer: Any, thinker: Path) -> None:
    from transformers import AutoTokenizer

    def table(name: str) -> pl.DataFrame:
        return pl.read_parquet(root / "thinks" / name / "**/*.parquet", hive_partitioning=False)

    ledger = pl.concat(
        [pl.read_parquet(part) for part in root.glob("ledger/*/*/part-*.parquet")], how="diagonal_relaxed"
    ).filter(stage="sampling")
    settings = ledger.group_by("system", "temperature", "min_p", "repetition_penalty", "max_tokens").len()
    assert set(settings.rows()) == {
        (None, 0.5, None, None, 8, PROBLEMS + 2),
        ("Think first.", 0.7, 0.05, 1.1, TOKENS, PROBLEMS + 2),
    }
    examples = ledger.select(pl.col("system").is_null(), pl.col("prompt").str.count_matches("Question:"))
    assert set(examples.rows()) == {(True, 2), (False, 0)}, "the base model gets one example, the chat model none"

    samples = table("samples")
    thoughts, plain = samples.filter(model="se"), samples.filter(model="wc")
    assert plain["reasoning"].null_count() == plain.height and set(plain["reasoning_tokens"]) == {0}
    closing = len(tokenizer("</think>")["input_ids"])
    assert thoughts["reasoning"].null_count() == 0
    assert thoughts["reasoning_tokens"].max() <= BUDGET + closing  # type: ignore[operator]
    assert thoughts["completion"].str.len_chars().min() > 0, "the budget leaves room for a reply"  # type: ignore[operator]

    # The student learns reasoning and reply in its own template, or the reply alone.
    own = AutoTokenizer.from_pretrained(thinker)
    chat = Chat(system="Think first.", reasoning=Reasoning(mode="on", budget=BUDGET))
    rows = table("sft_set")
    kept, stripped = rows.filter(source="se"), rows.filter(source="replies")
    assert kept["reasoning"].to_list() == thoughts["reasoning"].to_list()
    assert stripped["reasoning"].null_count() == stripped.height == kept.height
    ((row, *_), _), ((short, *_), _) = (encode(each.head(1), own, None, chat) for each in (kept, stripped))
    start = prompt_ids(own, rows["prompt"][0], chat)
    assert own.decode(start).endswith("<|im_start|>assistant\n<think>\n")
    assert own.decode(row.ids[row.prompt :]).startswith(kept["reasoning"][0].strip("\n") + "\n</think>\n\n")
    assert own.decode(short.ids[short.prompt :]).startswith("</think>\n\n")

    answers = table("student_eval")
    assert answers.group_by("source").len().sort("source").rows() == [("replies", 2), ("se", 2), ("wc", 2)]
    assert answers["reasoning"].null_count() == 0
    assert answers["completion_tokens"].max() > 4, "max_tokens of the target counts, not that of the evaluation"  # type: ignore[operator]
    page = (root / "thinks" / "report" / "report.html").read_text(encoding="utf-8")
    assert f"({thoughts['reasoning_tokens'].sum():,} reasoning)" in page
