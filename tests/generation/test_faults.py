"""Purchases from a server with every kind of fault, with kills in between: every sample once, none bought twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.openai_server import CUT, HTML, Fault, Received, Server, completion, draw, error, usage

from cos_assets.generation.completions import sample_seed
from cos_assets.generation.ledger import prompt_hash

# 64 concurrent requests; waits have a tenth and parts a seventh of their usual size.
BUYER = """
    import json, sys
    from pathlib import Path
    import polars as pl
    from cos_assets.generation import generate as purchase
    from cos_assets.generation.engines.openai import online as openai_online
    from cos_assets.generation.model import resolve
    from cos_assets.generation.types import Sampling

    order = json.loads(sys.argv[1])
    purchase.FLUSH_ROWS, purchase.FLUSH_SECONDS = 300, 0.5
    openai_online._BACKOFF = 0.05
    options = {"base_url": order["url"], "timeout": 5, "n": order["n"]}
    model = resolve("m", engine="openai", options=options)
    prompts = pl.DataFrame({"problem_id": f"p{i}", "prompt": f"question {i}"} for i in range(*order["problems"]))
    sampling = Sampling(temperature=0.7, max_tokens=50, seed=%d)
    root = Path(order["root"])
    bought = purchase.generate(model, prompts, order["samples"], sampling, purchase.Buyer(root, "s", "sampling"))
    assert bought.missing == 0
    bought.rows.select(pl.exclude("seconds")).write_parquet(order["table"])
"""


SEED = 3  # the buyer's `sampling.seed`
HANG = 30.0  # longer than a buyer waits
BURST, EVERY = 30, 900  # the last 30 of every 900 requests get a 429
FAULTS = {  # in percent of the first four tries of a request
    "500": 3.0,
    "503": 1.0,
    "hang": 0.2,
    "cut": 2.0,
    "half": 1.5,
    "no json": 1.5,
    "html": 0.5,
    "no choices": 1.5,
    "twice": 4.0,
    "reordered": 4.0,
}


@cache
def indices(prompt: str) -> dict[int, int]:
    """The sample index of each seed."""
    return {sample_seed(SEED, prompt, index) % 2**31: index for index in range(16)}


def text(prompt: str, index: int) -> str:
    words = 3 + int(20 * draw("words", prompt, index))
    return " ".join(f"w{int(1e6 * draw(word, prompt, index))}" for word in range(words))


def finish(prompt: str, index: int) -> str:
    return "length" if draw("finish", prompt, index) < 0.1 else "stop"


class Faults:
    """Replies of a server with every kind of fault. An answer depends on the prompt and the sample index; a fault
    depends on the prompt, the seed and the number of tries.
    """

    def __init__(self) -> None:
        self.tries: Counter[tuple[str, int]] = Counter()
        self.given: list[str] = []  # the fault of each request; empty for none

    def __call__(self, request: Received) -> Any:
        fault = self.fault(request.prompt, request.body["seed"])
        self.given.append(fault)
        first = indices(request.prompt)[request.body["seed"]]
        samples = range(first, first + request.body.get("n", 1))
        texts = [text(request.prompt, index) for index in samples]
        counts = usage(completion=sum(len(each.split()) for each in texts))
        reply = completion(request, *texts, counts=counts)
        choices = reply["choices"]
        for choice, index in zip(choices, samples, strict=True):
            choice["finish_reason"] = finish(request.prompt, index)
        match fault:
            case "429 later":
                return error(429, "slow down", retry_after=1)
            case "429" | "500" | "503":
                return error(int(fault), "oops")
            case "hang":
                return Fault(delay=HANG, part=0)
            case "cut":
                return CUT
            case "half":
                return Fault(content=reply, part=0.5)
            case "no json":
                return b'{"choices": [{"te'
            case "html":
                return HTML
            case "no choices":
                choices.clear()
            case "twice":
                reply["choices"] = [*choices[len(choices) // 2 :], *choices]
            case "reordered":
                choices.reverse()
        return reply

    def fault(self, prompt: str, seed: int) -> str:
        self.tries[prompt, seed] += 1
        bursts, place = divmod(len(self.given), EVERY)
        if place >= EVERY - BURST:
            return "429 later" if bursts % 2 else "429"
        drawn = 100 * draw("fault", prompt, seed, self.tries[prompt, seed])
        for name, percent in FAULTS.items() if self.tries[prompt, seed] < 5 else ():
            drawn -= percent
            if drawn < 0:
                return name
        return ""

    def delivered(self, server: Server) -> list[Received]:
        """The requests whose usable replies have been sent."""
        usable = ("", "twice", "reordered")
        pairs = zip(server.requests, self.given, strict=True)
        return [request for request, fault in pairs if request.delivered and fault in usable]


def buyer(url: str, root: Path, problems: tuple[int, int], samples: int, n: bool = False) -> subprocess.Popen[bytes]:
    order = {"url": url, "root": str(root), "problems": problems, "samples": samples, "n": n}
    order["table"] = str(table(root, problems, samples))
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(BUYER % SEED), json.dumps(order)])


def table(root: Path, problems: tuple[int, int], samples: int) -> Path:
    return root.parent / f"{root.name}-{problems[0]}-{problems[1]}-{samples}.parquet"


def booked(root: Path) -> pl.DataFrame:
    parts = sorted(root.rglob("part-*.parquet"))
    return pl.concat([pl.read_parquet(part, hive_partitioning=False) for part in parts]) if parts else pl.DataFrame()


def expected(problems: tuple[int, int], samples: int) -> dict[tuple[str, int], list[str]]:
    return {
        (f"p{p}", i): [text(f"question {p}", i), finish(f"question {p}", i)]
        for p in range(*problems)
        for i in range(samples)
    }


def check_table(path: Path, problems: tuple[int, int], samples: int) -> pl.DataFrame:
    """Check that every sample occurs once with the server's text."""
    rows = pl.read_parquet(path)
    columns = rows.select("problem_id", "sample_index", "completion", "finish_reason")
    found = {(problem, index): what for problem, index, *what in columns.iter_rows()}
    assert rows.height == len(found) and found == expected(problems, samples)
    return rows


def asked(requests: Iterable[Received]) -> Counter[tuple[str, int]]:
    """How often each (prompt hash, sample index) was requested."""
    return Counter(
        (prompt_hash(request.prompt), indices(request.prompt)[request.body["seed"]] + at)
        for request in requests
        for at in range(request.body.get("n", 1))
    )


def good(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("finish_reason") != "error")


def held(root: Path) -> set[tuple[str, int]]:
    """The good samples in the ledger: in its parts and its journal."""
    rows = booked(root)
    found = set(good(rows).select("prompt_hash", "sample_index").iter_rows()) if rows.height else set()
    for journal in root.rglob(".journal-*"):
        for line in journal.read_text().splitlines(keepends=True):
            if line.endswith("}\n"):  # the last one may have been cut
                row = json.loads(line)
                if row["finish_reason"] != "error":
                    found.add((row["prompt_hash"], row["sample_index"]))
    return found


@pytest.mark.parametrize(("problems", "n", "kills"), [(2000, True, 10), (200, False, 3)], ids=["n", "one-by-one"])
def test_a_buyer_that_is_killed_amid_faults_buys_nothing_twice(
    tmp_path: Path, problems: int, n: bool, kills: int
) -> None:
    """The second buyer is killed at random moments. It never requests again what it had booked, and ends with the table
    of the first buyer, which is not killed. 2,000 requests with n = 8, and 1,600 without, in about 45 s."""
    order = (0, problems), 8
    tables = []
    with Server(faults := Faults()) as server:
        assert buyer(server.url, tmp_path / "alone", *order, n).wait() == 0
        tables.append(check_table(table(tmp_path / "alone", *order), *order))
        given = Counter(faults.given)
        assert set(given) >= {"", *FAULTS} - {"hang"} and given["429"]
        rows = booked(tmp_path / "alone")
        assert good(rows).height == len(held(tmp_path / "alone")) == problems * 8
        unusable = rows.filter(finish_reason="error")
        assert unusable.height == given["no choices"] * (8 if n else 1)
        assert set(unusable["error"]) == {"a reply without choices"}
        assert unusable["completion_tokens"].min() > 0, "every paid reply is booked with its tokens"  # type: ignore[operator]
        assert set(asked(faults.delivered(server)).values()) == {1}, "nothing was bought twice"
        each = pl.col("retries") + 1
        tries = rows.group_by("prompt_hash", "attempt").agg(each.max() if n else each.sum())
        assert tries["retries"].sum() == len(server.requests), "every attempt is booked"

    root, requests = tmp_path / "killed", problems * (1 if n else 8)
    before: list[tuple[int, set[tuple[str, int]]]] = []
    with Server(faults := Faults()) as server:
        for kill in sorted(random.Random(0).sample(range(1, requests), kills)):
            process = buyer(server.url, root, *order, n)
            while len(server.requests) < kill:
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
            before.append((len(server.requests), held(root)))
        assert 0 < len(before[0][1]) < len(before[-1][1]) < problems * 8
        assert buyer(server.url, root, *order, n).wait() == 0
        tables.append(check_table(table(root, *order), *order))
    assert tables[0].equals(tables[1])
    assert good(booked(root)).height == len(held(root)) == problems * 8, "each is booked once"
    for count, had in before:
        assert not had & set(asked(server.requests[count:])), "booked samples are not requested again"
    twice = asked(faults.delivered(server)).total() - problems * 8
    assert twice <= kills * 2 * 64 * (8 if n else 1), "only pending replies and those just received are bought twice"


def test_two_buyers_at_once_buy_nothing_twice(tmp_path: Path) -> None:
    """One buys 4 samples and the other 8; they share a third of the problems. About 9 s."""
    first, second = ((0, 150), 4), ((100, 250), 8)
    with Server(faults := Faults()) as server:
        buyers = [buyer(server.url, tmp_path / "root", *order) for order in (first, second)]
        assert [process.wait() for process in buyers] == [0, 0]
    for order in (first, second):
        check_table(table(tmp_path / "root", *order), *order)
    delivered = asked(faults.delivered(server))
    assert set(delivered.values()) == {1} and len(delivered) == 150 * 4 + 150 * 8 - 50 * 4
    assert good(booked(tmp_path / "root")).height == len(delivered)
