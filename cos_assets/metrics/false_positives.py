"""False positive rate: of the samples with a correct final answer, the share whose reasoning is wrong.

Defined in Bansal et al. 2024 (arXiv 2408.16737). Samples are drawn and judged one by one, but those of one problem
tend to fail alike, so the interval is that of a ratio over problems (`intervals`). Treating 500 samples of 300 problems
as independent holds the truth 82 % of the time, not 95 %, where two samples of a problem correlate by 0.3.

A judge errs, too. Where people have labelled some of what it judged, `corrected_rate` takes its errors out (Rogan &
Gladen 1978, American Journal of Epidemiology 107:71).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from cos_assets.metrics.frames import by_columns, group_schema, groups, require, require_bool, with_group
from cos_assets.metrics.intervals import (
    Interval,
    check_confidence,
    paired_ratio_difference,
    ratio_interval,
    score_limits,
)

LEAST_READ = 0.5
"""Share of the correct samples that a judge has to read. Those that it cannot read are not like those that it can."""

_RATE = {
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_problems": pl.Int64,
    "n_samples": pl.Int64,
    "n_unread": pl.Int64,
}


def wilson(k: int, n: int, confidence: float = 0.95) -> Interval:
    """Score interval of k of n independent observations (Wilson 1927, JASA 22:209); all NaN when n is 0.

    ValueError: k outside 0..n.
    """
    from scipy.special import ndtri

    if not 0 <= k <= n:
        raise ValueError(f"k is {k} of n = {n}; allowed is 0 <= k <= n")
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    low, high = score_limits(np.array(k / n), np.array(float(n)), ndtri(0.5 + check_confidence(confidence) / 2))
    return Interval(k / n, float(low), float(high), n)


def false_positive_sums(judged: pl.DataFrame) -> pl.DataFrame:
    """Per problem: frame [problem_id, numerator, denominator] = judged wrong, judged; sorted, without unread rows.

    `judged` has [problem_id, wrong_reasoning: bool | null], one row per judged correct sample. With a column `weight`
    both are sums of weights: how many samples of its problem a row stands for, where not all were judged.
    """
    weighted = "weight" in judged.columns
    require(judged, ["problem_id", "wrong_reasoning", *["weight"] * weighted], "judged", nulls=["wrong_reasoning"])
    require_bool(judged, "wrong_reasoning", "judged")
    read = judged.filter(pl.col("wrong_reasoning").is_not_null()).sort("problem_id")
    weight = pl.col("weight") if weighted else pl.lit(1, pl.Int64)
    return read.group_by("problem_id", maintain_order=True).agg(
        (pl.col("wrong_reasoning") * weight).sum().alias("numerator"),
        (pl.col("wrong_reasoning").is_not_null() * weight).sum().alias("denominator"),
    )


def false_positive_rate(judged: pl.DataFrame, confidence: float = 0.95) -> Interval:
    """Share of judged correct samples with wrong reasoning, with an interval clustered by problem.

    `judged` as in `false_positive_sums`; `n` is the number of problems. With no wrong (or only wrong) reasoning the
    interval is that of one sample per problem: nothing is known on how alike the samples of a problem are.
    """
    sums = false_positive_sums(judged)
    return ratio_interval(sums["numerator"].to_numpy(), sums["denominator"].to_numpy(), confidence)


def false_positives(
    judged: pl.DataFrame, confidence: float = 0.95, by: str | Sequence[str] | None = None
) -> pl.DataFrame:
    """The rate per group: frame [*by, value, low, high, n_problems, n_samples, n_unread]; no rows in, none out.

    `judged` has [*by, problem_id, wrong_reasoning]. A null stands for a verdict that could not be read: it is left
    out of the rate and counted in n_unread. n_samples counts the samples in the rate.
    """
    keys = by_columns(by)
    require(judged, [*keys, "problem_id", "wrong_reasoning"], "judged", nulls=[*keys, "wrong_reasoning"])
    schema = group_schema(judged, keys, _RATE)
    tables = [schema.to_frame()]
    for values, rows in groups(judged, keys) if judged.height else ():
        unread = rows["wrong_reasoning"].null_count()
        numbers = [*false_positive_rate(rows, confidence), rows.height - unread, unread]
        table = pl.DataFrame([numbers], schema=_RATE, orient="row").with_columns(pl.col(pl.Float64).fill_nan(None))
        tables.append(with_group(table, values, schema))
    return pl.concat(tables)


def false_positive_difference(a: pl.DataFrame, b: pl.DataFrame, confidence: float = 0.95) -> Interval:
    """Rate of a less rate of b, joint over problems; both as in `false_positive_sums`. Less is better."""
    return paired_ratio_difference(false_positive_sums(a), false_positive_sums(b), confidence)


def corrected_rate(judged: pl.DataFrame, labelled: pl.DataFrame, confidence: float = 0.95) -> Interval:
    """The rate that a judge without errors would have found, with an interval that carries the judge's errors, too.

    `judged` as in `false_positive_sums`; `labelled` has [problem_id, judge: bool, human: bool], one row per sample that
    both have read, True for wrong reasoning. Who chose them must not have looked at what the judge said. With the
    sensitivity s, P(judge wrong | human wrong), and the specificity t, P(judge right | human right), it is
    (rate + t - 1) / (s + t - 1) (Rogan & Gladen 1978), cut to [0, 1].

    The interval is that of Lang & Reiczigel 2014 (Preventive Veterinary Medicine 113:13), which puts z²/2 and 1
    pseudo-observations of either kind to the rate and to s and t. Samples of a problem being alike, each share has the
    effective sample size of a ratio over problems (see `intervals`). The two sets are taken as independent. `n` is the
    number of problems judged. Nothing is known ([0, 1], the value NaN) where people found no right or no wrong
    reasoning, or where the judge is no better than chance.
    ValueError: a missing column, a null in `labelled`.
    """
    from scipy.special import ndtri

    require(labelled, ["problem_id", "judge", "human"], "labelled")
    for name in ("judge", "human"):
        require_bool(labelled, name, "labelled")
    z = float(ndtri(0.5 + check_confidence(confidence) / 2))
    human, judge = pl.col("human"), pl.col("judge")
    rate, size, n = _share(false_positive_sums(judged))
    caught, of_wrong, _ = _share(_hits(labelled.filter(human), judge))
    passed, of_right, _ = _share(_hits(labelled.filter(~human), ~judge))
    unknown = Interval(np.nan, 0.0, 1.0, n)
    if min(n, of_wrong, of_right) <= 0 or caught + passed <= 1:
        return unknown
    value = float(np.clip((rate + passed - 1) / (caught + passed - 1), 0.0, 1.0))
    p, m = (size * rate + z * z / 2) / (size + z * z), size + z * z
    s, m_s = (of_wrong * caught + 1) / (of_wrong + 2), of_wrong + 2
    t, m_t = (of_right * passed + 1) / (of_right + 2), of_right + 2
    informed = s + t - 1
    if informed <= 0:
        return unknown
    true = (p + t - 1) / informed
    shift = 2 * z * z * (true * s * (1 - s) / m_s - (1 - true) * t * (1 - t) / m_t)
    variance = p * (1 - p) / m + true**2 * s * (1 - s) / m_s + (1 - true) ** 2 * t * (1 - t) / m_t
    half = z * np.sqrt(variance) / informed
    # The estimate itself is not to be left out where it was cut.
    low = min(value, float(np.clip(true + shift - half, 0.0, 1.0)))
    return Interval(value, low, max(value, float(np.clip(true + shift + half, 0.0, 1.0))), n)


def _hits(labelled: pl.DataFrame, hit: pl.Expr) -> pl.DataFrame:
    sums = labelled.group_by("problem_id").agg(numerator=hit.sum().cast(pl.Int64), denominator=pl.len().cast(pl.Int64))
    return sums.sort("problem_id")


def _share(sums: pl.DataFrame) -> tuple[float, float, int]:
    """Σy / Σx over problems, its effective sample size p(1-p)/variance (Kish 1965), and the number of problems."""
    y, x = (sums[name].to_numpy().astype(float) for name in ("numerator", "denominator"))
    n = len(x)
    if not n:
        return np.nan, 0.0, 0
    share = float(y.sum() / x.sum())
    variance = n / max(n - 1, 1) * float(((y - share * x) ** 2).sum()) / float(x.sum()) ** 2
    # All alike: nothing is known on how alike the samples of a problem are, and each problem counts as one.
    return share, share * (1 - share) / variance if variance > 1e-24 else float(n), n
