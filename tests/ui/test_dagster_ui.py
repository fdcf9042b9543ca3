"""The Dagster UI in a real browser on the smoke study: graph, partition, backfill, figure, failed check."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from support.browser import Page, browser

from cos_assets.storage import tables

ROOT = Path(__file__).parents[2]
STUDY = "demo_smoke"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke study up to its samples."""
    home = tmp_path_factory.mktemp("ui")
    command = [sys.executable, "-m", "cos_assets.cli", "run", STUDY, "--select", "+samples", "--jobs", "2"]
    done = subprocess.run(command, cwd=ROOT, env=environment(home), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COS_", "DAGSTER_"))}
    return kept | {"COS_HOME": str(home)}


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    """The URL of the UI of `cos dev`."""
    port = free_port()
    command = [sys.executable, "-m", "cos_assets.cli", "dev", "-p", str(port)]
    with (home / "dev.log").open("w") as log:
        # In a new process group, which ends with the test; it must not inherit an ignored interrupt.
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(home),
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(f"{address}/server_info") or process.poll() is not None, 120)
        assert process.poll() is None, (home / "dev.log").read_text()
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def until(true: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def page(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        page.size(1280, 1000)
        yield page


def table(home: Path, asset: str, budget: str, model: str) -> Path:
    return tables.folder(home, STUDY, asset, {"budget": budget, "model": model}) / tables.DATA


def test_the_graph_shows_the_study(page: Page, url: str) -> None:
    page.open(f"{url}/locations/cos/asset-groups/{STUDY}/lineage")
    for asset in ("problems", "budget_plan", "samples", "verdicts", "sft_set", "student_checkpoint", "report"):
        page.says(asset, 60)


def test_a_partition_is_materialized_and_its_figure_is_shown(page: Page, url: str, home: Path) -> None:
    page.open(f"{url}/assets/{STUDY}/verdicts?view=partitions&partition=low%7Cwc")
    page.click("Materialize…")
    page.says("1 partition")
    page.click("Launch 1 run")
    until(table(home, "verdicts", "low", "wc").is_file, 120)
    page.open(f"{url}/assets/{STUDY}/verdicts?view=partitions&partition=low%7Cwc")
    page.says("Materialized (1)", 60)
    page.says("dagster/row_count")
    page.says("[Show Markdown]")
    page.click("[Show Markdown]", "*")
    page.until("[...document.querySelectorAll('img')].some(image => image.src.startsWith('data:image/svg')"
               " && image.complete && image.naturalWidth > 100)")  # fmt: skip


def test_a_backfill_completes(page: Page, url: str, home: Path) -> None:
    page.open(f"{url}/assets/{STUDY}/verdicts?view=partitions")
    page.click("Materialize…")
    page.says("Partition selection")
    page.until("[...document.querySelectorAll('button')].filter(b => b.innerText == 'All').length == 2")
    page.run("[...document.querySelectorAll('button')].filter(b => b.innerText == 'All').forEach(b => b.click())")
    page.says("4 partitions")
    page.click("Launch backfill")
    made = [table(home, "verdicts", budget, model) for budget in ("low", "high") for model in ("wc", "se")]
    until(lambda: all(file.is_file() for file in made), 180)
    page.open(f"{url}/assets/{STUDY}/verdicts?view=partitions")
    page.says("Materialized (4)", 60)
    page.open(f"{url}/runs/?view=backfills")
    page.says("Success", 120)


def test_a_failed_check_is_shown(page: Page, url: str, home: Path) -> None:
    # A table is edited by hand: downstream assets fail before they read it.
    file = table(home, "verdicts", "low", "se")
    frame = pl.read_parquet(file, hive_partitioning=False)
    frame.with_columns(correct=~pl.col("correct")).write_parquet(file)
    page.open(f"{url}/assets/{STUDY}/sample_metrics?view=partitions&partition=low%7Cse")
    page.click("Materialize…")
    page.click("Launch 1 run")
    until(lambda: "FAILURE" in statuses(url), 120)
    page.open(f"{url}/assets/{STUDY}/sample_metrics?view=checks")
    page.says("inputs_are_sound")
    page.says("Failed")
    assert not table(home, "sample_metrics", "low", "se").is_file()


def statuses(url: str) -> list[str]:
    """The statuses of all runs, by Dagster's API."""
    query = json.dumps({"query": "{runsOrError {... on Runs {results {status}}}}"}).encode()
    asked = urllib.request.Request(f"{url}/graphql", query, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked) as found:
        return [run["status"] for run in json.load(found)["data"]["runsOrError"]["results"]]
