"""Purchases with a ledger on an object store: killed, concurrent, stopped, and with an unavailable tables."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.s3_server import Server

from cos_assets import generation
from cos_assets.generation import spend
from cos_assets.generation.ledger import Ledger
from cos_assets.generation.parts import SCHEMA
from cos_assets.generation.types import Model, Sampling
from cos_assets.storage import catalog
from cos_assets.storage.paths import ObjectPath, local

PROMPTS, SAMPLES = 30, 10
# Each paid completion is a line in the file $BILL. A batch has the samples of one prompt, a part has two batches.
BUYER = f"""
    import os, sys, time
    import polars as pl
    from cos_assets.storage import locks
    from cos_assets.storage import tables
    from cos_assets.generation import generate as purchase
    from cos_assets.generation.types import Completion
    from cos_assets.generation.types import Model
    from cos_assets.generation.types import Sampling

    class Engine:
        def stream(self, requests, sampling):
            for r in requests:
                time.sleep(float(os.environ.get("PAUSE", "0")))
                with open(os.environ["BILL"], "a") as bill:
                    bill.writelines(f"{{r.prompt}} {{i}}\\n" for i in r.indices)
                yield [
                    Completion(r.problem_id, r.prompt, i, f"{{r.prompt}}/{{i}}", "stop", 3, 4, 0, 0.1)
                    for i in r.indices
                ]

        def close(self):
            pass

    purchase.open_engine = lambda model: Engine()
    purchase.FLUSH_ROWS = 20
    locks.POLL, locks.BEAT, locks.STALE = 0.02, 0.2, float(os.environ.get("STALE", "1e9"))
    prompts = pl.DataFrame({{"problem_id": [f"p{{i}}" for i in range({PROMPTS})]}}).with_columns(prompt="problem_id")
    model, buyer = Model("m", "m", "transformers", params=1.0), purchase.Buyer(tables.home(), "s", "sampling")
    try:
        bought = purchase.generate(model, prompts, {SAMPLES}, Sampling(), buyer)
    except (OSError, RuntimeError) as error:
        sys.exit(str(error))
    print(bought.new, tables.content_hash(bought.rows))
"""


def start(bill: Path, machine: str = "", **environment: str) -> subprocess.Popen[str]:
    given = os.environ | {"BILL": str(bill)} | environment
    if machine:
        given["COS_LOCAL"] = str(bill.parent / machine)
    command = [sys.executable, "-c", textwrap.dedent(BUYER)]
    return subprocess.Popen(command, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    new, digest = output.split()
    return int(new), digest


@pytest.fixture(scope="session")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The table of an uninterrupted purchase with a ledger on disk."""
    folder = tmp_path_factory.mktemp("on disk")
    new, digest = finish(start(folder / "bill", COS_HOME=str(folder / "home")))
    assert new == PROMPTS * SAMPLES
    return digest


def parts(s3: ObjectPath) -> list[str]:
    return [name for name in (s3 / "ledger").objects() if name.endswith(".parquet")]


def rows(s3: ObjectPath) -> pl.DataFrame:
    return pl.concat([pl.read_parquet((s3 / "ledger" / name).read_bytes()) for name in parts(s3)])


def paid(bill: Path) -> int:
    lines = bill.read_text().splitlines()
    assert len(set(lines)) == PROMPTS * SAMPLES
    return len(lines)


def wait_for(moment: Callable[[], bool], *processes: subprocess.Popen[str]) -> None:
    while not moment():
        assert all(process.poll() is None for process in processes), "it ended before the moment came"
        time.sleep(0.01)


def test_sampling_after_two_kills_keeps_the_written_parts(s3: ObjectPath, tmp_path: Path, wanted: str) -> None:
    bill = tmp_path / "bill"
    for written in (2, 5):
        process = start(bill, PAUSE="0.1")
        wait_for(lambda written=written: len(parts(s3)) >= written, process)  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.communicate()
    known = rows(s3).height + sum(pl.read_parquet(file).height for file in local(s3).rglob(".unsent-*.parquet"))
    written = {file.name.partition("part-")[2] for file in local(s3).rglob("*.parquet")}
    for journal in local(s3).rglob(".journal-*"):  # usually of a part that was not yet written
        if journal.stem.partition("part-")[2] not in written:
            known += journal.read_text().count("}\n")
    assert 90 <= known < PROMPTS * SAMPLES  # five parts, of which one may be a journal with one batch
    assert finish(start(bill)) == (PROMPTS * SAMPLES - known, wanted)
    found = rows(s3)
    assert found.height == found.select("prompt_hash", "sample_index").n_unique() == PROMPTS * SAMPLES
    assert finish(start(bill, machine="another")) == (0, wanted)


def test_two_machines_at_once_buy_nothing_twice(s3: ObjectPath, tmp_path: Path, wanted: str) -> None:
    bill = tmp_path / "bill"
    both = [start(bill, machine, PAUSE="0.02") for machine in ("one", "two")]
    done = [finish(process) for process in both]
    assert sorted(done) == [(0, wanted), (PROMPTS * SAMPLES, wanted)]
    assert paid(bill) == PROMPTS * SAMPLES


def test_a_replaced_holder_stops_buying_and_loses_nothing(s3: ObjectPath, tmp_path: Path, wanted: str) -> None:
    bill = tmp_path / "bill"
    stopped = start(bill, "one", PAUSE="0.1")
    wait_for(lambda: len(parts(s3)) >= 2, stopped)
    stopped.send_signal(signal.SIGSTOP)
    before = len(bill.read_text().splitlines())
    other = start(bill, "two", STALE="1.5")
    new, digest = finish(other)
    assert digest == wanted
    stopped.send_signal(signal.SIGCONT)
    _, told = stopped.communicate()
    assert stopped.returncode == 1
    assert "another process took over this lock" in told
    # Each paid for its requests; the stopped one for at most one part of two batches more.
    assert paid(bill) <= before + new + 2 * SAMPLES
    assert rows(s3).height == paid(bill)  # all of it is booked
    assert finish(start(bill, "three")) == (0, wanted)


def test_rows_bought_while_the_store_is_unavailable_are_sent_later(
    s3: ObjectPath, server: Server, tmp_path: Path, wanted: str
) -> None:
    bill = tmp_path / "bill"
    sent: list[str] = []

    def away(request: str) -> str | None:
        sent.extend([request] if request.startswith("PUT") and "/part-" in request else [])
        return "403 Forbidden" if len(sent) > 3 else None

    server.refuse = away
    process = start(bill)
    _, told = process.communicate()
    assert process.returncode == 1
    assert told.startswith("COS_HOME: s3://bucket/some/prefix/ledger/")
    assert told.count("\n") == 1
    server.refuse = lambda request: None
    assert len(parts(s3)) == 3
    new, digest = finish(start(bill))
    assert digest == wanted
    assert new < PROMPTS * SAMPLES - 60  # less than the three sent parts, because the others were kept locally
    assert paid(bill) == PROMPTS * SAMPLES == rows(s3).height


def row(index: int, stage: str = "sampling") -> dict[str, Any]:
    facts = {"prompt_hash": "a", "sample_index": index, "attempt": 1, "finish_reason": "stop", "flops": 2.0}
    return dict.fromkeys(SCHEMA) | facts | {"study": "s", "stage": stage}


def test_a_part_is_read_once_and_parts_of_other_machines_are_read(
    s3: ObjectPath, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ledger = Ledger(s3, Model("m", "m", "none"), Sampling())
    assert ledger.read().is_empty()
    ledger.append([row(0)])
    ledger.append([row(1)])
    here = os.environ["COS_LOCAL"]
    monkeypatch.setenv("COS_LOCAL", str(tmp_path / "another machine"))
    assert Ledger(s3, Model("m", "m", "none"), Sampling()).read()["sample_index"].to_list() == [0, 1]
    ledger.append([row(2)])
    monkeypatch.setenv("COS_LOCAL", here)
    server.requests.clear()
    assert sorted(ledger.held(["a"])["indices"].item()) == [0, 1, 2]
    assert ledger.read(["a"])["sample_index"].to_list() == [0, 1, 2]
    assert len([request for request in server.requests if "/part-" in request]) == 1  # the part of the other machine
    assert spend.spent(s3, "s") == spend.Spend(6.0, 0.0)


def test_a_truncated_part_is_set_aside_and_blocks_no_study(
    s3: ObjectPath, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ledger = Ledger(s3, Model("m", "m", "none"), Sampling())
    for index in range(3):
        ledger.append([row(index)])
    name = next(name for name in s3.objects() if "/part-" in name)
    (s3 / name).put((s3 / name).read_bytes()[:300])
    monkeypatch.setenv("COS_LOCAL", str(tmp_path / "another machine"))
    other = Ledger(s3, Model("m", "m", "none"), Sampling())
    assert sorted(other.read()["sample_index"]) == [1, 2]
    assert spend.spent(s3, "s") == spend.Spend(4.0, 0.0)
    folder, _, part = name.rpartition("/")
    assert name not in s3.objects() and f"{folder}/.unusable-{part}" in s3.objects()


def test_parts_that_one_machine_merged_are_read_once_by_another(
    s3: ObjectPath, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(generation.parts, "_MANY", 5)
    ledger = Ledger(s3, Model("m", "m", "none"), Sampling())
    for index in range(6):
        ledger.append([row(index)])
    here = os.environ["COS_LOCAL"]
    monkeypatch.setenv("COS_LOCAL", str(tmp_path / "another machine"))
    assert ledger.read().height == 6  # it now has copies of all parts
    monkeypatch.setenv("COS_LOCAL", here)
    first = next(name for name in parts(s3))
    content = (s3 / "ledger" / first).read_bytes()
    with ledger.lock:
        ledger.clear_leftovers()
    (merged,) = parts(s3)
    assert merged.endswith("-merged.parquet")
    for machine in (here, str(tmp_path / "another machine")):
        monkeypatch.setenv("COS_LOCAL", machine)
        assert ledger.read()["sample_index"].to_list() == [0, 1, 2, 3, 4, 5]
        assert spend.spent(s3, "s") == spend.Spend(12.0, 0.0)
        (s3 / "ledger" / first).put(content)  # sent again by a machine that did not know that it was sent
        assert spend.spent(s3, "s") == spend.Spend(12.0, 0.0)
    assert catalog.query(s3, "SELECT count(*) AS n FROM ledger")["n"].item() == 7  # SQL reads both until then
    with ledger.lock:
        ledger.clear_leftovers()
    assert parts(s3) == [merged]
    assert catalog.query(s3, "SELECT count(*) AS n FROM ledger")["n"].item() == 6


def test_a_ledger_that_was_removed_from_the_store_is_not_read_from_the_copy(s3: ObjectPath, server: Server) -> None:
    ledger = Ledger(s3, Model("m", "m", "none"), Sampling())
    ledger.append([row(0)])
    from cos_assets.storage.paths import open_store

    for name in parts(s3):
        with open_store(s3 / "ledger") as store:
            store.delete((s3 / "ledger" / name).key)
    assert ledger.read().is_empty()
