"""Merges of the ledger's parts: no row is lost or counted twice after kills and errors."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from test_ledger import MODEL, row

from cos_assets.generation import parts, spend
from cos_assets.generation.ledger import Ledger
from cos_assets.generation.types import Sampling

COUNT = 40


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A ledger of 40 parts of two rows; the second row of each is a retry after a failure."""
    monkeypatch.setattr(parts, "_MANY", 30)
    ledger = Ledger(tmp_path, MODEL, Sampling())
    for index in range(COUNT):
        rows = [row("a", index), row("b", index, 1, "error")] + [row("b", index, 2)] * (index % 2)
        ledger.append([each | {"study": "s", "stage": "sampling", "cost": 1.0} for each in rows])
    return ledger


def facts(ledger: Ledger) -> tuple:
    root = ledger.folder.parents[2]
    held = ledger.held(["a", "b"]).with_columns(pl.col("indices").list.sort()).sort("prompt_hash")
    failed = ledger.failed_attempts(["a", "b"])
    return ledger.read(["a", "b"]).rows(), held.rows(), failed, spend.spent(root, "s"), spend.by_stage(root, "s").rows()


def names(ledger: Ledger) -> set[str]:
    return {file.name for file in ledger.folder.glob(parts.PATTERN)}


def test_many_small_parts_are_merged_into_one_with_the_same_rows(many: Ledger) -> None:
    before = facts(many)
    many.clear_leftovers()
    (merged,) = names(many)
    assert merged.endswith("-merged.parquet")
    assert facts(many) == before
    assert pl.read_parquet(many.folder / merged).height == 100  # failed attempts cost money and are kept


def test_few_parts_are_not_merged(many: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_MANY", COUNT + 1)
    before = names(many)
    many.clear_leftovers()
    assert names(many) == before


def test_merged_parts_are_merged_again_until_they_are_large(many: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    each = max(file.stat().st_size for file in many.folder.glob(parts.PATTERN))
    monkeypatch.setattr(parts, "_LARGE", 10 * each)
    before = facts(many)
    many.clear_leftovers()
    first = names(many)
    assert 4 <= len(first) <= 6 and facts(many) == before
    monkeypatch.setattr(parts, "_MANY", 2)
    monkeypatch.setattr(parts, "_LARGE", 10**9)
    many.clear_leftovers()
    (last,) = names(many)
    assert last not in first and facts(many) == before


KILLED = """
import os, sys
from pathlib import Path
from cos_assets.generation import parts

folder, moment = Path(sys.argv[1]), int(sys.argv[2])
parts._MANY, remove, write = 30, parts._remove, parts.write
count = 0

def counted(action):
    def call(*arguments):
        global count
        if count == moment:
            os._exit(9)
        count += 1
        action(*arguments)
    return call

parts.write, parts._remove = counted(write), counted(remove)
parts.merge(folder)
"""


@pytest.mark.parametrize("moment", [0, 1, 2, COUNT])
def test_a_kill_at_any_moment_of_a_merge_changes_no_row(many: Ledger, moment: int) -> None:
    before = facts(many)
    done = subprocess.run([sys.executable, "-c", KILLED, str(many.folder), str(moment)])
    assert done.returncode == 9
    assert len(names(many)) == (COUNT if moment == 0 else COUNT + 2 - moment)
    assert facts(many) == before
    many.clear_leftovers()
    assert len(names(many)) == 1 and facts(many) == before


def test_a_merged_part_that_arrives_again_does_not_count_twice(many: Ledger) -> None:
    """Another machine, killed while it sent a part to an object store, sends it again."""
    before = facts(many)
    again = min(many.folder.glob(parts.PATTERN))
    content = again.read_bytes()
    many.clear_leftovers()
    again.write_bytes(content)
    assert facts(many) == before
    many.clear_leftovers()
    assert len(names(many)) == 1 and facts(many) == before


def test_parts_of_other_versions_are_not_merged(many: Ledger) -> None:
    first, second, *_ = sorted(many.folder.glob(parts.PATTERN))
    pl.read_parquet(first).with_columns(new_column=pl.lit("kept")).write_parquet(first)
    frame = pl.read_parquet(second)
    frame.write_parquet(second, metadata={"schema_version": "2"})
    before = facts(many)
    many.clear_leftovers()
    assert names(many) > {first.name, second.name} and len(names(many)) == 3
    assert facts(many) == before
    assert pl.read_parquet(first)["new_column"].to_list() == ["kept"] * len(pl.read_parquet(first))


def test_a_full_disk_leaves_the_parts_unchanged(many: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    before, files = facts(many), names(many)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # the kernel refuses larger files
    try:
        many.clear_leftovers()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(many) == files and facts(many) == before
    assert "40 parts could not be merged and remain unchanged" in caplog.text


def test_a_reader_sees_every_row_once_during_a_merge(many: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = facts(many)
    monkeypatch.setattr(parts, "_MANY", 2)
    done = threading.Event()

    def reads() -> list[bool]:
        seen = []
        while not done.is_set():
            seen.append(facts(many) == before)
        return seen

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(reads)
        for index in range(30):
            many.append([row("c", index) | {"study": "other"}])
            many.append([row("d", index) | {"study": "other"}])
            many.clear_leftovers()
            assert len(names(many)) == 1
            time.sleep(0.02)
        done.set()
        seen = reader.result()
    assert len(seen) > 3 and all(seen)


def test_a_merge_writes_nothing_after_the_lock_is_lost(many: Ledger) -> None:
    files = names(many)

    def lost() -> None:
        raise RuntimeError("the lock was taken over")

    with pytest.raises(RuntimeError, match="taken over"):
        parts.merge(many.folder, lost)
    assert names(many) == files
