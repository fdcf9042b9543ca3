"""A study whose models are trained with several seeds and answer several times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets import tiny
from cos_assets.metrics.evaluated import pooled
from cos_assets.storage import catalog, tables

Made = Callable[[dict[str, Any]], Path]
ARMS = [{"budget": "low", "source": source} for source in ("wc", "se")]


def attributes(**more: Any) -> dict[str, Any]:
    return {
        "name": "drawn",
        "task": {"name": "arithmetic", "train": 30, "validation": 6, "test": 20},
        "models": {name: {"model": str(tiny.shipped(name))} for name in ("wc", "se")},
        "budgets": {"low": {"se": 2}},
        "sampling": {"top_k": 3, "max_tokens": 56},
        "targets": {"student": {"model": str(tiny.shipped("student"))}},
        "finetune": {"steps": 12, "batch_size": 8, "checkpoints": 1},
    } | more


def test_each_training_seed_is_evaluated_greedily_and_with_drawn_answers(materialize: Made) -> None:
    finetune = attributes()["finetune"] | {"seeds": 2}
    root = materialize(attributes(finetune=finetune, evaluation={"samples": 4, "top_k": 3, "maj_at": [1, 4]}))
    made = tables.scan(root, "drawn", "student_checkpoint", ARMS).collect()
    assert made.select("source", "seed").rows() == [(s, n) for s in ("wc", "se") for n in (0, 1)]
    assert made["data_hash"].n_unique() == 2 and made["hash"].n_unique() == 4
    rows = tables.scan(root, "drawn", "student_eval", ARMS).collect()
    keys = ["source", "seed", "problem_id", "temperature", "sample_index"]
    assert rows.height == rows.select(keys).n_unique() == 2 * 2 * 20 * (1 + 4)
    drawn = rows.filter(pl.col("temperature") > 0)
    assert drawn.filter(pl.col("answer_class") == 0).select("correct").to_series().all()
    assert drawn.filter("correct")["answer_class"].to_list() == [0] * drawn["correct"].sum()
    assert rows.filter("correct")["wrong_reasoning"].null_count() == 0

    told = tables.scan(root, "drawn", "eval_metrics").collect()
    assert set(told["source"]) == {"wc", "se", "base"}
    whole = told.filter(pl.col("level").is_null(), pl.col("subject").is_null())
    value = {(r["source"], r["metric"], r["k"]): r["value"] for r in whole.iter_rows(named=True)}
    for source in ("wc", "se"):
        mine = drawn.filter(source=source)
        assert value[source, "pass", 1] == pytest.approx(mine["correct"].mean())
        assert value[source, "majority", 1] == pytest.approx(value[source, "pass", 1])
        solved = mine.group_by("seed", "problem_id").agg(pl.col("correct").any())["correct"].mean()
        assert value[source, "pass", 4] == pytest.approx(solved)
        assert ("base", "majority", 4) in value and (source, "majority", 2) not in value
    assert whole.filter(metric="accuracy", source="wc")["n_seeds"].item() == 2
    assert told.filter(pl.col("level").is_not_null()).height > whole.height
    catalog.build(root)
    asked = "SELECT count(*) AS n FROM eval_metrics WHERE metric = 'majority' AND level IS NULL AND subject IS NULL"
    assert catalog.query(root, asked)["n"].item() == 3 * 2

    greedy = rows.filter(pl.col("temperature") == 0, source="wc").with_columns(value=pl.col("correct").cast(pl.Float64))
    report = (
        tables.scan(root, "drawn", "report").collect().filter(metric="accuracy", target="student").row(0, named=True)
    )
    assert (report["weak_value"], report["weak_low"], report["weak_high"]) == pytest.approx(pooled(greedy)[:3])
    facts = (tables.lineage(root, "drawn", "student_eval", ARMS[0]) or {})["facts"]
    assert facts["pass_at_1"] == pytest.approx(report["weak_value"])
    assert facts["maj_at_4"] == pytest.approx(value["wc", "majority", 4])

    # The first seed is the only one of a study without seeds, and is not trained again.
    ledger = pl.concat([pl.read_parquet(f, hive_partitioning=False) for f in (root / "ledger").rglob("part-*.parquet")])
    assert ledger.filter(stage="training").height == 4
    materialize(attributes(name="plain"))
    alone = tables.scan(root, "plain", "student_checkpoint", ARMS).collect()
    assert alone["hash"].to_list() == made.filter(seed=0)["hash"].to_list()
    again = pl.concat([pl.read_parquet(f, hive_partitioning=False) for f in (root / "ledger").rglob("part-*.parquet")])
    assert again.filter(stage="training").height == 4
    plain = tables.scan(root, "plain", "student_eval", ARMS).collect()
    assert plain.equals(rows.filter(pl.col("temperature") == 0, seed=0))
