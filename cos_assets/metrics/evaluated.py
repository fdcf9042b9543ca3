"""Metrics of finetuned models from their answers: accuracy, pass@k, maj@k and false positive rate.

They are pooled over training seeds and also given by level and by subject:

* "accuracy": of the greedy answers;
* "pass": the chance that one of k sampled answers is right (at k = 1 the mean of all sampled answers);
* "majority": the chance that the most frequent of k sampled answers is right;
* "false_positive_rate": of all right answers, given only if the step checker could read at least half of them. Its
  interval covers only the spread between problems.
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
    """Return the values of a model as a table of problems and training seeds.

    Problems without a value for every seed are left out, because a mean over different seeds would compare different
    models.

    Parameters
    ----------
    values : pl.DataFrame
        Columns [problem_id, seed, value]. Several rows of one problem and seed are averaged; a null counts as a seed.

    Returns
    -------
    np.ndarray
        Shape [problems, seeds], float, sorted by problem and seed; shape [0, 1] if there are no rows.

    Examples
    --------
    >>> values = pl.DataFrame({"problem_id": list("ppqqr"), "seed": [0, 1, 0, 1, 0], "value": [1, 0, 1, 1, 1]})
    >>> by_problem_and_seed(values).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    seeds = values["seed"].n_unique()
    rows = values.group_by("problem_id", "seed").agg(pl.col("value").mean())
    whole = rows.filter(pl.len().over("problem_id") == seeds).sort("problem_id", "seed")
    return whole["value"].to_numpy().astype(float).reshape(-1, max(seeds, 1))


def pooled(values: pl.DataFrame, confidence: float = 0.95) -> Interval:
    """Return the mean over problems and seeds; the interval includes the spread between both.

    Parameters
    ----------
    values : pl.DataFrame
        Columns [problem_id, seed, value], as in `by_problem_and_seed`; value is a share in [0, 1].
    confidence : float, default 0.95
        Level of the interval.

    Returns
    -------
    Interval
        As from `intervals.crossed_interval`; NaN if there are no rows.

    Raises
    ------
    ValueError
        A value is null or outside [0, 1].

    Examples
    --------
    >>> values = pl.DataFrame({"problem_id": ["p", "p", "q", "q"], "seed": [0, 1, 0, 1], "value": [1, 0, 1, 1]})
    >>> [round(x, 2) for x in pooled(values)]
    [0.75, 0.01, 1.0, 2]
    """
    return crossed_interval(by_problem_and_seed(values), confidence)


def evaluation_metrics(
    evaluated: pl.DataFrame,
    problems: pl.DataFrame,
    pass_at: Sequence[int] = (),
    maj_at: Sequence[int] = (),
    confidence: float = 0.95,
) -> pl.DataFrame:
    """Return the metrics of finetuned models (see the module docstring) over all problems, by level and by subject.

    Parameters
    ----------
    evaluated : pl.DataFrame
        Answers [budget, source, target, benchmark, seed, temperature, problem_id, correct: bool, answer_class,
        wrong_reasoning: bool]. Answers with temperature 0 are the greedy ones.
    problems : pl.DataFrame
        [benchmark, problem_id, level, subject]; level and subject may be null.
    pass_at, maj_at : sequence of int
        The k of "pass" and "majority". Problems with fewer sampled answers are left out.
    confidence : float, default 0.95
        Level of the intervals.

    Returns
    -------
    pl.DataFrame
        One row per model, benchmark, metric, k and group, in the schema `SCHEMA`. Level and subject are null in the
        rows for all problems together.

    Raises
    ------
    ValueError
        k < 1, or more than `majority.MAX_SAMPLES` answers of one problem.

    Examples
    --------
    >>> answers = pl.DataFrame({"seed": 0, "problem_id": ["p", "q"], "correct": [True, False]}).with_columns(
    ...     [pl.lit("x").alias(name) for name in KEYS], temperature=0.0, answer_class=0, wrong_reasoning=False
    ... )
    >>> problems = pl.DataFrame({"benchmark": "x", "problem_id": ["p", "q"], "level": ["1", "2"], "subject": None})
    >>> table = evaluation_metrics(answers, problems).filter(metric="accuracy")
    >>> table.select("level", "value", "n_problems").rows()
    [(None, 0.5, 2), ('1', 1.0, 1), ('2', 0.0, 1)]
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
