"""Studies with a pilot: its purchase, the plan based on it, predictions, and adaptive allocation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets import study, tiny
from cos_assets.report.plan import plan_lines, prediction_lines
from cos_assets.storage import tables
from cos_assets.study import models

Made = Callable[[dict[str, Any]], Path]


def attributes(**more: Any) -> dict[str, Any]:
    return {
        "name": "piloted",
        "task": {"name": "arithmetic", "train": 60, "validation": 10, "test": 20},
        "models": {name: {"model": str(tiny.shipped(name))} for name in ("wc", "se")},
        "budgets": {"low": {"se": 2}, "high": {"se": 5}},
        "sampling": {"temperature": 0.7, "top_k": 3, "max_tokens": 56},
        "pilot": {"samples": 3, "problems": 40},
    } | more


def ledger(root: Path) -> pl.DataFrame:
    files = sorted((root / "ledger").rglob("part-*.parquet"))
    return pl.concat([pl.read_parquet(f, hive_partitioning=False) for f in files])


def scan(root: Path, table: str, *partitions: dict[str, str]) -> pl.DataFrame:
    return tables.scan(root, "piloted", table, partitions or (None,)).collect()


def test_a_pilot_is_bought_once_and_predicts_the_results(materialize: Made) -> None:
    root = materialize(
        attributes(
            match_rule="measured",
            count_prefill=True,
            sources={"mix": {"take": {"wc": 0.5, "se": 0.5}}},
            # The check of the first samples runs 16 prompts, which run again with the rest of their samples.
            sampling={"temperature": 0.7, "top_k": 3, "max_tokens": 56, "unreadable": "continue"},
        )
    )
    pilots = {name: scan(root, "pilot", {"model": name}) for name in ("wc", "se")}
    assert all(pilot.height == 120 and pilot["problem_id"].n_unique() == 40 for pilot in pilots.values())
    assert pilots["wc"]["problem_id"].unique().sort().equals(pilots["se"]["problem_id"].unique().sort())
    rows = ledger(root)
    assert rows.height == rows.select("model_id", "prompt_hash", "sample_index").n_unique()
    assert rows.filter(stage="pilot").height == 240

    plan = scan(root, "budget_plan")
    row = plan.row(by_predicate=(pl.col("budget") == "high") & (pl.col("model") == "wc"), named=True)
    means = {n: p.select("completion_tokens", "prompt_tokens").mean().row(0) for n, p in pilots.items()}
    token = {"wc": 2 * 116_544, "se": 2 * 356_256}
    spend = token["se"] * (means["se"][1] + 5 * means["se"][0])
    assert row["exact_samples"] == pytest.approx((spend / token["wc"] - means["wc"][1]) / means["wc"][0])
    # The samples begin with the pilot, and the prediction holds.
    bought = scan(root, "samples", {"budget": "high", "model": "wc"})
    assert bought.join(pilots["wc"], on=["problem_id", "sample_index", "completion"], how="semi").height == 120
    assert row["tokens_low"] < row["tokens_expected"] < row["tokens_high"]
    assert bought["completion_tokens"].sum() == pytest.approx(row["tokens_expected"], rel=0.1)
    assert bought["flops"].sum() == pytest.approx(row["flops_expected"], rel=0.1), "prompts are booked once"

    told = scan(root, "prediction")
    assert set(told["source"]) == {"wc", "se", "mix"} and set(told["scale"]) == {0.5, 1.0, 2.0}
    assert (told["solved"] <= told["problems"]).all() and (told["solved"] >= told["solved_low"]).all()
    facts = (tables.lineage(root, "piloted", "prediction") or {})["facts"]
    assert facts["recommendation_1"].startswith("low budget: buy ") and len(facts) == 2
    shown = "\n".join(plan_lines(plan, (tables.lineage(root, "piloted", "budget_plan") or {})["facts"]))
    assert "prompts included" in shown and "≤" not in shown
    assert len(prediction_lines(told)) > 10


def test_adaptive_allocation_spends_as_much_as_uniform_and_reports_both(materialize: Made) -> None:
    uniform = materialize(attributes(name="uniform", pilot=None))
    root = materialize(attributes(allocation="adaptive", pilot={"samples": 3}))
    assert root == uniform, "both share one ledger"
    for model, count in (("wc", 15), ("se", 5)):
        where = {"budget": "high", "model": model}
        rows = scan(root, "samples", where)
        sizes = rows.group_by("problem_id").len()["len"]
        assert rows.height == 60 * count and 3 <= sizes.min() < count < sizes.max()  # type: ignore[operator]
        figures = scan(root, "sample_metrics", where).filter(pl.col("level").is_null(), k=count)
        told = {row["metric"]: row for row in figures.iter_rows(named=True)}
        graded = scan(root, "verdicts", where)
        solved = graded.filter("correct")["problem_id"].n_unique() / 60
        assert told["coverage"]["value"] == pytest.approx(solved)
        even = tables.scan(root, "uniform", "verdicts", [where]).collect()
        true = even.filter("correct")["problem_id"].n_unique() / 60
        assert told["uniform_coverage"]["value"] == pytest.approx(true, abs=0.03)
        assert told["coverage"]["value"] >= true
        curve = scan(root, "sample_metrics", where).filter(pl.col("level").is_null(), metric="coverage")
        assert curve["k"].to_list() == [1, 2, 3, count], "curves end at the smallest number of samples of a problem"
        rows = scan(root, "sft_set", {"budget": "high", "source": model})
        kept = graded.filter("correct").unique(["problem_id", "text_key"])
        assert rows.height == kept.height, "all bought samples are used"
    page = (tables.folder(root, "piloted", "report") / "report.html").read_text()
    assert "Adaptive and uniform" in page
    assert "Adaptive and uniform" not in (tables.folder(root, "uniform", "report") / "report.html").read_text()


def test_match_by_gpu_seconds_uses_the_throughput_of_the_pilot(materialize: Made) -> None:
    root = materialize(attributes(match="gpu_seconds", budgets={"low": {"se": 2}}, pilot={"samples": 2}))
    plan = scan(root, "budget_plan")
    for name in ("wc", "se"):
        rows = scan(root, "pilot", {"model": name})
        speed = rows["completion_tokens"].sum() / rows["seconds"].sum()
        assert plan.filter(model=name)["tokens_per_second"].item() == pytest.approx(speed)
    ratio = plan["tokens_per_second"][0] / plan["tokens_per_second"][1]
    assert plan["exact_samples"][0] == pytest.approx(2 * ratio) and plan["seconds_expected"].null_count() == 0


PILOT = {"samples": 3, "problems": 40}
UNKNOWN = {"models": {"wc": {"model": "no/such-model", "params": 1e9}, "se": {"model": str(tiny.shipped("se"))}}}
KEYLESS = {
    "models": {
        "wc": {"model": str(tiny.shipped("wc"))},
        "se": {
            "model": "gpt",
            "engine": "openai",
            "params": 1e9,
            "engine_options": {"api_key_env": "NO_SUCH_KEY"},
            "sampling": {"top_k": None},
        },
    }
}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (UNKNOWN, "models.wc: model: 'no/such-model' is not a folder and was not found on the hub"),
        (KEYLESS, "models.se: engine_options.api_key_env: the environment variable NO_SUCH_KEY is not set"),
        (UNKNOWN | {"pilot": PILOT}, "models.wc: model: 'no/such-model' is not a folder"),
        (KEYLESS | {"pilot": PILOT}, "models.se: engine_options.api_key_env: the environment variable NO_SUCH_KEY"),
        (
            {"cap": {"flops": 1e6}, "pilot": PILOT},
            "cap.flops: 1e+06 is less than the pilot can cost: ",
        ),
    ],
)
def test_an_unusable_configuration_is_refused_before_a_purchase(
    more: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, materialize: Made
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(AssertionError) as caught:
        materialize(attributes(pilot=None) | more)
    assert message in str(caught.value)
    assert not list(tmp_path.rglob("part-*.parquet"))


def test_a_reached_cap_fails_the_purchase_and_a_higher_cap_continues_it(materialize: Made) -> None:
    with pytest.raises(AssertionError, match=r"cap\.flops: 4e\+08: study 'piloted' has spent .* are missing"):
        materialize(attributes(cap={"flops": 4e8}, pilot=None, budgets={"low": {"se": 2}}))
    root = materialize(attributes(cap={"flops": 6e9}, pilot=None, budgets={"low": {"se": 2}}))
    rows = ledger(root)
    assert rows.height == rows.select("model_id", "prompt_hash", "sample_index").n_unique() == 60 * (2 + 6)


def test_spec_derives_the_floor_and_the_prices_for_batches_and_cached_tokens() -> None:
    spec = study.parse(attributes(allocation="adaptive"))
    assert spec.floor == 3 and spec.predicts and not spec.measured
    price = models.Price(output=10.0, input=2.0, cached=0.5, batch_discount=0.5, date="2026-11-01")  # type: ignore[arg-type]
    assert price.of(batch=False).of(100, 50, 80) == pytest.approx((20 * 2 + 80 * 0.5 + 50 * 10) / 1e6)
    assert price.of(batch=True).of(100, 50, 80) == pytest.approx((20 * 2 + 80 * 0.5 + 50 * 10) / 2e6)
