"""Time of the demo study: model work (sampling, training, evaluation) versus everything else.

    python benchmarks/demo.py [study]          by default demo

Runs the study in an empty home folder in one process, so that the stages add up, and then again to measure a run with
nothing to do. Model work is the time inside the engines and the Trainer. The rest is Dagster, tables, grading,
metrics and report.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import dagster as dg
import polars as pl

from cos_assets.orchestration import executor, instance
from cos_assets.orchestration.graph import Batch, Graph, Outcome
from cos_assets.progress import Report


class Silent:
    def started(self, batch: Batch, assets: list[dg.AssetKey]) -> None: ...
    def progress(self, batch: Batch, now: Report) -> None: ...
    def finished(self, batch: Batch, outcome: Outcome) -> None: ...
    def skipped(self, batch: Batch, why: str) -> None: ...


model_seconds: dict[str, float] = defaultdict(float)


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def timer(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            model_seconds[name] += time.perf_counter() - started

    return timer


@contextmanager
def model_work() -> Iterator[None]:
    """Add up the time inside the engines and the Trainer while the context is open."""
    from cos_assets.generation import generate
    from cos_assets.training import loop

    buy, train = generate._buy, loop.train_on
    stages = {"sampling": "sampling", "validation": "validation", "evaluation": "evaluation"}

    def by_stage(*args: Any, **kwargs: Any) -> Any:
        return timed(stages[args[3].stage], buy)(*args, **kwargs)

    generate._buy, loop.train_on = by_stage, timed("training", train)
    try:
        yield
    finally:
        generate._buy, loop.train_on = buy, train


def main(study: str = "demo") -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"COS_HOME": home, "DAGSTER_HOME": "", "OMP_NUM_THREADS": "1"}
        instance.prepare()
        started = time.perf_counter()
        import peft  # noqa: F401
        import transformers.trainer  # noqa: F401

        imports = time.perf_counter() - started
        graph = Graph(instance.definitions())
        batches = graph.batches(graph.units(graph.with_ancestors(graph.keys(study))))
        with instance.open_instance() as dagster, model_work():
            started = time.perf_counter()
            summary = executor.run(graph, dagster, batches, Silent(), jobs=1)
            first = time.perf_counter() - started
            started = time.perf_counter()
            again = executor.run(graph, dagster, batches, Silent(), jobs=1)
            second = time.perf_counter() - started
        ledger = pl.read_parquet(f"{home}/ledger/**/*.parquet", hive_partitioning=False)
    work = sum(model_seconds.values())
    print(f"{study}: {summary.made} partitions in {first:.1f} s, one process; importing the libraries {imports:.1f} s")
    for name, value in sorted(model_seconds.items(), key=lambda item: -item[1]):
        print(f"  {name:<12} {value:6.1f} s  {value / first:4.0%}")
    print(f"  {'the rest':<12} {first - work:6.1f} s  {1 - work / first:4.0%}")
    tokens = ledger.group_by("stage").agg(pl.col("completion_tokens").sum()).sort("stage")
    for stage, count in tokens.iter_rows():
        print(f"  {stage:<12} {count:>9,} tokens, {count / model_seconds[stage]:>8,.0f} tokens/s")
    each = (first - work) / summary.made
    print(f"everything else / model work: {(first - work) / work:.2f}; {each:.2f} s a partition")
    print(
        f"second run: {again.made} made, {again.fresh} up to date, {second:.1f} s ({second / first:.1%} of the first)"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
