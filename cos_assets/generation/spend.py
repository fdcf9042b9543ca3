"""Spend: the cost of completions, a study's spend on data so far, and the cap on it.

A completion's FLOPs and price are computed from its token counts (see `budget`). Before a completion is requested, its
maximum cost is reserved: a prompt has at most as many tokens as bytes, and the reply at most `max_tokens`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, get_args

import polars as pl

from cos_assets.budget.matching import Prices, flops_per_token
from cos_assets.generation import parts
from cos_assets.generation.types import Completion, Request, Sampling
from cos_assets.storage import locks
from cos_assets.storage.paths import Place

Stage = Literal["pilot", "sampling", "judging", "training", "validation", "evaluation"]
DATA: tuple[Stage, ...] = ("pilot", "sampling", "judging")
"""The stages that buy data, to which a cap applies. It does not apply to finetuning and scoring."""

_SPECIAL_TOKENS, _TEMPLATE_TOKENS = 8, 256  # generous upper bounds of the tokens that are added to a prompt


class CapReached(RuntimeError):
    """The cap does not allow the missing completions. Completions already bought are in the ledger."""


@dataclass(frozen=True)
class Spend:
    """An amount of FLOPs and of currency.

    Examples
    --------
    >>> Spend(1e9, 0.5) + Spend(2e9)
    Spend(flops=3000000000.0, cost=0.5)
    """

    flops: float = 0.0
    cost: float = 0.0

    def __add__(self, other: Spend) -> Spend:
        return Spend(self.flops + other.flops, self.cost + other.cost)


@dataclass(frozen=True)
class Tariff:
    """The cost of a model's tokens.

    Attributes
    ----------
    params : float, optional
        The number of parameters that a token passes through; None if it is unknown.
    prices : Prices, optional
        Prices per million tokens; None if they are unknown.
    prefill : bool
        Whether prompt tokens count as FLOPs, too.
    chat : bool
        Whether prompts are put into a chat template, which adds tokens.

    Examples
    --------
    >>> completion = Completion("p", "2 + 3?", 0, "5", "stop", 4, 10, 0, 0.1)
    >>> Tariff(params=1e9, prices=Prices(1.0, 2.0)).spend(completion, Sampling())
    Spend(flops=20000000000.0, cost=2.4e-05)
    """

    params: float | None = None
    prices: Prices | None = None
    prefill: bool = False
    chat: bool = False

    def flops(self, completion: Completion) -> float | None:
        """Return the FLOPs of a completion: 2·P for each generated token (Kaplan et al. 2020, arXiv 2001.08361).

        P is the number of parameters. With `prefill`, each prompt token that was not cached counts like a generated
        one.

        Returns
        -------
        float or None
            None if P or the number of generated tokens is unknown.

        Examples
        --------
        >>> completion = Completion("p", "2 + 3?", 0, "5", "stop", 4, 10, 1, 0.1)
        >>> Tariff(params=1e9).flops(completion), Tariff(params=1e9, prefill=True).flops(completion)
        (20000000000.0, 26000000000.0)
        """
        tokens = completion.completion_tokens
        if not self.params or tokens is None:
            return None
        if self.prefill:
            tokens += max(0, (completion.prompt_tokens or 0) - (completion.cached_tokens or 0))
        return flops_per_token(self.params) * tokens

    def cost(self, completion: Completion) -> float | None:
        """Return the price of the prompt and completion tokens in currency, or None if it is unknown.

        Examples
        --------
        >>> Tariff(prices=Prices(1.0, 2.0)).cost(Completion("p", "2 + 3?", 0, "5", "stop", 4, 10, 0, 0.1))
        2.4e-05
        """
        if self.prices is None or completion.completion_tokens is None:
            return None
        prompt = completion.prompt_tokens or 0
        cached = min(prompt, completion.cached_tokens or 0)
        return self.prices.of(prompt, completion.completion_tokens, cached)

    def columns(self) -> dict[str, pl.Expr]:
        """Return expressions for `flops` and `cost` of ledger rows, independent of the values recorded in them.

        Returns
        -------
        dict
            The two expressions by column name (Float64; null if unknown). They need the columns prompt_tokens,
            completion_tokens and cached_tokens.

        Examples
        --------
        >>> rows = pl.DataFrame({"prompt_tokens": [4], "completion_tokens": [10], "cached_tokens": [0]})
        >>> rows.select(**Tariff(params=1e9, prices=Prices(1.0, 2.0)).columns()).row(0)
        (20000000000.0, 2.4e-05)
        """
        tokens, none = pl.col("completion_tokens"), pl.lit(None, pl.Float64)
        prompt = pl.col("prompt_tokens").fill_null(0)
        cached = pl.min_horizontal(prompt, pl.col("cached_tokens").fill_null(0))
        run = tokens + (prompt - cached) if self.prefill else tokens
        return {
            "flops": flops_per_token(self.params) * run if self.params else none,
            "cost": self.prices.of(prompt, tokens, cached) if self.prices else none,
        }

    def spend(self, completion: Completion, sampling: Sampling) -> Spend:
        """Return the spend of a completion, or the maximum possible spend if its tokens are unknown.

        Examples
        --------
        >>> unknown = Completion("p", "2 + 3?", 0, "5", "stop", None, None, None, 0.1)
        >>> Tariff(params=1e9).spend(unknown, Sampling(max_tokens=100))
        Spend(flops=200000000000.0, cost=0.0)
        """
        most = self.ceiling(completion.prompt, sampling)
        flops, cost = self.flops(completion), self.cost(completion)
        return Spend(most.flops if flops is None else flops, most.cost if cost is None else cost)

    def ceiling(self, prompt: str, sampling: Sampling) -> Spend:
        """Return the maximum spend of one completion of a prompt.

        A prompt has at most as many tokens as UTF-8 bytes, plus special tokens, and the reply at most `max_tokens`.

        Examples
        --------
        >>> Tariff(params=1e9, prefill=True).ceiling("2 + 3?", Sampling(max_tokens=100))
        Spend(flops=228000000000.0, cost=0.0)
        """
        tokens = len(prompt.encode()) + _SPECIAL_TOKENS + (_TEMPLATE_TOKENS if self.chat else 0)
        most = sampling.max_tokens
        flops = flops_per_token(self.params or 0) * (most + (tokens if self.prefill else 0))
        return Spend(flops, self.prices.of(tokens, most) if self.prices else 0.0)

    def most(self, request: Request, sampling: Sampling) -> Spend:
        """Return the maximum spend of all completions of a request.

        Examples
        --------
        >>> Tariff(params=1e9).most(Request("p", "2 + 3?", (0, 1)), Sampling(max_tokens=100))
        Spend(flops=400000000000.0, cost=0.0)
        """
        each, count = self.ceiling(request.prompt, sampling), len(request.indices)
        return Spend(each.flops * count, each.cost * count)


@dataclass(frozen=True)
class Cap:
    """The maximum that a study may spend on data, in FLOPs and in currency. None means no limit.

    Examples
    --------
    >>> Cap(cost=100.0)
    Cap(flops=None, cost=100.0)
    """

    flops: float | None = None
    cost: float | None = None

    def affordable(
        self, requests: Sequence[Request], spent: Spend, tariff: Tariff, sampling: Sampling
    ) -> tuple[list[Request], list[Request]]:
        """Split requests into the first ones whose maximum spend fits the cap on top of what was spent, and the rest.

        Parameters
        ----------
        requests : sequence of Request
            The missing samples, in the order in which they are bought. A request that fits only in part is split.
        spent : Spend
            The study's spend on data so far.
        tariff : Tariff
            The cost of the model's tokens.
        sampling : Sampling
            The sampling parameters, for the maximum number of tokens.

        Returns
        -------
        tuple of list of Request
            The requests that fit, and the rest.

        Examples
        --------
        >>> requests = [Request("p", "2 + 3?", (0, 1, 2))]
        >>> fits, rest = Cap(flops=5e11).affordable(requests, Spend(), Tariff(params=1e9), Sampling(max_tokens=100))
        >>> fits[0].indices, rest[0].indices
        ((0, 1), (2,))
        """
        fits: list[Request] = []
        for at, request in enumerate(requests):
            each = tariff.ceiling(request.prompt, sampling)
            room = len(request.indices)
            for limit, value, price in zip((self.flops, self.cost), *map(_both, (spent, each)), strict=True):
                if limit is not None and price:
                    # Rounding errors of float sums must not refuse a request that fits exactly.
                    room = min(room, int((limit * (1 + 1e-12) - value) / price))
            if room < len(request.indices):
                room = max(0, room)
                now, later = request.indices[:room], request.indices[room:]
                fits += [Request(request.problem_id, request.prompt, now)] if now else []
                return fits, [Request(request.problem_id, request.prompt, later), *requests[at + 1 :]]
            spent += Spend(each.flops * room, each.cost * room)
            fits.append(request)
        return fits, []

    def refusal(self, study: str, spent: Spend, what: str, missing: int, total: int, needed: Spend) -> CapReached:
        """Return the error for a purchase that exceeds the cap.

        Parameters
        ----------
        study, what : str
            The study, and what was to be bought for it ("sampling with wc").
        spent, needed : Spend
            The study's spend on data so far, and the maximum spend of the missing completions.
        missing, total : int
            The number of missing completions, and of all that were to be bought.

        Examples
        --------
        >>> error = Cap(cost=1.0).refusal("demo", Spend(cost=0.5), "sampling with wc", 5, 8, Spend(cost=2.0))
        >>> str(error).split(". ")[0]
        "cap.cost: 1: study 'demo' has spent 0.5 on data, and the missing completions need up to 2 more"
        """
        parts = [
            f"cap.{name}: {limit:g}: study {study!r} has spent {value:.4g} on data, and the missing completions need up"
            f" to {more:.4g} more"
            for name, limit, value, more in zip(
                ("flops", "cost"), _both(self), _both(spent), _both(needed), strict=True
            )
            if limit is not None and value + more > limit
        ]
        return CapReached(
            f"{'; '.join(parts)}. {missing:,} of {total:,} completions for {what} are missing."
            " The ledger keeps all completions that were bought; raise the cap and run again"
        )


def _both(pair: Spend | Cap) -> tuple:
    return pair.flops, pair.cost


def lock(root: Place, study: str) -> AbstractContextManager:
    """Return the lock of a study with a cap. A process holds it while it buys data for the study.

    `root` is the root of the ledger.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as root, lock(Path(root), "demo"):
    ...     spent(Path(root), "demo")
    Spend(flops=0.0, cost=0.0)
    """
    return locks.lock(root / "ledger" / f".{study}.lock")


def spent(root: Place, study: str) -> Spend:
    """Return a study's spend on data so far, according to the ledger.

    Parameters
    ----------
    root : Path or ObjectPath
        The root of the ledger (`COS_HOME`).
    study : str
        The name of the study. Its rows in the stages `DATA` count, including failed attempts.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> row = {"study": "demo", "stage": "sampling", "flops": 1e9, "cost": 0.5}
    >>> with tempfile.TemporaryDirectory() as root:
    ...     frame = pl.DataFrame([row], schema=parts.SCHEMA)
    ...     parts.write(Path(root, "ledger/model=m/params=p", parts.name()), frame)
    ...     spent(Path(root), "demo")
    Spend(flops=1000000000.0, cost=0.5)
    """
    of_data = pl.col("stage").is_in([*DATA])
    booked = _booked(root, study, lambda rows: rows.filter(of_data).select(pl.col("flops", "cost").sum()))
    return Spend(*booked.row(0))


BY_STAGE = pl.Schema(
    {"stage": pl.String}
    | dict.fromkeys(("calls", "failed", "truncated", "prompt_tokens", "completion_tokens"), pl.Int64)
    | {"flops": pl.Float64, "cost": pl.Float64}
)


def by_stage(root: Place, study: str) -> pl.DataFrame:
    """Return a study's recorded calls and spend per stage.

    Parameters
    ----------
    root : Path or ObjectPath
        The root of the ledger (`COS_HOME`).
    study : str
        The name of the study.

    Returns
    -------
    polars.DataFrame
        One row per stage that has calls, with the schema `BY_STAGE`, in the order of `Stage`. `calls` counts all
        attempts; a finetuning is one call. A sum is null if it is unknown for every call.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> row = {"study": "demo", "stage": "sampling", "finish_reason": "length", "cost": 0.5}
    >>> with tempfile.TemporaryDirectory() as root:
    ...     frame = pl.DataFrame([row], schema=parts.SCHEMA)
    ...     parts.write(Path(root, "ledger/model=m/params=p", parts.name()), frame)
    ...     by_stage(Path(root), "demo").select("stage", "calls", "truncated", "flops", "cost").row(0)
    ('sampling', 1, 1, None, 0.5)
    """

    def total(name: str) -> pl.Expr:
        return pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()).alias(name)

    totals = {
        "calls": pl.len().cast(pl.Int64),
        "failed": (pl.col("finish_reason") == "error").sum().cast(pl.Int64),
        "truncated": (pl.col("finish_reason") == "length").sum().cast(pl.Int64),
        **{name: total(name) for name in ("prompt_tokens", "completion_tokens", "flops", "cost")},
    }
    order = {stage: place for place, stage in enumerate(get_args(Stage))}
    return (
        _booked(root, study, lambda rows: rows.group_by("stage").agg(**totals))
        .with_columns(
            place=pl.col("stage").replace_strict(order, default=len(order), return_dtype=pl.Int64),
        )
        .sort("place")
        .select(pl.col(name).cast(dtype) for name, dtype in BY_STAGE.items())
    )


def _booked(root: Place, study: str, ask: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.DataFrame:
    """Apply `ask` to the ledger's rows of a study, and collect the result."""
    return parts.query(root / "ledger", f"*/*/{parts.PATTERN}", lambda rows: ask(rows.filter(pl.col("study") == study)))
