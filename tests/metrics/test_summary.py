from __future__ import annotations

import polars as pl
import pytest

from cos_assets.metrics.summary import MAX_POINTS, SCHEMA, points, sample_metrics


def verdicts(*problems: tuple[str, list[str]]) -> pl.DataFrame:
    """The level and the samples of each problem: "a", "b" … are distinct correct solutions, "-" is wrong."""
    rows = [
        (f"p{number}", index, level, kind != "-", kind if kind != "-" else None)
        for number, (level, kinds) in enumerate(problems)
        for index, kind in enumerate(kinds)
    ]
    frame = pl.DataFrame(rows, schema=["problem_id", "sample_index", "level", "correct", "text_key"], orient="row")
    return frame.with_columns(equations_key="text_key")


def value(table: pl.DataFrame, metric: str, k: int, level: str | None = None, **more: str) -> float:
    wanted = {"metric": metric, "k": k, "level": level, "distinct": None, "denominator": None, **more}
    rows = table.filter(*(pl.col(name).eq_missing(v) for name, v in wanted.items()))
    assert rows.height == 1
    return rows["value"].item()


def test_metrics_equal_the_values_computed_by_hand() -> None:
    table = sample_metrics(verdicts(("2", ["a", "a", "b"]), ("2", ["-", "-", "-"]), ("3", ["a", "-", "-"])))
    assert table.schema == SCHEMA
    assert value(table, "coverage", 1) == pytest.approx((1 + 0 + 1 / 3) / 3)
    assert value(table, "coverage", 3) == pytest.approx(2 / 3)
    assert value(table, "coverage", 3, level="2") == pytest.approx(1 / 2)
    assert value(table, "diversity", 3, distinct="exact", denominator="all") == pytest.approx((2 + 0 + 1) / 3)
    assert value(table, "diversity", 3, distinct="exact", denominator="solved") == pytest.approx((2 + 1) / 2)
    assert value(table, "diversity", 3, distinct="none", denominator="all") == pytest.approx((3 + 0 + 1) / 3)


def test_a_task_without_levels_has_no_rows_by_level() -> None:
    table = sample_metrics(verdicts(("2", ["a"]), ("2", ["-"])).with_columns(level=pl.lit(None, pl.String)))
    assert table["level"].null_count() == table.height > 0


def test_no_samples_give_an_empty_table() -> None:
    assert sample_metrics(verdicts(("2", ["a"])).clear()).schema == SCHEMA


def test_many_samples_get_a_hundred_points_with_both_ends() -> None:
    assert points(5) == [1, 2, 3, 4, 5]
    many = points(10_000)
    assert many[0] == 1
    assert many[-1] == 10_000
    assert len(many) <= MAX_POINTS
