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
    """An amount of FLOPs and of currency."""

    flops: float = 0.0
    cost: float = 0.0

    def __add__(self, other: Spend) -> Spend:
        return Spend(self.flops + other.flops, self.cost + other.cost)


@dataclass(frozen=True)
class Tariff:
    """The cost of a model's tokens.

    `params` and `prices` are None if they are unknown. With `prefill`, prompt tokens count as FLOPs too. `chat` says
    that prompts are put into a chat template, which adds tokens.
    """

    params: float | None = None
    prices: Prices | None = None
    prefill: bool = False
    chat: bool = False

    def flops(self, completion: Completion) -> float | None:
        """Return 2·P for each generated token and, with `prefill`, for each prompt token that was not cached.

        Returns None if P or the number of generated tokens is unknown.
        """
        tokens = completion.completion_tokens
        if not self.params or tokens is None:
            return None
        if self.prefill:
            tokens += max(0, (completion.prompt_tokens or 0) - (completion.cached_tokens or 0))
        return flops_per_token(self.params) * tokens

    def cost(self, completion: Completion) -> float | None:
        """Return the price of the prompt and completion tokens, or None if it is unknown."""
        if self.prices is None or completion.completion_tokens is None:
            return None
        prompt = completion.prompt_tokens or 0
        cached = min(prompt, completion.cached_tokens or 0)
        return self.prices.of(prompt, completion.completion_tokens, cached)

    def columns(self) -> dict[str, pl.Expr]:
        """Return expressions for `flops` and `cost` of ledger rows, independent of the values recorded in them."""
        tokens, none = pl.col("completion_tokens"), pl.lit(None, pl.Float64)
        prompt = pl.col("prompt_tokens").fill_null(0)
        cached = pl.min_horizontal(prompt, pl.col("cached_tokens").fill_null(0))
        run = tokens + (prompt - cached) if self.prefill else tokens
        return {
            "flops": flops_per_token(self.params) * run if self.params else none,
            "cost": self.prices.of(prompt, tokens, cached) if self.prices else none,
        }

    def spend(self, completion: Completion, sampling: Sampling) -> Spend:
        """Return the spend of a completion, or the maximum possible spend if its tokens are unknown."""
        most = self.ceiling(completion.prompt, sampling)
        flops, cost = self.flops(completion), self.cost(completion)
        return Spend(most.flops if flops is None else flops, most.cost if cost is None else cost)

    def ceiling(self, prompt: str, sampling: Sampling) -> Spend:
        """Return the maximum spend of one completion of a prompt."""
        tokens = len(prompt.encode()) + _SPECIAL_TOKENS + (_TEMPLATE_TOKENS if self.chat else 0)
        most = sampling.max_tokens
        flops = flops_per_token(self.params or 0) * (most + (tokens if self.prefill else 0))
        return Spend(flops, self.prices.of(tokens, most) if self.prices else 0.0)

    def most(self, request: Request, sampling: Sampling) -> Spend:
        """Return the maximum spend of all completions of a request."""
        each, count = self.ceiling(request.prompt, sampling), len(request.indices)
        return Spend(each.flops * count, each.cost * count)


@dataclass(frozen=True)
class Cap:
    """The maximum that a study may spend on data. None means no limit."""

    flops: float | None = None
    cost: float | None = None

    def affordable(
        self, requests: Sequence[Request], spent: Spend, tariff: Tariff, sampling: Sampling
    ) -> tuple[list[Request], list[Request]]:
        """Split requests into the first ones whose maximum spend fits the cap on top of `spent`, and the rest.

        A request that fits only in part is split.
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
        """Return the error for a purchase that exceeds the cap."""
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
    """Return the lock of a study with a cap. A process holds it while it buys data for the study."""
    return locks.lock(root / "ledger" / f".{study}.lock")


def spent(root: Place, study: str) -> Spend:
    """Return a study's spend on data so far, according to the ledger."""
    of_data = pl.col("stage").is_in([*DATA])
    booked = _booked(root, study, lambda rows: rows.filter(of_data).select(pl.col("flops", "cost").sum()))
    return Spend(*booked.row(0))


BY_STAGE = pl.Schema(
    {"stage": pl.String}
    | dict.fromkeys(("calls", "failed", "truncated", "prompt_tokens", "completion_tokens"), pl.Int64)
    | {"flops": pl.Float64, "cost": pl.Float64}
)


def by_stage(root: Place, study: str) -> pl.DataFrame:
    """Return a study's recorded calls and spend per stage, in the schema `BY_STAGE` and in the order of `Stage`.

    A sum is null if it is unknown for every call. A finetuning is one call.
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
