r"""The entry point for model calls: read the ledger, request the missing completions, and record them.

Examples
--------
Solutions from a file show a purchase without a model. The second call finds the completions in the ledger.

>>> import tempfile
>>> from pathlib import Path
>>> from cos_assets.generation.model import resolve
>>> prompts = pl.DataFrame({"problem_id": ["p"], "prompt": ["2 + 3?"]})
>>> with tempfile.TemporaryDirectory() as root:
...     file = Path(root, "solutions.jsonl")
...     _ = file.write_text('{"id": "p", "text": "5"}\n{"id": "p", "text": "6"}\n')
...     options = {"path": str(file), "columns": {"problem_id": "id", "completion": "text"}}
...     model = resolve("imported", engine="imported", options=options)
...     buyer = Buyer(Path(root), study="demo", stage="sampling")
...     first, second = (generate(model, prompts, 3, Sampling(), buyer) for _ in range(2))
>>> first.rows["completion"].to_list(), first.new, first.missing, second.new
(['5', '6'], 2, 1, 0)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import polars as pl

from cos_assets import progress
from cos_assets.budget.matching import Prices
from cos_assets.generation import engines, loaded, spend
from cos_assets.generation.compute import size, torch_threads
from cos_assets.generation.ledger import Ledger, prompt_hash
from cos_assets.generation.spend import Cap, Spend, Stage, Tariff
from cos_assets.generation.types import Completion, Engine, Model, Request, Sampling
from cos_assets.grading.reasoning import TAG, split
from cos_assets.storage.paths import Place
from cos_assets.storage.schemas import TABLES

FIRST = 16
"""Number of solutions that are checked before the rest is bought."""
Look = Callable[[Sequence[tuple[str, str]]], None]
"""Receives (completion, finish_reason) of the first solutions, and raises if no more should be bought."""
FLUSH_ROWS = 2000
FLUSH_SECONDS = 10.0

COMPLETIONS = TABLES["samples"].schema


@dataclass(frozen=True)
class Buyer:
    """The caller of a purchase.

    Attributes
    ----------
    root : Path or ObjectPath
        The root of the ledger (`COS_HOME`).
    study, stage, run_id : str
        Recorded with each completion; the stage is one of `spend.Stage`.
    model : str
        The study's name of the model, for progress messages.
    cap : Cap, optional
        The maximum that the study may spend on data.
    prefill : bool
        Whether prompt tokens count as FLOPs, too.
    """

    root: Place
    study: str
    stage: Stage
    run_id: str = ""
    model: str = ""
    cap: Cap | None = None
    prefill: bool = False


@dataclass(frozen=True)
class Bought:
    """The completions of one call of `generate`, and how many of them it paid for.

    Attributes
    ----------
    rows : polars.DataFrame
        Schema `COMPLETIONS`, sorted by problem in prompt order, then sample index; the same on every machine.
    served : polars.DataFrame
        [cached_tokens, seconds] of the rows, which vary from run to run.
    new : int
        Number of completions that this call bought; the others were in the ledger.
    missing : int
        Number of completions that are unavailable: imported solutions may be fewer than requested.
    seconds : float
        Duration of the call.
    """

    rows: pl.DataFrame
    served: pl.DataFrame
    new: int
    missing: int
    seconds: float


def generate(
    model: Model,
    prompts: pl.DataFrame,
    samples: int,
    sampling: Sampling,
    buyer: Buyer,
    prices: Prices | None = None,
    look: Look | None = None,
) -> Bought:
    """Return the completions of every prompt. Only those that the ledger lacks are bought.

    They are recorded in parts as they arrive, so that a killed call can be resumed by calling again. A truncated
    completion counts as bought. A failed one is retried by the next call, unless it comes from a file. Problems with
    the same prompt share its completions. For a study with a cap, one buyer buys at a time.

    Parameters
    ----------
    model, sampling : Model, Sampling
        The model and its sampling parameters; they select the part of the ledger.
    prompts : polars.DataFrame
        [problem_id, prompt] (both String), one row per problem. A column `samples` overrides the number per problem.
    samples : int
        The number of completions of each prompt; they have the indices 0 to samples - 1.
    buyer : Buyer
        The caller: ledger root, study, stage and cap.
    prices : Prices, optional
        The prices of the model's tokens; without them `cost` is null.
    look : callable, optional
        Receives the first solutions (see `judging.readable`). An exception that it raises ends the purchase.

    Raises
    ------
    CapReached
        If the buyer's cap does not allow all missing completions. Those that it allows are bought first.
    ModuleNotFoundError, ValueError, ConnectionError
        If the engine cannot be opened, or ends the purchase. What was bought is in the ledger.
    """
    started = time.perf_counter()
    ledger = Ledger(buyer.root, model, sampling)
    wanted = prompts.with_columns(
        prompt_hash=pl.col("prompt").map_elements(prompt_hash, return_dtype=pl.String),
        samples=pl.col("samples") if "samples" in prompts.columns else pl.lit(samples, pl.Int64),
    )
    hashes = wanted["prompt_hash"].unique(maintain_order=True)
    with ledger.lock:
        ledger.clear_leftovers()
        # A failed sample from a file fails again, so it is not requested again.
        held = ledger.held(hashes, failed=engines.get(model.engine).recorded)
        requests = _missing(wanted, held)
        known = hashes.filter(hashes.is_in(held["prompt_hash"])).head(FIRST)
        first = _First(look, _parted(ledger.read(known, 1))) if look else None
        new = _buy(model, requests, sampling, buyer, prices, ledger, first) if requests else 0
        bought = _parted(ledger.read(hashes, wanted["samples"].max() or 0))  # type: ignore[arg-type]
    rows = (
        wanted.select("problem_id", "prompt_hash", "samples")
        .with_row_index("order")
        .join(bought, on="prompt_hash")
        .filter(pl.col("sample_index") < pl.col("samples"))
        .sort("order", "sample_index")
    )
    served = rows.select("cached_tokens", "seconds")
    # Use this buyer's tariff: another study may have recorded another price, or none.
    rows = rows.with_columns(**_tariff(model, buyer, prices).columns())
    rows = rows.select(pl.col(name).cast(dtype) for name, dtype in COMPLETIONS.items())
    return Bought(rows, served, new, int(wanted["samples"].sum()) - rows.height, time.perf_counter() - started)


def _parted(rows: pl.DataFrame) -> pl.DataFrame:
    """Move the reasoning of completions to its own column, where it is inside the text: in rows of older ledgers."""
    whole = pl.col("reasoning").is_null() & pl.col("completion").str.contains(
        f"(?i){TAG.pattern}|<\\|channel\\|>|analysis"
    )
    found = rows.filter(whole)
    if found.is_empty():
        return rows
    parts = {text: split(text) for text in found["completion"].unique()}
    new = pl.col("completion").replace_strict
    thoughts, replies = ({text: part[at] for text, part in parts.items()} for at in (0, 1))
    return rows.with_columns(
        reasoning=pl.when(whole).then(new(thoughts, default=None, return_dtype=pl.String)).otherwise("reasoning"),
        completion=pl.when(whole).then(new(replies, default=None, return_dtype=pl.String)).otherwise("completion"),
    )


def _missing(wanted: pl.DataFrame, held: pl.DataFrame) -> list[Request]:
    """Return one request per distinct prompt that lacks an index.

    `wanted` has the columns [problem_id, prompt, prompt_hash, samples]; for `held` see `Ledger.held`.
    """
    none = pl.lit([], pl.List(pl.Int32))
    every = pl.int_ranges(0, pl.col("samples"), dtype=pl.Int32)
    lacking = (
        wanted.with_columns(pl.col("samples").max().over("prompt_hash"))
        .unique("prompt_hash", keep="first", maintain_order=True)
        .join(held, on="prompt_hash", how="left", maintain_order="left")
        .select(
            "problem_id", "prompt", missing=every.list.set_difference(pl.col("indices").fill_null(none)).list.sort()
        )
        .filter(pl.col("missing").list.len() > 0)
    )
    return [Request(problem_id, prompt, tuple(indices)) for problem_id, prompt, indices in lacking.iter_rows()]


def _buy(
    model: Model,
    requests: list[Request],
    sampling: Sampling,
    buyer: Buyer,
    prices: Prices | None,
    ledger: Ledger,
    first: _First | None,
) -> int:
    """Request all missing completions, record them, and return how many came."""
    total = sum(len(request.indices) for request in requests)
    if first and total <= first.missing:
        first = None  # no purchase remains after the first solutions
    if first:
        first.look_at([])
    few = first.missing if first else 0
    attempts = ledger.failed_attempts(prompt_hash(request.prompt) for request in requests)
    what = f"{buyer.stage} with {buyer.model or model.model_id}"
    say = partial(progress.report, what, total=total)
    tariff = _tariff(model, buyer, prices)
    row = _booking(model, sampling, buyer, tariff, attempts)
    done, buffer, flushed = 0, [], time.monotonic()
    took: dict[str, Any] = {}
    with ExitStack() as stack:
        cap, spent = buyer.cap if buyer.stage in spend.DATA else None, Spend()
        if cap:
            # A concurrent buyer must record its spend before the remaining budget is known.
            stack.enter_context(spend.lock(buyer.root, buyer.study))
            spent = spend.spent(buyer.root, buyer.study)
        if engines.get(model.engine).gpu:
            stack.enter_context(torch_threads(size(model)))
        engine = stack.enter_context(loaded.engine_of(model, open_engine))
        if hasattr(engine, "load"):
            progress.report(f"loading {buyer.model or model.model_id}", 0, 1)
            engine.load()
        say(0)
        try:
            while requests:
                now: list[Request] = requests
                later: list[Request] = []
                if few and getattr(engine, "starts_cheaply", True):
                    now, later = _few(requests, few)
                    few = 0
                now, requests = cap.affordable(now, spent, tariff, sampling) if cap else (now, [])
                requests += later
                if cap and not now:
                    needed = sum((tariff.most(request, sampling) for request in requests), Spend())
                    raise cap.refusal(buyer.study, spent, what, total - done, total, needed)
                for batch in engine.stream(now, sampling):
                    rows = [row(completion) for completion in batch]
                    ledger.note(rows)
                    buffer += rows
                    spent = sum((tariff.spend(completion, sampling) for completion in batch), spent) if cap else spent
                    done += sum(not completion.again for completion in batch)
                    _add(took, rows)
                    say(done, **took)
                    if first:
                        first.look_at([(c.text, c.finish_reason) for c in batch])
                    if len(buffer) >= FLUSH_ROWS or time.monotonic() - flushed > FLUSH_SECONDS:
                        ledger.append(buffer)
                        buffer, flushed = [], time.monotonic()
        finally:
            ledger.append(buffer)  # completions before a failure have been paid for
    return done


class _First:
    """The first solutions of a purchase, including those from the ledger. Calls `look` once there are enough."""

    def __init__(self, look: Look, held: pl.DataFrame) -> None:
        self._look, self._done = look, False
        self._seen: list[tuple[str, str]] = list(held.select("completion", "finish_reason").iter_rows())

    @property
    def missing(self) -> int:
        """How many more solutions are needed before the rest is bought."""
        return 0 if self._done else max(0, FIRST - len(self._seen))

    def look_at(self, solutions: list[tuple[str, str]]) -> None:
        if self._done:
            return
        self._seen = [one for one in (*self._seen, *solutions) if one[1] != "error"][:FIRST]
        if len(self._seen) >= FIRST:
            self._done = True
            self._look(self._seen)


def _few(requests: list[Request], count: int) -> tuple[list[Request], list[Request]]:
    """Split requests into some for about `count` samples, from as many prompts as possible, and the rest."""
    each = -(-count // len(requests))
    head, tail = requests[:count], requests[count:]
    now = [replace(request, indices=request.indices[:each]) for request in head]
    later = [replace(request, indices=request.indices[each:]) for request in head if len(request.indices) > each]
    return now, later + tail


def _add(took: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Add the tokens, FLOPs and cost of rows to the totals for progress reports. Unknown values are skipped."""
    for name, column in (("tokens", "completion_tokens"), ("flops", "flops"), ("cost", "cost")):
        known = [row[column] for row in rows if row[column] is not None]
        if known:
            took[name] = took.get(name, 0) + sum(known)


def _tariff(model: Model, buyer: Buyer, prices: Prices | None) -> Tariff:
    return Tariff(model.params, prices, buyer.prefill, model.chat is not None)


def open_engine(model: Model) -> Engine:
    """Open the engine of a model.

    Returns
    -------
    Engine
        The engine; the caller closes it. Most engines load the model with the first request.

    Raises
    ------
    ModuleNotFoundError
        If a package is missing. The message says what to install.
    ValueError
        If an engine option is wrong.
    """
    return engines.get(model.engine).open(model)


def preflight(model: Model) -> None:
    """Check whether the engine of a model can serve it, without buying anything.

    Raises
    ------
    ModuleNotFoundError, ValueError, ConnectionError
        If it cannot. The message says what to fix.
    """
    engines.get(model.engine).preflight(model)


def _booking(
    model: Model, sampling: Sampling, buyer: Buyer, tariff: Tariff, attempts: dict[tuple[str, int], int]
) -> Callable[[Completion], dict[str, Any]]:
    """Return a function that converts a completion to a ledger row."""
    constant = {
        "engine": model.engine,
        "model_id": model.model_id,
        "revision": model.revision,
        **sampling.model_dump(),
        "system": model.chat.system if model.chat else None,
        "study": buyer.study,
        "stage": buyer.stage,
        "run_id": buyer.run_id,
    }

    def book(completion: Completion) -> dict[str, Any]:
        key = prompt_hash(completion.prompt)
        attempt = attempts.get((key, completion.index), 0) + 1
        if completion.finish_reason == "error":
            attempts[key, completion.index] = attempt
        return {
            **constant,
            "prompt_hash": key,
            "sample_index": completion.index,
            "attempt": attempt,
            "prompt": completion.prompt,
            "completion": completion.text,
            "reasoning": completion.reasoning,
            "messages": completion.messages,
            "finish_reason": completion.finish_reason,
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "reasoning_tokens": completion.reasoning_tokens,
            "cached_tokens": completion.cached_tokens,
            "flops": tariff.flops(completion),
            "cost": tariff.cost(completion),
            "seconds": completion.seconds,
            "retries": completion.retries,
            "time": datetime.now(UTC),
            "error": completion.error,
        }

    return book
