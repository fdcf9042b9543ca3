"""Metrics of finetuned models from their answers: accuracy, pass@k, maj@k and false positive rate.

They are pooled over training seeds and also given by level and by subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from cos_assets.metrics.coverage import coverage_at_k
from cos_assets.metrics.false_positives import LEAST_READ, false_positive_rate
from cos_assets.metrics.intervals import Interval, crossed_interval
from cos_assets.metrics.majority import maj_at_k
from cos_assets.storage.schemas import TABLES

KEYS = ["budget", "source", "target", "benchmark"]
SCHEMA = TABLES["eval_metrics"].schema


def by_problem_and_seed(values: pl.DataFrame) -> np.ndarray:
    """Return [problem_id, seed, value] as a sorted array of shape [problems, seeds]; null counts as a seed.

    Problems without a value for every seed are left out, because a mean over different seeds would compare different
    models.
    """
    seeds = values["seed"].n_unique()
    rows = values.group_by("problem_id", "seed").agg(pl.col("value").mean())
    whole = rows.filter(pl.len().over("problem_id") == seeds).sort("problem_id", "seed")
    return whole["value"].to_numpy().astype(float).reshape(-1, max(seeds, 1))


def pooled(values: pl.DataFrame, confidence: float = 0.95) -> Interval:
    """Return the mean of [problem_id, seed, value]; the interval includes the spread between problems and seeds.

    The values are NaN if there are no rows.
    """
    return crossed_interval(by_problem_and_seed(values), confidence)


def evaluation_metrics(
    evaluated: pl.DataFrame,
    problems: pl.DataFrame,
    pass_at: Sequence[int] = (),
    maj_at: Sequence[int] = (),
    confidence: float = 0.95,
) -> pl.DataFrame:
    """Return one row per model, benchmark, metric, k and group, with the schema `SCHEMA`.

    Parameters
    ----------
    evaluated : answers [budget, source, target, benchmark, seed, temperature, problem_id, correct, answer_class,
        wrong_reasoning]; answers with temperature 0 are the greedy ones.
    problems : [benchmark, problem_id, level, subject]; level and subject may be null.

    The metrics are:

    * "accuracy": of the greedy answers;
    * "pass": the chance that one of k sampled answers is right (at k = 1 the mean of all sampled answers);
    * "majority": the chance that the most frequent of k sampled answers is right;
    * "false_positive_rate": of all right answers, given only if the step checker could read at least half of them.

    Level and subject are null in the rows for all problems together. Seeds are pooled. The interval of a false
    positive rate covers only the spread between problems.
    """
    per_problem = pl.concat(list(_values(evaluated, pass_at, maj_at)))
    facts = problems.select("benchmark", "problem_id", "level", "subject").unique(["benchmark", "problem_id"])
    per_problem = per_problem.join(facts, on=["benchmark", "problem_id"], how="left", maintain_order="left")
    right = evaluated.filter("correct").join(facts, on=["benchmark", "problem_id"], how="left", maintain_order="left")
    out: list[tuple] = []
    for group in (None, "level", "subject"):
        by = [*KEYS, *([group] if group else [])]

        def row(names: tuple, metric: str, k: int | None, found: Interval, seeds: int, group=group) -> tuple:
            of = {group: names[-1]}
            return (*names[:4], metric, k, of.get("level"), of.get("subject"), *found, seeds)

        some, judged = ((f.filter(pl.col(group).is_not_null()) if group else f) for f in (per_problem, right))
        for (*model, metric, k), part in some.group_by(*by, "metric", "k", maintain_order=True):
            found = pooled(part, confidence)
            out.append(row(tuple(model), metric, k, found, part["seed"].n_unique()))
        for names, part in judged.group_by(by, maintain_order=True):
            if part["wrong_reasoning"].count() >= max(LEAST_READ * part.height, 1):
                rate = false_positive_rate(part, confidence)
                out.append(row(names, "false_positive_rate", None, rate, part["seed"].n_unique()))
    frame = pl.DataFrame(out, schema=SCHEMA, orient="row").with_columns(pl.col(pl.Float64).fill_nan(None))
    return frame.sort(*KEYS, "metric", "level", "subject", "k", nulls_last=False)


def _values(evaluated: pl.DataFrame, pass_at: Iterable[int], maj_at: Iterable[int]) -> Iterable[pl.DataFrame]:
    """Yield the value of each model on each problem: frames [*KEYS, seed, problem_id, metric, k, value]."""
    model = [*KEYS, "seed"]
    columns = [*model, "problem_id", "metric", "k", "value"]
    greedy, drawn = (evaluated.filter((pl.col("temperature") == 0) == yes) for yes in (True, False))
    yield greedy.select(
        *model,
        "problem_id",
        metric=pl.lit("accuracy"),
        k=pl.lit(1, pl.Int64),
        value=pl.col("correct").cast(pl.Float64),
    )
    counts = drawn.group_by(*model, "problem_id", maintain_order=True).agg(n=pl.len(), c=pl.col("correct").sum())
    for k in pass_at:
        values = coverage_at_k(counts["n"].to_numpy(), counts["c"].to_numpy(), k)
        rows = counts.with_columns(metric=pl.lit("pass"), k=pl.lit(k, pl.Int64), value=pl.Series(values))
        yield rows.filter(pl.col("value").is_not_nan()).select(columns)
    for names, part in drawn.rename({"answer_class": "voted"}).group_by(model, maintain_order=True):
        votes = part.select("problem_id", "correct", answer="voted")
        for k in maj_at if part["voted"].count() else ():
            rows = maj_at_k(votes, k).drop_nulls("value")
            of = [pl.lit(value, evaluated.schema[name]).alias(name) for name, value in zip(model, names, strict=True)]
            yield rows.select(*of, "problem_id", "value", metric=pl.lit("majority"), k=pl.lit(k, pl.Int64)).select(
                columns
            )
