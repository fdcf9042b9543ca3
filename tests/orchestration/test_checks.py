"""Asset checks: each rule on valid and invalid tables, and the effect of a failure on this run and the next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from rich.console import Console

from cos_assets import study
from cos_assets.assets import build_study
from cos_assets.metrics.summary import sample_metrics
from cos_assets.orchestration import checks, executor, instance, io_manager
from cos_assets.orchestration.graph import Graph, materialize
from cos_assets.orchestration.io_manager import ParquetIOManager
from cos_assets.orchestration.terminal import Terminal
from cos_assets.storage import tables


def samples(counts: dict[str, int], **more: Any) -> pl.DataFrame:
    rows = [
        {
            "problem_id": problem,
            "sample_index": i,
            "completion": f"{problem} {i}",
            "reasoning": None,
            "finish_reason": "stop",
        }
        for problem, count in counts.items()
        for i in range(count)
    ]
    return pl.DataFrame(rows).with_columns(**{name: pl.lit(value) for name, value in more.items()})


def with_first(frame: pl.DataFrame, count: int, column: str, value: Any) -> pl.DataFrame:
    first = pl.int_range(pl.len()) < count
    return frame.with_columns(pl.when(first).then(pl.lit(value)).otherwise(pl.col(column)).alias(column))


def test_a_check_fails_above_the_allowed_share_of_truncated_samples() -> None:
    rows = samples({"a": 100})
    assert checks.short(with_first(rows, 10, "finish_reason", "length")).passed
    over = checks.short(with_first(rows, 11, "finish_reason", "length"))
    assert not over.passed and over.counts == {"truncated": 11, "of": 100, "share": 0.11}
    assert checks.short(rows.clear()).passed


def test_a_repeated_sample_index_fails_a_check() -> None:
    rows = samples({"a": 3, "b": 3})
    assert checks.numbered(rows).passed
    twice = checks.numbered(pl.concat([rows, rows.head(2)]))
    assert not twice.passed and twice.counts == {"repeated": 2} and twice.rule.blocks_downstream


def test_samples_that_are_all_equal_fail_a_check() -> None:
    rows = samples(dict.fromkeys("abcdefghij", 3))
    assert checks.varied(rows, 0.7).passed
    alike = rows.with_columns(completion=pl.lit("the same"))
    one_differs = with_first(alike, 1, "completion", "another")
    assert not checks.varied(alike, 0.7).passed
    assert checks.varied(one_differs, 0.7).passed, "nine of ten problems are allowed"
    assert checks.varied(alike, 0.0).passed, "samples of greedy decoding are equal"
    assert checks.varied(alike.filter(pl.col("sample_index") == 0), 0.7).passed, "single samples cannot differ"
    assert checks.varied(alike.head(12), 0.7).passed, "four problems are too few"


def verdicts(rows: pl.DataFrame, verdict: str | None = "correct") -> pl.DataFrame:
    return rows.select("problem_id", "sample_index").with_columns(verdict=pl.lit(verdict, pl.String))


def test_verdicts_that_do_not_match_the_samples_fail_a_check() -> None:
    rows = samples({"a": 50, "b": 50})
    graded = verdicts(rows)
    assert checks.added_up(rows, graded, True).passed
    assert checks.added_up(rows, graded.tail(99), True).counts["without_verdict"] == 1
    assert checks.added_up(rows.tail(99), graded, True).counts["of_no_sample"] == 1
    assert checks.added_up(rows, pl.concat([graded, graded.head(1)]), True).counts["twice"] == 1
    odd = with_first(graded, 2, "verdict", "perhaps")
    assert checks.added_up(rows, odd, True).counts["of_no_known_kind"] == 2
    none = verdicts(rows, None)
    assert checks.added_up(rows, none, False).passed and not checks.added_up(rows, none, True).passed


def test_a_check_fails_above_the_allowed_share_of_grader_errors() -> None:
    graded = verdicts(samples({"a": 100}))
    assert checks.gradable(with_first(graded, 2, "verdict", "grader_error")).passed
    over = checks.gradable(with_first(graded, 3, "verdict", "grader_error"))
    assert not over.passed and over.rule.blocks_downstream
    assert not checks.gradable(with_first(graded, 3, "verdict", "grader_error"), checks.SCORED).rule.blocks_downstream


def test_coverage_that_is_not_monotonic_fails_a_check() -> None:
    rows = samples({"a": 4, "b": 4, "c": 2}, level="1", text_key="a", equations_key="a")
    metrics = sample_metrics(rows.with_columns(correct=pl.col("sample_index") == 1))
    assert metrics.filter(metric="coverage")["n_problems"].n_unique() == 2, "at k = 3 there are fewer problems"
    assert checks.curved(metrics).passed
    coverage = (pl.col("metric") == "coverage") & (pl.col("k") == 2)
    value = pl.col("value")
    for changed, counted in (
        (pl.lit(1.2), "outside_0_to_1"),
        (pl.col("high") + 0.01, "outside_the_interval"),
        (pl.lit(0.0), "less_at_a_larger_k"),
    ):
        broken = metrics.with_columns(value=pl.when(coverage).then(changed).otherwise(value))
        check = checks.curved(broken)
        assert not check.passed and check.counts[counted] > 0, counted


def test_missing_answers_of_the_untouched_model_fail_a_check() -> None:
    keys = [(target, "gsm8k", f"p{i}") for target in ("student", "wc") for i in range(3)]
    answers = pl.DataFrame(keys, schema=["target", "benchmark", "problem_id"], orient="row").with_columns(
        temperature=pl.lit(0.0)
    )
    targets, problems = ["student", "wc"], {"gsm8k": 3}
    assert checks.controlled(answers, targets, problems).passed
    missing = checks.controlled(answers.head(5), targets, problems)
    assert not missing.passed and missing.counts == {"unanswered": 1, "wc on gsm8k": 1}
    assert checks.controlled(answers.head(3), targets, problems).counts["wc on gsm8k"] == 3
    assert not checks.controlled(answers, targets, problems | {"math": 2}).passed
    drawn = answers.with_columns(temperature=pl.lit(0.7))
    assert not checks.controlled(drawn, targets, problems).passed


@pytest.mark.parametrize(
    ("match", "column"), [("flops", "flops"), ("price", "cost"), ("gpu_seconds", "completion_tokens"), ("number", None)]
)
def test_budgets_that_do_not_match_in_spend_fail_a_check(match: str, column: str | None) -> None:
    plan = pl.DataFrame({"budget": "low", "model": ["wc", "se"], "match": match, "tokens_per_second": [300.0, 100.0]})
    spent = {"flops": 1.0, "cost": 1.0, "completion_tokens": 1}

    def bought(wc: int, se: int) -> pl.DataFrame:
        parts = [samples({"a": wc}, model="wc", **spent), samples({"a": se}, model="se", **spent)]
        return pl.concat(parts).with_columns(budget=pl.lit("low"))

    even = (300, 100) if match == "gpu_seconds" else (100, 100)
    assert checks.matched(bought(*even), plan).passed
    assert checks.matched(bought(even[0] * 109 // 100, even[1]), plan).passed
    over = checks.matched(bought(even[0] * 111 // 100, even[1]), plan)
    assert not over.passed and over.counts["low"] == pytest.approx(0.11)
    if column:
        unknown = with_first(bought(10, 100), 1, column, None)
        assert checks.matched(unknown, plan).passed, "unknown spend does not fail the check"


@pytest.mark.parametrize("how", ["a file", "an object"])
def test_a_changed_file_is_detected(tmp_path: Path, how: str) -> None:
    frame = pl.DataFrame({"text": ["a", "b"]})
    where = ("one", "samples", {"budget": "low", "model": "wc"})
    file = tables.write(tmp_path, *where, frame, {})
    written = tables.lineage(tmp_path, *where) or {}

    def as_recorded() -> bool:
        opened = BytesIO(file.read_bytes()) if how == "an object" else file
        return tables.as_recorded(opened, written, where[-1])

    assert as_recorded()
    pl.read_parquet(file, hive_partitioning=False).write_parquet(file, compression="uncompressed")
    assert as_recorded(), "an equal table in another file"
    pl.read_parquet(file, hive_partitioning=False).with_columns(text=pl.lit("c")).write_parquet(file)
    assert not as_recorded()
    file.write_bytes(b"no table")
    assert not as_recorded()


# The effect of a failed check, with imported solutions, which are fast.

NAME = "held"


def attributes(folder: Path) -> dict[str, Any]:
    questions = [{"question": f"What is {n} + {n}?", "answer": str(2 * n), "split": "train"} for n in range(1, 9)]
    texts = [{"question": row["question"], "text": f"The answer is {row['answer']}."} for row in questions]
    for name, rows in {"problems": questions, "solutions": texts}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = {"question": "question", "completion": "text"}
    solutions = {"engine": "imported", "path": str(folder / "solutions.jsonl"), "columns": columns, "params": 1e6}
    task = {"name": "jsonl", "path": str(folder / "problems.jsonl"), "columns": {"split": "split"}}
    return {"name": NAME, "task": task, "models": {"wc": solutions}, "budgets": {"low": {"wc": 1}}}


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    assets, resources = build_study(study.parse(attributes(tmp_path))), {"io_manager": ParquetIOManager()}
    return Graph(dg.Definitions(assets=assets, resources=resources, executor=dg.in_process_executor))


@pytest.fixture
def dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("COS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setattr(io_manager, "BETWEEN_FILES", 0.0)
    instance.prepare()
    with instance.open_instance() as opened:
        yield opened


def run(graph: Graph, dagster: dg.DagsterInstance, selection: str = "+report") -> tuple[executor.Summary, str]:
    """Run like `cos run`, and return the summary and its output."""
    console = Console(record=True, width=200, file=StringIO())
    with Terminal(console) as terminal:
        batches = graph.batches(graph.units(graph.select(NAME, selection)))
        summary = executor.run(graph, dagster, batches, terminal, jobs=1)
    return summary, console.export_text()


def last_check(dagster: dg.DagsterInstance, asset: str, check: str, partition: str | None) -> Any:
    from dagster._core.event_api import PartitionKeyFilter

    key = dg.AssetCheckKey(dg.AssetKey([NAME, asset]), check)
    records = dagster.event_log_storage.get_asset_check_execution_history(
        key, 1, partition_filter=PartitionKeyFilter(key=partition)
    )
    return records[0].evaluation if records else None


BROKEN = "low|wc"


def test_a_failed_check_blocks_downstream_assets_until_it_passes(
    graph: Graph, dagster: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        # Our models and graders do not make such a table: the checks themselves are tested above.
        patch.setattr(checks, "GRADER_ERRORS", -1.0)
        summary, shown = run(graph, dagster)
    told = f"{NAME}/verdicts {BROKEN}"
    assert summary.failed[told].startswith("made, but a failed check blocks its use: few_answers_defeat_the_grader")
    assert {f"{NAME}/{asset} {BROKEN}" for asset in ("sample_metrics", "judgements")} <= set(summary.failed)
    assert f"{NAME}/report" in summary.failed
    assert "few_answers_defeat_the_grader" in shown and "skipped" in shown
    assert tables.scan(tmp_path / "home", NAME, "verdicts", [{"budget": "low", "model": "wc"}]).collect().height == 8
    assert not (tmp_path / "home" / NAME / "sft_set").exists()
    seen = last_check(dagster, "verdicts", "few_answers_defeat_the_grader", BROKEN)
    assert not seen.passed and seen.blocking and seen.severity == dg.AssetCheckSeverity.ERROR

    with monkeypatch.context() as patch:
        patch.setattr(checks, "GRADER_ERRORS", -1.0)
        later, _ = run(graph, dagster, "sft_set")  # the verdicts are not selected
        assert later.made == 0 and f"{NAME}/sft_set {BROKEN}" in later.failed
        by_hand = materialize(graph.definitions, dagster, [dg.AssetKey([NAME, "judgements"])], BROKEN)
        (why,) = by_hand.failed.values()
        assert "inputs_are_sound (stopped 1)" in why and "verdicts low|wc: failed few_answers_defeat_the_grader" in why
        again, _ = run(graph, dagster)
        assert told in again.failed and again.made == 0, "it is made again and fails again"

    mended, _ = run(graph, dagster)
    assert not mended.failed and mended.made >= 5
    assert last_check(dagster, "verdicts", "few_answers_defeat_the_grader", BROKEN).passed
    assert run(graph, dagster)[0].made == 0


def test_assets_downstream_of_a_manually_changed_table_are_not_made(
    graph: Graph, dagster: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert not run(graph, dagster, "+verdicts")[0].failed
    file = next((tmp_path / "home" / NAME / "verdicts").rglob("data.parquet"))
    whole = file.read_bytes()
    pl.read_parquet(file, hive_partitioning=False).with_columns(correct=pl.lit(True)).head(7).write_parquet(file)
    keys = [dg.AssetKey([NAME, asset]) for asset in ("sample_metrics", "judgements")]
    stopped = materialize(graph.definitions, dagster, keys, BROKEN)  # like the UI: only these assets
    for key in keys:
        assert "inputs_are_sound (changed 1)" in stopped.failed[key]
        assert not last_check(dagster, key.path[-1], "inputs_are_sound", BROKEN).passed
    changed = f"{NAME}/verdicts {BROKEN}: its content differs from its lineage.json; materialize it again"
    assert changed in str(stopped.failed)
    assert not (tmp_path / "home" / NAME / "sft_set").exists()

    # `cos run` makes the table again first.
    assert not run(graph, dagster)[0].failed
    assert pl.read_parquet(file, hive_partitioning=False).equals(pl.read_parquet(BytesIO(whole)))
    assert last_check(dagster, "judgements", "inputs_are_sound", BROKEN).passed


def test_a_warning_is_shown_and_blocks_nothing(
    graph: Graph, dagster: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "TRUNCATED", -1.0)
    summary, shown = run(graph, dagster)
    assert not summary.failed
    assert "samples: few_completions_are_truncated (of 8)" in shown
    seen = last_check(dagster, "samples", "few_completions_are_truncated", BROKEN)
    assert not seen.passed and seen.severity == dg.AssetCheckSeverity.WARN
