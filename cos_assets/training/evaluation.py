"""Evaluation of a model: greedy and sampled completions of every problem.

Completions come from `generate` and verdicts from `graded`, as for all other samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from cos_assets.generation.generate import Buyer, Look, generate
from cos_assets.generation.types import Model, Sampling
from cos_assets.grading.answer_classes import answer_classes
from cos_assets.grading.cores import usable_cores
from cos_assets.judging.verdicts import graded
from cos_assets.storage.schemas import TABLES
from cos_assets.tasks import Task

SCHEMA = TABLES["evals"].schema


def evaluate(
    model: Model,
    target: str,
    problems: pl.DataFrame,
    prompts: pl.DataFrame,
    task: Task,
    ways: Sequence[tuple[int, Sampling]],
    buyer: Buyer,
    seed: int | None = None,
    look: Look | None = None,
) -> pl.DataFrame:
    """Complete every problem and grade the completions; return them in the schema `SCHEMA`.

    `prompts` [problem_id, prompt] are those of the problems. `ways` are the numbers of completions of a problem, with
    their sampling. `seed` is the seed of the model's training. `look` may stop the generation (see `generate`).

    `answer_class` numbers equal sampled answers to a problem (see `grading.answer_classes`). It is null for greedy
    completions and for samples without a comparable answer. `wrong_reasoning` is the result of the task's step checker
    for right answers. It is null for other answers and where the checker cannot read the solution.
    """
    workers, parts = usable_cores(), []
    for count, how in ways:
        how = how.model_copy(update={"stop": tuple(dict.fromkeys((*how.stop, *task.stops(model.chat is not None))))})
        answers = generate(model, prompts, count, how, buyer, look=look).rows
        told = graded(answers, problems, task, workers=workers)
        rows = answers.join(told, on=["problem_id", "sample_index"], maintain_order="left")
        same = answer_classes(rows, task.answer_kind, workers) if how.temperature else None
        parts.append(rows.with_columns(temperature=pl.lit(how.temperature, pl.Float64), answer_class=same))
    return (
        _reasoned(pl.concat(parts, how="vertical_relaxed"), problems, task)
        .with_columns(target=pl.lit(target), benchmark=pl.lit(task.name), seed=pl.lit(seed, pl.Int64))
        .select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
    )


def accuracy(evaluated: pl.DataFrame) -> float:
    """Return the share of correct rows. A problem without a completion has no row and does not count."""
    return float(evaluated["correct"].sum() / evaluated.height) if evaluated.height else 0.0


def _reasoned(rows: pl.DataFrame, problems: pl.DataFrame, task: Task) -> pl.DataFrame:
    right = rows.filter("correct").select("problem_id", "completion").unique(maintain_order=True)
    solved = problems.join(right, on="problem_id", how="semi")
    by_id = {problem["problem_id"]: problem for problem in solved.to_dicts()}
    labels = [task.check(by_id[problem_id], text).label for problem_id, text in right.iter_rows()]
    wrong = [None if label == "unreadable" else label == "wrong" for label in labels]
    known = right.with_columns(correct=True, wrong_reasoning=pl.Series(wrong, dtype=pl.Boolean))
    return rows.join(known, on=["problem_id", "completion", "correct"], how="left", maintain_order="left")
