"""All data metrics of one sample set as one table in long format.

To add a metric, call `register`. See docs/extending.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import polars as pl

from cos_assets.metrics.coverage import count_correct, coverage
from cos_assets.metrics.diversity import diversity
from cos_assets.metrics.intervals import Interval, mean_interval
from cos_assets.metrics.prediction import fits, predict_coverage
from cos_assets.metrics.richness import predict_distinct
from cos_assets.storage.schemas import TABLES

KEYS = {"exact": "text_key", "equations": "equations_key"}
MAX_POINTS = 100

SCHEMA = TABLES["sample_metrics"].schema


class SampleMetric(NamedTuple):
    """A metric of sample sets. `version` is raised when `measure` may give another value."""

    measure: Callable[[pl.DataFrame, Sequence[int], float, Sequence[str]], pl.DataFrame]
    """(verdicts, ks, confidence, by) -> [*by, k, value, low, high, n_problems], with `distinct` and `denominator` where
    the metric has them. `verdicts` are the rows with a verdict; `by` is empty or ["level"]."""
    version: str = "1"


METRICS: dict[str, SampleMetric] = {
    "coverage": SampleMetric(lambda rows, ks, confidence, by: coverage(count_correct(rows, by), ks, confidence, by)),
    "diversity": SampleMetric(lambda rows, ks, confidence, by: diversity(rows, ks, confidence, by, KEYS)),
}
_BUILT_IN = frozenset(METRICS)


def register(name: str, metric: SampleMetric) -> None:
    """Register a metric under the name that the column `metric` shows. Sample sets are then measured again.

    Examples
    --------
    >>> register("pass@k", METRICS["coverage"])
    >>> registered_versions()
    [['pass@k', '1']]
    >>> del METRICS["pass@k"]
    """
    METRICS[name] = metric


def registered_versions() -> list[list[str]]:
    """Return [name, version] of the registered metrics beyond the built-in ones, for the asset's code version.

    Examples
    --------
    >>> registered_versions()
    []
    """
    return [[name, METRICS[name].version] for name in sorted(METRICS.keys() - _BUILT_IN)]


def sample_metrics(verdicts: pl.DataFrame, confidence: float = 0.95) -> pl.DataFrame:
    """Return every metric of `METRICS` at every k, for all levels together (level null) and by level.

    The coverage at k = 1 is the accuracy per sample. With more than `MAX_POINTS` samples per problem, the metrics are
    given at `MAX_POINTS` values of k (see `points`).

    Parameters
    ----------
    verdicts : pl.DataFrame
        Columns [problem_id, sample_index, level, correct: bool, text_key, equations_key], one row per sample. Samples
        that could not be verified (correct null) are excluded.
    confidence : float, default 0.95
        Level of the intervals.

    Returns
    -------
    pl.DataFrame
        The schema `SCHEMA`, sorted; level is null in the rows for all levels together.

    Raises
    ------
    ValueError
        As from `diversity.diversity`.

    Examples
    --------
    >>> columns = {"problem_id": list("ppqq"), "sample_index": [0, 1] * 2, "level": "1", "text_key": [*"abc", None]}
    >>> right = pl.col("text_key").is_not_null()
    >>> verdicts = pl.DataFrame(columns).with_columns(correct=right, equations_key="text_key")
    >>> table = sample_metrics(verdicts).filter(pl.col("level").is_null(), metric="coverage")
    >>> table.select("k", "value", "n_problems").rows()
    [(1, 0.75, 2), (2, 1.0, 2)]
    """
    verdicts = verdicts.filter(pl.col("correct").is_not_null())
    most = verdicts.group_by("problem_id").len()["len"].max()
    ks = points(int(most) if isinstance(most, int) else 0)
    levels = verdicts.filter(pl.col("level").is_not_null())
    tables = []
    for rows, by in ((verdicts, []), (levels, ["level"])):
        for name, metric in METRICS.items():
            tables.append(metric.measure(rows, ks, confidence, by).with_columns(metric=pl.lit(name)))
    return pl.concat(
        [_shaped(table) for table in tables],
    ).sort("metric", "distinct", "denominator", "level", "k", nulls_last=False)


def adaptive_metrics(verdicts: pl.DataFrame, floor: int, samples: int, confidence: float = 0.95) -> pl.DataFrame:
    """Return the metrics of `sample_metrics`, in the same schema, for samples whose number differs between problems.

    Curves go up to `floor`. Beyond it, the number of samples of a problem depends on their outcomes, and no estimate
    of coverage@k is unbiased. At k = `samples`, for all levels together, the table has the share of problems solved by
    all of their samples and the mean number of distinct solutions (equations), as sampled. "uniform_coverage" and
    "uniform_diversity" are what the first `samples` of every problem would have given; samples that were not drawn are
    predicted (see `prediction`, `richness`). This is the comparison at equal cost.

    Parameters
    ----------
    verdicts, confidence
        As in `sample_metrics`. The keys of wrong samples must be null, because distinct solutions are counted by keys.
    floor : int
        Number of samples that all problems have.
    samples : int
        Mean number of samples per problem. If it is at most `floor`, the result has only curves.

    Raises
    ------
    ValueError
        As from `sample_metrics` and `prediction.fit`.

    Examples
    --------
    >>> keys = ["a", "b", None, None, None, "c"]
    >>> columns = {"problem_id": list("ppqqqq"), "sample_index": [0, 1, 0, 1, 2, 3], "level": "1", "text_key": keys}
    >>> right = pl.col("text_key").is_not_null()
    >>> verdicts = pl.DataFrame(columns).with_columns(correct=right, equations_key="text_key")
    >>> table = adaptive_metrics(verdicts, floor=2, samples=3).filter(k=3)
    >>> table.select("metric", pl.col("value").round(1)).rows()
    [('coverage', 1.0), ('diversity', 1.5), ('uniform_coverage', 0.5), ('uniform_diversity', 1.4)]
    """
    verdicts = verdicts.filter(pl.col("correct").is_not_null())
    curves = sample_metrics(verdicts.filter(pl.col("sample_index") < floor), confidence)
    if verdicts.is_empty() or samples <= floor:
        return curves
    key = KEYS["equations"]
    whole = verdicts.group_by("problem_id", maintain_order=True).agg(
        solved=pl.col("correct").any(), different=pl.col(key).drop_nulls().n_unique()
    )
    most = float(verdicts.group_by("problem_id").len()["len"].max() or 1)  # type: ignore[arg-type]
    first = verdicts.filter(pl.col("sample_index") < samples)
    counts = count_correct(first)
    found = fits(counts)
    values = {
        ("coverage", None): mean_interval(whole["solved"].cast(pl.Float64).to_numpy(), confidence),
        ("diversity", "equations"): mean_interval(whole["different"].to_numpy(), confidence, (0.0, most)),
        ("uniform_coverage", None): Interval(*predict_coverage(found, counts, [samples], confidence).row(0)[1:]),
        ("uniform_diversity", "equations"): Interval(
            *predict_distinct(found, first, [samples], key, confidence).row(0)[1:]
        ),
    }
    rows = [
        (metric, distinct, "all" if distinct else None, None, samples, *interval)
        for (metric, distinct), interval in values.items()
    ]
    return pl.concat([curves, pl.DataFrame(rows, schema=SCHEMA, orient="row")])


def points(most: int) -> list[int]:
    """Return 1 to `most`, or at most `MAX_POINTS` values evenly spaced on a log scale, including both ends.

    Examples
    --------
    >>> points(5), points(10_000)[-3:]
    ([1, 2, 3, 4, 5], [8302, 9112, 10000])
    """
    if most <= MAX_POINTS:
        return list(range(1, most + 1))
    return sorted({round(most ** (i / (MAX_POINTS - 1))) for i in range(MAX_POINTS)})


def _shaped(table: pl.DataFrame) -> pl.DataFrame:
    return table.select(
        (pl.col(name) if name in table.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in SCHEMA.items()
    )
