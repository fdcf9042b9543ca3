"""Buying from a server that fails in every way, and being killed meanwhile: every sample once, none bought twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import polars as pl
import pytest
from support import fault_server

from cos_assets.generation.ledger import prompt_hash

# 64 requests at once, waits a tenth as long as they are, parts a seventh as large.
BUYER = """
    import json, sys
    from pathlib import Path
    import polars as pl
    from cos_assets.generation import generate as door
    from cos_assets.generation.engines.openai import online as openai_online
    from cos_assets.generation.model import resolve
    from cos_assets.generation.types import Sampling

    order = json.loads(sys.argv[1])
    door.FLUSH_ROWS, door.FLUSH_SECONDS = 300, 0.5
    openai_online._BACKOFF = 0.05
    options = {"base_url": order["url"], "timeout": 5, "n": order["n"]}
    model = resolve("m", engine="openai", options=options)
    prompts = pl.DataFrame({"problem_id": f"p{i}", "prompt": f"question {i}"} for i in range(*order["problems"]))
    sampling = Sampling(temperature=0.7, max_tokens=50, seed=%d)
    root = Path(order["root"])
    bought = door.generate(model, prompts, order["samples"], sampling, door.Buyer(root, "s", "sampling"))
    assert bought.missing == 0
    bought.rows.select(pl.exclude("seconds")).write_parquet(order["table"])
"""


class Server:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.port = int(process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def ask(self, what: str) -> Any:
        with urlopen(f"http://127.0.0.1:{self.port}/{what}", timeout=60) as reply:
            return json.load(reply)


@contextmanager
def serving(how: str) -> Iterator[Server]:
    command = [sys.executable, fault_server.__file__, how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process)
        finally:
            process.kill()


def buyer(url: str, root: Path, problems: tuple[int, int], samples: int, n: bool = False) -> subprocess.Popen[bytes]:
    order = {"url": url, "root": str(root), "problems": problems, "samples": samples, "n": n}
    order["table"] = str(table(root, problems, samples))
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(BUYER % fault_server.SEED), json.dumps(order)])


def table(root: Path, problems: tuple[int, int], samples: int) -> Path:
    return root.parent / f"{root.name}-{problems[0]}-{problems[1]}-{samples}.parquet"


def booked(root: Path) -> pl.DataFrame:
    parts = sorted(root.rglob("part-*.parquet"))
    return pl.concat([pl.read_parquet(part, hive_partitioning=False) for part in parts]) if parts else pl.DataFrame()


def expected(problems: tuple[int, int], samples: int) -> dict[tuple[str, int], list[str]]:
    return {
        (f"p{p}", i): [fault_server.text(f"question {p}", i), fault_server.finish(f"question {p}", i)]
        for p in range(*problems)
        for i in range(samples)
    }


def check_table(path: Path, problems: tuple[int, int], samples: int) -> pl.DataFrame:
    """Every sample once, and what the server says under its key."""
    rows = pl.read_parquet(path)
    columns = rows.select("problem_id", "sample_index", "completion", "finish_reason")
    found = {(problem, index): what for problem, index, *what in columns.iter_rows()}
    assert rows.height == len(found) and found == expected(problems, samples)
    return rows


def asked(log: dict[str, Any], places: Iterable[int]) -> Counter[tuple[str, int]]:
    """How often each (prompt hash, sample index) stood in the requests at `places` of the server's log."""
    requests = (log["arrived"][place] for place in places)
    return Counter((prompt_hash(prompt), first + at) for prompt, first, n in requests for at in range(n))


def good(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("finish_reason") != "error")


def held(root: Path) -> set[tuple[str, int]]:
    """The good samples that the ledger holds: in its parts, and noted since the last one."""
    rows = good(booked(root))
    found = set(rows.select("prompt_hash", "sample_index").iter_rows()) if rows.height else set()
    for journal in root.rglob(".journal-*"):
        for line in journal.read_text().splitlines(keepends=True):
            if line.endswith("}\n"):  # the last one may have been cut
                row = json.loads(line)
                if row["finish_reason"] != "error":
                    found.add((row["prompt_hash"], row["sample_index"]))
    return found


@pytest.mark.parametrize(("problems", "n", "kills"), [(2000, True, 10), (200, False, 3)], ids=["n", "one-by-one"])
def test_kills_among_all_faults(tmp_path: Path, problems: int, n: bool, kills: int) -> None:
    """The second buyer is killed at random moments. What it had booked is never asked for again, and it ends with the
    table of the first, who was left alone. 2,000 requests with n = 8, and 1,600 without, in about 45 s."""
    order = (0, problems), 8
    tables = []
    with serving("faults") as server:
        assert buyer(server.url, tmp_path / "alone", *order, n).wait() == 0
        tables.append(check_table(table(tmp_path / "alone", *order), *order))
        log = server.ask("log")
        assert set(log["told"]) >= {"", *fault_server.FAULTS} - {"hang"} and log["told"]["429"]
        rows = booked(tmp_path / "alone")
        assert good(rows).height == len(held(tmp_path / "alone")) == problems * 8
        unusable = rows.filter(finish_reason="error")
        assert unusable.height == log["told"]["no choices"] * (8 if n else 1)
        assert set(unusable["error"]) == {"a reply without choices"}
        assert unusable["completion_tokens"].min() > 0, "what was paid for is booked with its tokens"  # type: ignore[operator]
        assert set(asked(log, log["delivered"]).values()) == {1}, "nothing was bought twice"
        each = pl.col("retries") + 1
        tries = rows.group_by("prompt_hash", "attempt").agg(each.max() if n else each.sum())
        assert tries["retries"].sum() == len(log["arrived"]), "every attempt is booked"

    root, requests = tmp_path / "killed", problems * (1 if n else 8)
    before: list[tuple[int, set[tuple[str, int]]]] = []
    with serving("faults") as server:
        for kill in sorted(random.Random(0).sample(range(1, requests), kills)):
            process = buyer(server.url, root, *order, n)
            while server.ask("count") < kill:
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
            before.append((server.ask("count"), held(root)))
        assert 0 < len(before[0][1]) < len(before[-1][1]) < problems * 8
        assert buyer(server.url, root, *order, n).wait() == 0
        tables.append(check_table(table(root, *order), *order))
        log = server.ask("log")
    assert tables[0].equals(tables[1])
    assert good(booked(root)).height == len(held(root)) == problems * 8, "and each is booked once"
    for count, had in before:
        assert not had & set(asked(log, range(count, len(log["arrived"])))), "what was booked is not asked for again"
    twice = asked(log, log["delivered"]).total() - problems * 8
    assert twice <= kills * 2 * 64 * (8 if n else 1), "only what was on its way, or had just come"


def test_two_buyers_at_once_buy_nothing_twice(tmp_path: Path) -> None:
    """One wants 4 samples and the other 8, of problems of which they share a third. About 9 s."""
    first, second = ((0, 150), 4), ((100, 250), 8)
    with serving("faults") as server:
        buyers = [buyer(server.url, tmp_path / "root", *order) for order in (first, second)]
        assert [process.wait() for process in buyers] == [0, 0]
        log = server.ask("log")
    for order in (first, second):
        check_table(table(tmp_path / "root", *order), *order)
    delivered = asked(log, log["delivered"])
    assert set(delivered.values()) == {1} and len(delivered) == 150 * 4 + 150 * 8 - 50 * 4
    assert good(booked(tmp_path / "root")).height == len(delivered)
