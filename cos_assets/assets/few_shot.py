"""Few-shot examples: which ones a study shows, and the prompts with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from cos_assets.tasks import Task, same_text


def few_shot_prompts(
    task: Task, problems: pl.DataFrame, drawn: Sequence[Mapping[str, Any]], shots: int, chat: bool
) -> pl.DataFrame:
    """Return [problem_id, prompt] with the first `shots` of the drawn examples.

    A question is never a few-shot example in its own prompt.
    """
    texts = []
    for problem in problems.to_dicts():
        own = same_text(problem["question"])
        texts.append(task.prompt(problem, [shot for shot in drawn if same_text(shot["question"]) != own][:shots], chat))
    return problems.select("problem_id").with_columns(prompt=pl.Series(texts, dtype=pl.String))


def examples(task: Task, problems: pl.DataFrame, shots: int, seed: int) -> Sequence[Mapping[str, Any]]:
    """Return the `shots` few-shot examples of a study.

    `shots` + 1 examples are drawn by the seed from the training problems with solutions, each question once; the extra
    one is for prompts whose own question was drawn. Where there are too few, the examples are the first `shots`
    exemplars of the task. Raises ValueError where these are too few as well.
    """
    pool = problems.filter((pl.col("split") == "train") & pl.col("solution").is_not_null()).to_dicts()
    pool = list({same_text(problem["question"]): problem for problem in reversed(pool)}.values())
    if shots < max(len(pool), 1):
        pool.sort(key=lambda p: hashlib.sha256(f"{seed}/shots/{p['problem_id']}".encode()).digest())
        return pool[: shots + 1]
    own = task.exemplars
    if shots > len(own):
        raise ValueError(
            f"sampling.shots: {shots} is not allowed; the training split has {len(pool)} problems with solutions, and"
            f" the task has {len(own)} exemplars of its own; allowed: 0 to {max(len(pool) - 1, len(own), 0)}"
        )
    return own[:shots]
