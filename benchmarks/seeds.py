"""The demo with other seeds: other problems, other tiny models trained from scratch, other samples, other finetuning.

    python benchmarks/seeds.py 0 1 2

This shows the variation of the result between seeds, which the interval of a single study does not include. It prints
one line per seed and budget, WC against SE. Seed 0 differs from the shipped demo only in that its models are trained
here. Takes about six minutes per seed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import dagster as dg
import polars as pl
import yaml
from demo import Silent

from cos_assets import study
from cos_assets.assets import build_study
from cos_assets.assets.tiny import TinyModelsSpec, build_tiny_models
from cos_assets.orchestration import executor, instance
from cos_assets.orchestration.graph import Graph
from cos_assets.orchestration.io_manager import ParquetIOManager
from cos_assets.storage import tables

DEMO = Path(__file__).parents[1] / "dagster_project" / "defs" / "demo" / "defs.yaml"


def definitions(seed: int) -> dg.Definitions:
    """Return the demo and its models with `seed` as the seed of every part."""
    attributes = yaml.safe_load(DEMO.read_text(encoding="utf-8"))["attributes"]
    attributes |= {"seed": seed, "task": attributes["task"] | {"seed": seed}}
    models = TinyModelsSpec(name="tiny", from_scratch=True, seed=seed)
    assets = [*build_tiny_models(models), *build_study(study.parse(attributes, str(DEMO)))]
    return dg.Definitions(assets=assets, resources={"io_manager": ParquetIOManager()}, executor=dg.in_process_executor)


def run(seed: int) -> pl.DataFrame:
    """Return the report's table for one seed, created in an empty home folder."""
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"COS_HOME": home, "DAGSTER_HOME": "", "OMP_NUM_THREADS": "1"}
        root = instance.prepare()
        graph = Graph(definitions(seed))
        with instance.open_instance() as dagster:
            summary = executor.run(graph, dagster, graph.batches(graph.units(graph.keys())), Silent(), jobs=1)
        if summary.failed:
            sys.exit(f"seed {seed}: {summary.failed}")
        return tables.scan(root, "demo", "report").collect()


def main(seeds: list[int]) -> None:
    print("seed  budget  coverage            distinct            FPR                 accuracy wc − se        verdict")
    for seed in seeds:
        table = run(seed)
        for budget in table["budget"].unique(maintain_order=True):
            rows = {(r["metric"], r["target"]): r for r in table.filter(pl.col("budget") == budget).to_dicts()}
            cells = [
                f"{rows[metric, None]['weak_value']:.3f} / {rows[metric, None]['strong_value']:.3f}"
                for metric in ("coverage", "diversity", "false_positive_rate")
            ]
            overall = rows["accuracy", "all"]
            gain = "{difference:+.3f} [{low:+.3f}, {high:+.3f}]".format(**overall)
            parts = [f"{budget:<6}", *(f"{cell:<18}" for cell in cells), gain, overall["better"]]
            print(f"{seed:<4}", *parts, sep="  ", flush=True)
            for target in table["target"].drop_nulls().unique(maintain_order=True):
                row = rows["accuracy", target]
                print(f"      {target}: {row['weak_value']:.3f} / {row['strong_value']:.3f}", flush=True)


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or [0, 1, 2])
