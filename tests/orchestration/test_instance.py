"""The committed Dagster instance: killed runs, pools, retries, the daemon's work, storage in PostgreSQL."""

from __future__ import annotations

import datetime
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import yaml
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.test_utils import freeze_time
from dagster._daemon.monitoring.concurrency import execute_concurrency_slots_iteration
from dagster._daemon.monitoring.run_monitoring import monitor_started_run
from support.daemons import daemons
from support.scheduled import NAME, Nights, attributes, definitions, names

from cos_assets.orchestration import graph, instance, pools, transient

ROOT = Path(__file__).parents[2]
LOG = logging.getLogger(__name__)
HELD = dg.AssetKey("held")
# Occupies the pool until it is killed or the file `go` exists.
HOLDER = """
    import sys, time
    from pathlib import Path
    import dagster as dg
    from cos_assets.orchestration import instance
    from cos_assets.orchestration import graph as runs

    me, folder = sys.argv[1], Path(sys.argv[2])

    @dg.asset(pool="gpu")
    def held():
        (folder / me).touch()
        while not (folder / "go").exists():
            time.sleep(0.05)

    with instance.open_instance() as dagster:
        runs.materialize(dg.Definitions(assets=[held], executor=dg.in_process_executor), dagster, [held.key], None)
"""


def wait(until: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := until()):
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    instance.prepare()
    return tmp_path


def test_a_killed_run_is_marked_as_failed_and_releases_its_gpu(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "gpus", lambda: 1)
    children: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", textwrap.dedent(HOLDER), name, str(home)]
        children.append(subprocess.Popen(command, cwd=ROOT))
        return children[-1]

    try:
        with instance.open_instance() as dagster:
            log = dagster.event_log_storage
            first = start("first")
            wait((home / "first").exists)
            (record,) = dagster.get_run_records()
            start("second")
            wait(lambda: log.get_concurrency_info("gpu").pending_step_count == 1)
            assert not (home / "second").exists()

            monitor_started_run(dagster, None, record, LOG)  # type: ignore[arg-type]
            assert dagster.get_run_by_id(record.dagster_run.run_id).status == dg.DagsterRunStatus.STARTED  # type: ignore[union-attr]
            first.kill()
            first.wait()
            monitor_started_run(dagster, None, record, LOG)  # type: ignore[arg-type]
            run = dagster.get_run_by_id(record.dagster_run.run_id)
            assert run is not None and run.status == dg.DagsterRunStatus.FAILURE
            (failure,) = dagster.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
            assert f"the run's process (pid {first.pid}) no longer exists" in failure.message

            assert log.get_concurrency_info("gpu").active_run_ids == {run.run_id}
            daemon: Any = type("Context", (), {"instance": dagster})
            with freeze_time(datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=2)):
                list(execute_concurrency_slots_iteration(daemon, LOG))
            wait((home / "second").exists)

            # The next `cos run` does both without a daemon.
            children[1].send_signal(signal.SIGKILL)
            children[1].wait()
            assert graph.close_orphans(dagster) == 1
            assert not log.get_concurrency_info("gpu").active_run_ids
            assert {run.status for run in dagster.get_runs()} == {dg.DagsterRunStatus.FAILURE}
    finally:
        for child in children:
            child.kill()


def test_the_pool_limit_is_the_number_of_gpus_unless_set_by_the_user(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limit(gpus: int) -> int | None:
        monkeypatch.setattr(pools, "gpus", lambda: gpus)
        with instance.open_instance() as dagster:
            return {pool.name: pool.limit for pool in dagster.event_log_storage.get_pool_limits()}.get("gpu")

    assert limit(0) is None
    assert limit(2) == 2
    with instance.open_instance() as dagster:
        dagster.event_log_storage.set_concurrency_slots("gpu", 5)
    assert limit(2) == 5


def test_assets_that_run_a_local_model_or_train_are_in_the_pool(tmp_path: Path) -> None:
    models = {
        "wc": {"model": "./wc", "engine": "transformers"},
        "se": {"model": "gpt", "engine": "openai", "params": 1e9},
    }
    more = {"targets": {"student": {"model": "./s"}}, "finetune": {"steps": 1}}

    def pooled(**given: Any) -> set[str]:
        found = definitions(attributes(tmp_path) | more | given).resolve_asset_graph()
        return {key.path[-1] for key in found.materializable_asset_keys if found.get(key).pools}

    trained = {"student_checkpoint", "student_eval", "base_eval"}
    assert pooled() == trained
    assert pooled(models=models) == {"samples", *trained}
    judge = {"model": "./judge", "engine": "vllm"}
    assert pooled(judge=judge) == {"judgements", *trained}
    assert pooled(judge={"model": "gpt", "engine": "openai"}) == trained


def test_only_network_faults_are_retried(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cos_assets.assets.samples as assets

    monkeypatch.setattr(transient, "WAITS", (0.01, 0.01, 0.01))
    found, asked = definitions(attributes(home)), []
    real = assets.generate

    def failing(*errors: BaseException) -> dict[dg.AssetKey, str]:
        asked.clear()
        left = list(errors)

        def generate(*arguments: Any, **named: Any) -> Any:
            asked.append(1)
            if left:
                raise left.pop(0)
            return real(*arguments, **named)

        monkeypatch.setattr(assets, "generate", generate)
        return graph.materialize(found, dagster, [dg.AssetKey([NAME, "samples"])], "one|wc").failed

    with instance.open_instance() as dagster:
        for name in ("problems", "budget_plan"):
            assert not graph.materialize(found, dagster, [dg.AssetKey([NAME, name])], None).failed
        lost = [ConnectionResetError(104, "Connection reset by peer") for _ in range(3)]
        assert failing(*lost) == {}
        assert len(asked) == 4
        (reason,) = failing(*lost, TimeoutError(110, "Connection timed out")).values()
        assert "Connection timed out" in reason
        assert len(asked) == 4
        (reason,) = failing(ValueError("a mistake")).values()
        assert reason == "ValueError: a mistake"
        assert len(asked) == 1
        failing(ConnectionError("an engine that has tried for long"))
        assert len(asked) == 1


def code_location(folder: Path) -> Path:
    """A file that defines the study of `scheduled`, for a code server."""
    file = folder / "location.py"
    file.write_text(
        f"import sys\nfrom pathlib import Path\nsys.path.insert(0, {str(ROOT / 'tests')!r})\n"
        "from support.scheduled import attributes, definitions\n"
        "defs = definitions(attributes(Path(__file__).parent))\n",
        encoding="utf-8",
    )
    return file


def request(nights: Nights, found: dg.Definitions, upto: str) -> PartitionBackfill:
    """The next night's request as entered by the sensor daemon, limited to the assets that make `upto`."""
    subset = nights.next(found)
    assert subset is not None
    keys = set(graph.Graph(found).select(NAME, f"+{upto}"))
    return PartitionBackfill.from_asset_graph_subset(
        "night", time.time(), nights.tags, nights.instance, subset.filter_asset_keys(keys), None, None, None
    )


def test_a_scheduled_backfill_that_fails_is_retried_and_ends(home: Path) -> None:
    """The daemons' own code runs it, in separate processes."""
    found = definitions(attributes(home))
    (home / "wc.jsonl").unlink()
    with instance.open_instance() as dagster, daemons(dagster, code_location(home)) as daemon:
        nights = Nights(dagster)
        assert daemon.backfill(request(nights, found, "samples")) == BulkActionStatus.COMPLETED_FAILED
        made = {run.tags.get("dagster/partition"): run for run in dagster.get_runs() if run.is_success}
        assert made.keys() == {None, "one|se"}
        second, first = (run for run in dagster.get_runs() if not run.is_success)
        assert {run.tags["dagster/partition"] for run in (first, second)} == {"one|wc"}
        assert second.parent_run_id == first.run_id
        assert second.tags["dagster/retry_number"] == "1"
        asked = names(nights.next(found))
        assert asked == {f"{name} one|se" for name in ("verdicts", "sample_metrics", "judgements", "sft_set")}


def binaries() -> Path:
    """The folder of PostgreSQL's server programs. Debian does not put them into the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    if program := shutil.which("initdb"):
        found.append(Path(program))
    if not found:
        if os.environ.get("CI"):
            pytest.fail("no PostgreSQL server: in CI these tests must run")
        pytest.skip("no PostgreSQL server here; install Debian's postgresql")
    return found[-1].parent


@contextmanager
def _server(password: str) -> Iterator[dict[str, str]]:
    """A new PostgreSQL server on loopback, and the environment that deploy/dagster.postgres.yaml needs."""
    where, folder = binaries(), Path(tempfile.mkdtemp(prefix="cos-postgres-"))
    demoted: dict[str, Any] = {}
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        demoted = {"user": "postgres", "group": "postgres", "extra_groups": []}
    port = _free_port()
    secret = folder / "password"
    secret.write_text(password)
    secret.chmod(0o644)

    def call(program: str, *arguments: str) -> None:
        subprocess.run([where / program, *arguments], check=True, cwd=folder, stdout=subprocess.DEVNULL, **demoted)

    data, locale = str(folder / "data"), ("--locale=C", "-E", "UTF8")
    try:
        call("initdb", "-D", data, "-U", "cos", "-A", "scram-sha-256", "--pwfile", str(secret), "--no-sync", *locale)
        options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
        call("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield {
            "COS_POSTGRES_HOST": "127.0.0.1",
            "COS_POSTGRES_PORT": str(port),
            "COS_POSTGRES_DB": "postgres",
            "COS_POSTGRES_USER": "cos",
            "COS_POSTGRES_PASSWORD": password,
        }
    finally:
        subprocess.run([where / "pg_ctl", "-D", data, "-m", "immediate", "stop"], cwd=folder, **demoted)
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_the_postgres_configuration_runs_a_backfill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The committed file with a real server: a backfill through the queue, and the limit of the pool."""
    file = ROOT / "deploy" / "dagster.postgres.yaml"
    with _server("quite secret") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        folder = tmp_path / "dagster"
        folder.mkdir()
        shutil.copy(file, folder / "dagster.yaml")
        monkeypatch.setenv("DAGSTER_HOME", str(folder))
        monkeypatch.setenv("COS_HOME", str(tmp_path / "home"))
        found = definitions(attributes(tmp_path))
        with instance.open_instance() as dagster, daemons(dagster, code_location(tmp_path)) as daemon:
            assert type(dagster.event_log_storage).__name__ == "PostgresEventLogStorage"
            assert type(dagster.run_storage).__name__ == "PostgresRunStorage"
            assert dagster.get_concurrency_config().run_queue_config.max_concurrent_runs == 8  # type: ignore[union-attr]
            nights = Nights(dagster)
            assert daemon.backfill(request(nights, found, "samples")) == BulkActionStatus.COMPLETED_SUCCESS
            enqueued = dg.DagsterEventType.RUN_ENQUEUED
            assert all(dagster.all_logs(run.run_id, of_type=enqueued) for run in dagster.get_runs())
            assert "samples one|wc" not in names(nights.next(found))
            log = dagster.event_log_storage
            log.set_concurrency_slots("gpu", 1)
            assert log.claim_concurrency_slot("gpu", "a", "step").is_claimed
            assert not log.claim_concurrency_slot("gpu", "b", "step").is_claimed
        rows = [pl.read_parquet(part) for part in (tmp_path / "home" / "ledger").rglob("part-*.parquet")]
        assert sum(frame.height for frame in rows) == 12
        written = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert not [path for path in written if b"quite secret" in path.read_bytes()]


def test_both_instance_files_for_one_machine_have_equal_settings() -> None:
    """dagster.yaml is read if DAGSTER_HOME is not set; it also contains the path of the data."""
    packaged, beside = (
        yaml.safe_load(file.read_text(encoding="utf-8")) for file in (instance.CONFIG, ROOT / "dagster.yaml")
    )
    assert {key: beside[key] for key in packaged} == packaged
    assert beside.keys() - packaged.keys() == {"storage", "compute_logs"}
