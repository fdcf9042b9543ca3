"""What the UI shows of a partition: numbers under stable names, columns, a small figure, and progress."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from support import Silent

from cos_assets import study, tiny
from cos_assets.assets import build_study, step
from cos_assets.orchestration import executor, instance
from cos_assets.orchestration.graph import Graph
from cos_assets.orchestration.io_manager import ParquetIOManager
from cos_assets.storage import tables
from cos_assets.storage.schemas import description

NAME = "shown"
SPEC = {
    "name": NAME,
    "task": {"name": "arithmetic", "train": 30, "validation": 6, "test": 12},
    "models": {
        name: {
            "model": str(tiny.shipped(name)),
            "price": {"input": 1.0, "output": 2.0, "currency": "EUR", "date": "2026-01-01"},
        }
        for name in ("wc", "se")
    },
    "budgets": {"low": {"se": 2}},
    "pilot": {"samples": 2, "problems": 10},
    "sampling": {"top_k": 3, "max_tokens": 56},
    "targets": {"student": {"model": str(tiny.shipped("student"))}},
    "finetune": {"method": "full", "steps": 4, "batch_size": 8, "learning_rate": 5.0e-4, "checkpoints": 1},
}
# Asset -> one of its partitions.
SHOWN = {
    "problems": None,
    "pilot": "wc",
    "budget_plan": None,
    "prediction": None,
    "samples": "low|wc",
    "verdicts": "low|wc",
    "sample_metrics": "low|wc",
    "judgements": "low|wc",
    "sft_set": "low|wc",
    "student_checkpoint": "low|wc",
    "student_eval": "low|wc",
    "base_eval": None,
    "report": None,
}
DRAWN = sorted(set(SHOWN) - {"problems", "budget_plan", "prediction"})
VERDICTS = {"correct", "wrong", "no_answer", "truncated", "grader_error"}
SPENT = {"spent_tokens", "spent_flops", "run_seconds"}
HELD = {"completion_tokens", "mean_tokens"}
NUMBERS = {
    "pilot": VERDICTS | SPENT | {"spent_cost", "flops", "cost", "accuracy"},
    "samples": HELD | SPENT | {"spent_cost", "flops", "cost", "truncated"},
    "verdicts": VERDICTS | {"run_seconds"},
    "sample_metrics": {"coverage_at_6"},
    "judgements": {"judged", "false_positive_rate"},
    "sft_set": {"rows", "taken", "verified"},
    "student_checkpoint": SPENT | {"tokens", "flops", "seconds", "validation_accuracy"},
    "student_eval": VERDICTS | HELD | SPENT | {"pass_at_1", "pass_at_1_low", "pass_at_1_high"},
    "base_eval": SPENT | {"student_pass_at_1"},
}


class World:
    """The study, made once without throttling of progress reports, and its Dagster instance."""

    def __init__(self, root: Any, graph: Graph, dagster: dg.DagsterInstance) -> None:
        self.root, self.graph, self.dagster = root, graph, dagster

    def metadata(self, asset: str) -> dict[str, Any]:
        partition = SHOWN[asset]
        where = dg.AssetRecordsFilter(
            asset_key=dg.AssetKey([NAME, asset]), asset_partitions=[partition] if partition else None
        )
        record = self.dagster.fetch_materializations(where, limit=1).records[0]
        assert record.asset_materialization is not None
        return {name: value.value for name, value in record.asset_materialization.metadata.items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COS_HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("DAGSTER_HOME", raising=False)
        patch.setattr(step, "TELL_EVERY", 0.0)
        root = instance.prepare()
        assets, resources = build_study(study.parse(SPEC)), {"io_manager": ParquetIOManager()}
        graph = Graph(dg.Definitions(assets=assets, resources=resources, executor=dg.in_process_executor))
        with instance.open_instance() as dagster:
            made = executor.run(graph, dagster, graph.batches(graph.units(graph.keys())), Silent(), jobs=1)
            assert not made.failed
            yield World(root, graph, dagster)


@pytest.mark.parametrize("asset", SHOWN)
def test_metadata_has_the_row_count_the_path_and_described_columns(world: World, asset: str) -> None:
    shown = world.metadata(asset)
    file = Path(shown["dagster/uri"])
    frame = pl.read_parquet(file, hive_partitioning=False)
    assert shown["dagster/row_count"] == frame.height
    columns = shown["dagster/column_schema"].columns
    assert [column.name for column in columns] == frame.columns
    assert all(column.description == description(asset, column.name) for column in columns)
    assert not [column.name for column in columns if not column.description]


@pytest.mark.parametrize("asset", NUMBERS)
def test_metadata_has_the_documented_numbers(world: World, asset: str) -> None:
    shown = world.metadata(asset)
    lacking = sorted(NUMBERS[asset] - set(shown))
    assert not lacking, f"{asset} has {', '.join(sorted(shown))}"
    assert all(isinstance(shown[name], int | float) for name in NUMBERS[asset])


def test_spend_in_the_metadata_equals_the_spend_in_the_ledger(world: World) -> None:
    bought = pl.concat(pl.read_parquet(f) for f in sorted(Path(world.root, "ledger").rglob("part-*.parquet")))
    sampled = bought.filter(pl.col("stage") == "sampling", pl.col("model_id").str.ends_with("wc"))
    shown = world.metadata("samples")
    assert shown["spent_tokens"] == sampled["completion_tokens"].sum()
    assert shown["spent_flops"] == pytest.approx(sampled["flops"].sum())
    assert shown["spent_cost"] == pytest.approx(sampled["cost"].sum())
    assert shown["completion_tokens"] > shown["spent_tokens"], "the samples of the pilot are already bought"
    trained = world.metadata("student_checkpoint")
    validated = bought.filter(pl.col("stage") == "validation")["completion_tokens"]
    assert trained["spent_tokens"] > trained["tokens"] and len(validated) > 0


@pytest.mark.parametrize("asset", DRAWN)
def test_metadata_has_an_inline_svg_figure_below_50_kilobytes(world: World, asset: str) -> None:
    shown = world.metadata(asset)["figure"]
    alt, _, address = shown.removeprefix("![").removesuffix(")").partition("](data:image/svg+xml;base64,")
    drawn = base64.b64decode(address)
    assert alt and drawn.startswith(b"<svg") and b"<script" not in drawn
    assert len(shown) < 50_000


def test_progress_is_recorded_as_observations_and_makes_no_partition_stale(world: World) -> None:
    found = world.dagster.fetch_observations(dg.AssetKey([NAME, "samples"]), limit=1000).records
    ours = [r.asset_observation for r in found if r.asset_observation and r.asset_observation.partition == "low|wc"]
    last = {name: value.value for name, value in ours[0].metadata.items()}
    assert last["doing"] == "sampling with wc" and last["done"] == last["total"] == 30 * 6 - 2 * 10
    assert last["progress"] == 1.0 and last["tokens"] > 0 and last["tokens_per_second"] > 0
    assert last["cost"] == pytest.approx(last["cost_expected"])
    batches = world.graph.batches(world.graph.units(world.graph.keys()))
    assert not [batch.name for batch in batches if world.graph.stale(world.dagster, batch)]


def test_lineage_facts_equal_the_metadata(world: World) -> None:
    facts = (tables.lineage(world.root, NAME, "samples", {"budget": "low", "model": "wc"}) or {})["facts"]
    shown = world.metadata("samples")
    assert {name: shown[name] for name in facts} == facts
