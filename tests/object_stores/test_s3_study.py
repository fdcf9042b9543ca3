"""A complete study, from problems to the report, with all of its files on an object store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support import Silent
from support.s3_server import Server

from cos_assets.orchestration import executor, instance
from cos_assets.orchestration.graph import Graph
from cos_assets.storage import catalog, paths, tables
from cos_assets.storage.paths import ObjectPath, Place
from cos_assets.training import checkpoints

ROOT = Path(__file__).parents[2]
TINY: dict[str, Any] = {"name": "tiny", "roles": ["student", "wc", "se"]}
STUDY: dict[str, Any] = {
    "name": "s",
    "task": {"name": "arithmetic", "train": 12, "validation": 6, "test": 12},
    "models": {name: {"checkpoint": {"study": "tiny", "target": name}} for name in ("wc", "se")},
    "budgets": {"low": {"se": 2}},
    "match": "flops",
    "sampling": {"temperature": 0.7, "top_k": 3, "max_tokens": 56},
    "sources": {"gt": {"reference_solutions": True}},
    "targets": {"student": {"checkpoint": {"study": "tiny", "target": "student"}}, "wc": {}},
    "finetune": {"method": "full", "steps": {"low": 2}, "batch_size": 4, "learning_rate": 5.0e-4},
}


def make(monkeypatch: pytest.MonkeyPatch) -> executor.Summary:
    """Bring the study in $COS_HOME up to date like `cos run`."""
    import dagster as dg

    from cos_assets import study
    from cos_assets.assets import build_study
    from cos_assets.assets.tiny import TinyModelsSpec, build_tiny_models
    from cos_assets.orchestration.io_manager import ParquetIOManager

    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    instance.prepare()
    monkeypatch.setenv("DAGSTER_HOME", os.environ["DAGSTER_HOME"])  # so that it is undone
    assets = [*build_tiny_models(TinyModelsSpec(**TINY)), *build_study(study.parse(STUDY))]
    definitions = dg.Definitions(
        assets=assets, resources={"io_manager": ParquetIOManager()}, executor=dg.in_process_executor
    )
    graph = Graph(definitions)
    with instance.open_instance() as opened:
        return executor.run(graph, opened, graph.batches(graph.units(graph.keys())), Silent(), jobs=1)


def hashes(root: Place) -> dict[str, str]:
    """The content hash of every table, by path."""
    if isinstance(root, Path):
        names = [str(file.relative_to(root)) for file in root.glob("**/data.parquet")]
    else:
        names = [name for name in root.objects() if name.endswith("/data.parquet")]
    return {
        name: tables.content_hash(pl.read_parquet(paths.readable(root / name), hive_partitioning=False))
        for name in sorted(names)
    }


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    import torch

    threads = torch.get_num_threads()
    home = tmp_path_factory.mktemp("on disk") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COS_HOME", str(home))
        assert not make(patch).failed
    yield home
    torch.set_num_threads(threads)


def cos(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cos_assets.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True)


def test_a_study_on_an_object_store_has_the_tables_of_one_on_disk(
    s3: ObjectPath, server: Server, on_disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = make(monkeypatch)
    assert not made.failed
    wanted = hashes(on_disk)
    assert hashes(s3) == wanted
    assert len(wanted) == made.made
    report = "s/report/report.html"
    assert (s3 / report).read_bytes() == (on_disk / report).read_bytes()

    # A second run does nothing.
    server.requests.clear()
    again = make(monkeypatch)
    assert (again.made, again.fresh) == (0, made.made)
    assert [request for request in server.requests if not request.startswith("GET")] == [
        "PUT /bucket/some/prefix/.cos"  # refused because it exists: see `paths.check`
    ]

    # SQL and the answer, on the command line.
    question = "SELECT count(*) AS n, count(DISTINCT fingerprint) AS models FROM ledger WHERE stage = 'sampling'"
    told = cos("sql", "--format", "csv", question)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == ["n,models", "96,2"]  # 12 problems, of the two models 6 and 2 samples each
    assert told.stderr == ""
    views = "SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY view_name"
    catalog.build(on_disk)
    assert catalog.query(s3, views).equals(catalog.query(on_disk, views))
    counted = "SELECT asset, count(*) AS n FROM lineage GROUP BY asset ORDER BY asset"
    assert catalog.query(s3, counted).equals(catalog.query(on_disk, counted))
    told = cos("report", "s")
    assert told.returncode == 0, told.stderr
    page = Path(told.stdout.rpartition("The report with all figures: ")[2].strip())
    assert page.is_relative_to(tmp_path / "local")
    assert page.read_bytes() == (on_disk / report).read_bytes()

    # Another machine with an empty cache buys and trains nothing, and makes the same tables.
    before = s3.objects()
    monkeypatch.setenv("COS_LOCAL", str(tmp_path / "another machine"))
    server.requests.clear()
    other = make(monkeypatch)
    assert (other.made, other.failed) == (made.made, {})
    assert hashes(s3) == wanted
    assert s3.objects().keys() == before.keys()
    written = [request for request in server.requests if request.startswith("PUT")]
    assert not [request for request in written if "/part-" in request or "/model/" in request]
    assert [request for request in written if "/samples/" in request]

    # A query on the view of a removed table reports the table.
    assert catalog.gone(s3, "SELECT * FROM sample_metrics") == []
    (s3 / "s/sample_metrics/budget=low/model=wc/data.parquet").unlink()
    assert catalog.gone(s3, "SELECT * FROM sample_metrics") == ["s/sample_metrics low|wc"]
    assert catalog.gone(s3, "SELECT * FROM samples") == []

    # A model without its list of files is not taken as complete.
    row = tables.scan(s3, "s", "wc_checkpoint", [{"budget": "low", "source": "gt"}]).collect()
    path, digest = row["path"].item(), row["hash"].item()
    assert (checkpoints.fetched(s3, path, digest) / "config.json").is_file()
    with paths.open_store(s3) as bucket:
        bucket.delete((s3 / path.replace("/model", "/FILES.json")).key)
    with pytest.raises(FileNotFoundError, match=r"this model is missing; `cos run STUDY --again` makes it again"):
        checkpoints.fetched(s3, path, digest)


def test_a_training_killed_during_its_upload_is_completed_by_the_next_run(s3: ObjectPath, server: Server) -> None:
    """The training is killed during the upload: the model is kept locally, and the next run uploads it."""
    code = """if True:
        import os, signal, sys
        import polars as pl
        import torch
        from cos_assets.storage import artifacts
        from cos_assets.storage import paths
        from cos_assets.storage import tables
        from cos_assets import tiny
        from cos_assets.generation.generate import Buyer
        from cos_assets.generation.model import resolve
        from cos_assets.training import checkpoints
        from cos_assets.training import loop
        from cos_assets.training.job import Base, Job
        from cos_assets.training.settings import Finetune

        torch.set_num_threads(1)
        when = sys.argv[1]
        if when == "uploading":
            put = paths.ObjectPath.put
            def dies(self, content):
                if self.name == artifacts.FILES:
                    os.kill(os.getpid(), signal.SIGKILL)
                put(self, content)
            paths.ObjectPath.put = dies
        if when == "done":
            def trains(*args, **kwargs):
                sys.exit("trained again")
            loop.train_on = trains
        base = resolve(str(tiny.shipped("wc")), engine="transformers")
        rows = pl.DataFrame({"prompt": ["a b"] * 8, "completion": ["c d"] * 8})
        settings = Finetune(steps=2, batch_size=4, learning_rate=1e-3)
        job = Job(rows, Base(base.model_id), settings, 2, 0)
        frame, _ = checkpoints.checkpoint(Buyer(tables.home(), "s", "training"), "wc", base, job, None, "")
        print(checkpoints.fetched(tables.home(), frame["path"].item(), frame["hash"].item()))
    """

    def train(when: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, when], capture_output=True, text=True)

    assert train("uploading").returncode == -9
    uploaded = [name for name in s3.objects() if name.endswith("model/config.json")]
    assert len(uploaded) == 1
    assert not [name for name in s3.objects() if name.endswith("FILES.json")]
    done = train("done")
    assert done.returncode == 0, done.stderr
    model = Path(done.stdout.strip())
    assert (model / "config.json").is_file()
    assert f"{Path(uploaded[0]).parent.parent}/FILES.json" in s3.objects()
