"""What a judge reads of a solution: the reply, or the reasoning and the reply."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from cos_assets.tasks.arithmetic import Arithmetic


def test_a_judge_reads_the_reply_or_both(tmp_path: Path, materialize: Callable[[dict[str, Any]], Path]) -> None:
    """The replies are right; the reasoning in front of every second one ends in another answer."""
    problems = Arithmetic(train=6, validation=1, test=1).load().filter(split="train").to_dicts()
    thoughts = [("0 + 1 = 1 . The answer is 1 ." if n % 2 else None) for n in range(len(problems))]
    lines = [
        json.dumps({"id": problem["problem_id"], "thought": thought, "text": problem["solution"]})
        for problem, thought in zip(problems, thoughts, strict=True)
    ]
    file = tmp_path / "solutions.jsonl"
    file.write_text("\n".join(lines))
    sampler = {
        "engine": "imported",
        "params": 1e6,
        "path": str(file),
        "columns": {"problem_id": "id", "completion": "text", "reasoning": "thought"},
    }
    root = materialize(
        {
            "name": "s",
            "task": {"name": "arithmetic", "train": 6, "validation": 1, "test": 1},
            "models": {"wc": sampler},
            "budgets": {"low": {"wc": 1}},
            "match": "number",
            "judge": {
                "controls": 0,
                "judges": {"reply": {"method": "steps"}, "both": {"method": "steps", "reads": "both"}},
            },
        }
    )
    samples = pl.read_parquet(root / "s" / "samples/**/*.parquet")
    assert samples["reasoning"].to_list() == thoughts
    labels = pl.read_parquet(root / "s" / "judgements/**/*.parquet").pivot("judge", index="problem_id", values="label")
    order = pl.DataFrame({"problem_id": [problem["problem_id"] for problem in problems], "thought": thoughts})
    found = order.join(labels, on="problem_id", maintain_order="left")
    assert set(found["reply"]) == {"right"}
    assert set(found.filter(pl.col("thought").is_null())["both"]) == {"right"}
    assert "right" not in set(found.drop_nulls("thought")["both"])
