"""Time to find the missing samples among ten million ledger rows, to read all rows, and to append rows.

    python benchmarks/ledger.py [prompts]          by default 10,000, of 1,000 samples each, in parts of 2,000 rows

One sample of every hundredth prompt is left out and must be found. Takes about a minute and 100 MB of disk.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from cos_assets.generation.generate import _missing
from cos_assets.generation.ledger import Ledger, prompt_hash
from cos_assets.generation.parts import SCHEMA
from cos_assets.generation.types import Model, Sampling

SAMPLES, PART = 1000, 2000


def fill(ledger: Ledger, hashes: list[str]) -> int:
    """Write parts in the form that the ledger writes; return the number of rows."""
    count = 0
    for number in range(0, len(hashes), PART // SAMPLES):
        some = hashes[number : number + PART // SAMPLES]
        rows = pl.DataFrame({"prompt_hash": some}).join(
            pl.DataFrame({"sample_index": range(SAMPLES)}, schema={"sample_index": pl.Int32}), how="cross"
        )
        whole = pl.col("prompt_hash").is_in([h for i, h in enumerate(some, number) if i % 100 == 0])
        rows = rows.filter(~whole | (pl.col("sample_index") != 7)).with_columns(
            attempt=1, finish_reason=pl.lit("stop"), completion=pl.format("solution {} of this problem", "sample_index")
        )
        rows = rows.with_columns(pl.lit(None).alias(name) for name in SCHEMA if name not in rows.columns)
        rows.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items()).write_parquet(
            ledger.folder / f"part-{number:020d}-0-0.parquet"
        )
        count += rows.height
    return count


def appended(ledger: Ledger) -> float:
    """Return the seconds to append one part of 2,000 rows."""
    row = dict.fromkeys(SCHEMA) | {"prompt_hash": "x", "attempt": 1, "finish_reason": "stop"}
    started = time.perf_counter()
    ledger.append([row | {"sample_index": i} for i in range(PART)])
    return time.perf_counter() - started


def main(count: int = 10_000) -> None:
    prompts = pl.DataFrame({"problem_id": [f"p{i}" for i in range(count)], "prompt": [f"{i}?" for i in range(count)]})
    hashes = [prompt_hash(prompt) for prompt in prompts["prompt"]]
    wanted = prompts.with_columns(prompt_hash=pl.Series(hashes), samples=pl.lit(SAMPLES, pl.Int64))
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder), Model("m", "m", "vllm"), Sampling())
        appended(ledger)  # the first one warms up
        empty = appended(ledger)
        rows = fill(ledger, hashes)
        started = time.perf_counter()
        requests = _missing(wanted, ledger.held(hashes))
        decide = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        assert [(r.problem_id, r.indices) for r in requests] == [(f"p{i}", (7,)) for i in range(0, count, 100)]
        full = appended(ledger)
        started = time.perf_counter()
        assert ledger.read(hashes).height == rows
        whole = time.perf_counter() - started
        started = time.perf_counter()
        ledger.clear_leftovers()
        merge = time.perf_counter() - started
        files = len(list(ledger.folder.glob("part-*")))
        started = time.perf_counter()
        assert _missing(wanted, ledger.held(hashes)) == requests
        merged = time.perf_counter() - started
    print(f"{rows:,} rows in {count * SAMPLES // PART:,} parts")
    print(f"deciding what is missing  {decide:6.2f} s, {peak:,.0f} MB at most so far")
    print(f"reading all of it         {whole:6.2f} s, {whole / decide:.1f}x of deciding")
    print(f"appending 2,000 rows      {full * 1000:6.1f} ms, {full / empty:.2f}x of appending to an empty ledger")
    print(f"merging its parts         {merge:6.2f} s, {files} left")
    print(f"deciding after that       {merged:6.2f} s, {merged / decide:.2f}x of before")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
