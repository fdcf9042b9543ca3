"""Controls: solutions of the same problems that are known to be right or wrong, and that every judge also judges."""

from __future__ import annotations

import polars as pl

from cos_assets.judging.table import draw
from cos_assets.metrics.controls import REFERENCE, WRONG_ANSWER


def draw_controls(samples: pl.DataFrame, problems: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    """Draw at most `count` controls of each kind: [problem_id, sample_index, completion, correct, control].

    References are the solutions in `problems` [problem_id, solution]. Their `sample_index` and `correct` are null.
    Their draw depends only on the seed and the problems, so all sets of a study share them. Wrong answers are the
    complete `samples` [problem_id, sample_index, completion, verdict] with the verdict wrong.
    """
    solved = problems.filter(pl.col("solution").str.strip_chars() != "")
    references = solved.select("problem_id", sample_index=pl.lit(None, pl.Int32), completion="solution")
    kinds = {
        REFERENCE: references.with_columns(correct=pl.lit(None, pl.Boolean)),
        WRONG_ANSWER: samples.filter(verdict="wrong").with_columns(correct=pl.lit(False)),
    }
    columns = ("problem_id", "sample_index", "completion", "correct")
    return pl.concat(
        draw(pool.select(columns), count, seed).select(*columns, control=pl.lit(kind)) for kind, pool in kinds.items()
    )


def controls_of(judgements: pl.DataFrame, judge: str) -> pl.DataFrame:
    """Return the controls that a judge has judged, each once: [problem_id, control, wrong_reasoning].

    `judgements` are those of one or more sets [model, problem_id, sample_index, control, judge, wrong_reasoning].
    Duplicates occur because sets share reference solutions and budgets share samples.
    """
    mine = judgements.filter(pl.col("judge") == judge, pl.col("control").is_not_null())
    key = ["control", "problem_id", "sample_index", "sampler"]
    named = mine.with_columns(sampler=pl.when(pl.col("control") == WRONG_ANSWER).then("model"))
    # A request that failed for one set may have been answered for another.
    once = named.sort(*key, "wrong_reasoning", nulls_last=True).unique(key, keep="first", maintain_order=True)
    return once.select("problem_id", "control", "wrong_reasoning")
