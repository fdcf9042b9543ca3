"""A study with a real model from sampling to the report: GSM8K is sampled, trained on and scored, IFEval is scored."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets import tasks
from cos_assets.generation.prompts import prompt_ids
from cos_assets.generation.types import Chat
from cos_assets.grading import instructions

PROBLEMS, TOKENS = 4, 16


@pytest.fixture
def root(smollm2: Path, public_data: Path, materialize: Callable[[dict[str, Any]], Path]) -> Path:
    """The same model with plain prompts (WC) and as a chat (SE); the chat form is trained."""
    options = {"pad_to_multiple_of": 128}  # few prompts of many lengths in one batch
    asked = {"model": str(smollm2), "engine": "transformers", "engine_options": options}
    return materialize(
        {
            "name": "real",
            "task": {
                "name": "gsm8k",
                "path": str(public_data / "gsm8k"),
                "limit": {"train": PROBLEMS, "validation": 2},
            },
            "models": {"wc": asked, "se": {**asked, "chat": True}},
            "budgets": {"one": {"se": 1}},
            "sampling": {"max_tokens": TOKENS, "unreadable": "continue"},
            "verification": "none",
            "targets": {"student": {**asked, "chat": True}},
            "finetune": {"method": "lora", "steps": 1, "batch_size": 2, "checkpoints": 1, "max_length": 400},
            "evaluation": {
                "benchmarks": [{"name": "gsm8k"}, {"name": "ifeval", "path": str(public_data / "ifeval")}],
                "limit": PROBLEMS,
                "max_tokens": TOKENS,
            },
        }
    )


def table(root: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(root / "real" / name / "**/*.parquet", hive_partitioning=False)


def test_a_study_with_a_real_model_runs_from_samples_to_the_report(
    root: Path, tokenizer: Any, public_data: Path
) -> None:
    samples = table(root, "samples")
    assert samples.group_by("model").len().sort("model").rows() == [("se", PROBLEMS), ("wc", PROBLEMS)]
    task = tasks.make({"name": "gsm8k", "path": str(public_data / "gsm8k")})
    problems = {p["problem_id"]: p for p in table(root, "problems").to_dicts()}
    for row in samples.to_dicts():
        chat = row["model"] == "se"
        text = task.prompt(problems[row["problem_id"]], chat=chat)
        asked = prompt_ids(tokenizer, text, Chat() if chat else None)
        assert row["prompt_tokens"] == len(asked)
        assert row["finish_reason"] == ("stop" if row["completion_tokens"] < TOKENS else "length")
    assert not samples["completion"].str.contains("<|im_", literal=True).any()

    # Truncated samples are trained on without an end token.
    rows = table(root, "sft_set")
    cut = samples.filter(finish_reason="length").select("model", "problem_id")
    assert rows.height == 2 * PROBLEMS
    assert rows.filter(finish_reason="length").join(cut, on=["model", "problem_id"], how="semi").height == cut.height
    trained = table(root, "student_checkpoint")
    assert trained["params"].to_list() == [134_515_008] * 2
    assert all(math.isfinite(curve[0]["loss"]) for curve in trained["curve"])

    # Every reply is graded like in the benchmark, also a truncated one.
    scored = table(root, "base_eval")
    assert scored.group_by("benchmark").len().sort("benchmark").rows() == [("gsm8k", PROBLEMS), ("ifeval", PROBLEMS)]
    assert set(table(root, "student_eval").group_by("benchmark", "source").len()["len"]) == {PROBLEMS}
    replies = scored.filter(benchmark="ifeval")
    assert replies["correct"].to_list() == [follows(public_data, row) for row in replies.to_dicts()]

    report = table(root, "report")
    assert {"coverage", "diversity", "accuracy"} <= set(report["metric"])
    assert set(report["n_problems"]) == {PROBLEMS}
    assert set(report["better"]) == {"cannot tell"}
    assert "cannot tell" in (root / "real" / "report" / "report.html").read_text(encoding="utf-8")


def follows(public_data: Path, row: dict[str, Any]) -> bool:
    """The strict verdict of lm-evaluation-harness on a reply to a prompt of IFEval."""
    checker = instructions._load()  # lm-eval's module, without the rest of the harness
    for line in (public_data / "ifeval" / "input_data.jsonl").read_text(encoding="utf-8").splitlines():
        given = json.loads(line)
        if str(given["key"]) in row["problem_id"]:
            example = checker.InputExample(
                **{name: given[name] for name in ("key", "instruction_id_list", "prompt", "kwargs")}
            )
            return bool(checker.test_instruction_following_strict(example, row["completion"]).follow_all_instructions)
    raise AssertionError(row["problem_id"])
