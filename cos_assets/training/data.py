"""Conversion of rows to tokens, labels and batches.

The loss covers only the completion's tokens and the EOS after them. The rows of each step are fixed by the seed before
training starts, so a run that resumes after a kill uses the same batches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from cos_assets.generation.prompts import assistant_ids, conversation, prompt_ids
from cos_assets.generation.types import Chat

if TYPE_CHECKING:
    import torch

IGNORE = -100
"""The label that torch's cross-entropy ignores."""

_WINDOW = 8  # batches that are sorted by length together; with 50, models learned less than from rows in random order
SCHEDULE = "2"
"""Version of `schedule`. Raise it with every change: models trained on other batches are different models."""


@dataclass(frozen=True, slots=True)
class Row:
    """The tokens of a prompt, its completion and EOS (unless cut off).

    The first `prompt` tokens have no label, nor do those that `masked` marks: the turns of tools and users in a trace.
    """

    ids: np.ndarray
    prompt: int
    masked: np.ndarray | None = None

    @property
    def labels(self) -> np.ndarray:
        """The tokens, or `IGNORE` where there is no label."""
        hidden = np.arange(len(self.ids)) < self.prompt
        return np.where(hidden if self.masked is None else hidden | self.masked, IGNORE, self.ids)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Pair:
    """A right and a wrong completion of the same prompt (`objective: dpo`). Its length is that of both rows."""

    chosen: Row
    rejected: Row

    def __len__(self) -> int:
        return len(self.chosen) + len(self.rejected)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A row, and whether its completion is right (`objective: kto`)."""

    row: Row
    desirable: bool

    def __len__(self) -> int:
        return len(self.row)


def parts_of(example: Row | Pair | Labelled) -> tuple[Row, ...]:
    """Return the rows of an example of any objective."""
    if isinstance(example, Pair):
        return example.chosen, example.rejected
    return (example.row if isinstance(example, Labelled) else example,)


Objective = Literal["sft", "dpo", "kto"]


def objective_of(rows: pl.DataFrame) -> Objective:
    """Return what the rows are for: pairs have a column `rejected`, and labelled rows a column `desirable`."""
    for column, objective in (("rejected", "dpo"), ("desirable", "kto")):
        if column in rows.columns and rows[column].count():
            return objective  # type: ignore[return-value]
    return "sft"


def rejected_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rejected replies of pairs as rows of their own."""
    names = {"completion": "rejected", "reasoning": "rejected_reasoning"}
    return rows.select("prompt", **{name: column for name, column in names.items() if column in rows.columns})


def trained_on(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the columns that a training depends on: prompt, completion and, where they are used, the others."""
    optional = ("reasoning", "messages", "rejected", "rejected_reasoning", "desirable")
    names = ["prompt", "completion"]
    names += [name for name in optional if name in rows.columns and rows[name].count()]
    if truncated(rows).any():
        names.append("finish_reason")
    return rows.select(name for name in names if name in rows.columns)


def truncated(rows: pl.DataFrame) -> pl.Series:
    """Return a Boolean mask of the completions that were cut off.

    Rows without finish_reason, such as reference solutions, are complete.
    """
    if "finish_reason" not in rows.columns:
        return pl.repeat(False, rows.height, eager=True)
    return (rows["finish_reason"] == "length").fill_null(False)


def encode(
    rows: pl.DataFrame,
    tokenizer: Any,
    limit: int | None,
    chat: Chat | None = None,
) -> tuple[list[Row], int]:
    """Tokenize the prompt and completion of every row separately, as the engines do.

    `chat`: see `prompt_ids`. A completion is the reasoning (an optional column), in its place in the chat template, and
    the reply. EOS follows, unless the finish_reason is "length" (the column is optional). A row with `messages` (an
    optional column) is a conversation, of which the assistant's turns are learned.

    Returns the rows of at most `limit` tokens, and the number of longer rows. Longer rows are dropped and not cut,
    because a cut completion would teach the model not to stop. Raises ValueError for a missing column, no rows, a value
    that is not text, a prompt without tokens, a completion that was cut off before its first token, a tokenizer without
    EOS, or if no row is short enough.
    """
    encoded = _encoded(rows, tokenizer, chat)
    kept = [row for row in encoded if limit is None or len(row) <= limit]
    if not kept:
        shortest = min(len(row) for row in encoded)
        raise ValueError(
            f"max_length: {limit}: all {len(encoded)} rows are longer; allowed: at least {shortest}, the tokens of the"
            " shortest row"
        )
    return kept, len(encoded) - len(kept)


def encode_examples(
    rows: pl.DataFrame, tokenizer: Any, limit: int | None, chat: Chat | None = None
) -> tuple[list[Row] | list[Pair] | list[Labelled], int]:
    """Tokenize the rows of any objective (see `encode`). A pair is dropped if one of its rows is too long."""
    objective = objective_of(rows)
    if objective == "sft":
        return encode(rows, tokenizer, limit, chat)
    if "messages" in rows.columns and rows["messages"].count():
        raise ValueError(f"objective: {objective} takes no traces of several turns; use objective: sft")
    rows_of = _encoded(rows, tokenizer, chat)
    examples: Any
    if objective == "kto":
        examples = [Labelled(*both) for both in zip(rows_of, rows["desirable"], strict=True)]
    else:
        others = _encoded(rejected_of(rows), tokenizer, chat)
        examples = [Pair(*both) for both in zip(rows_of, others, strict=True)]
    kept = [each for each in examples if limit is None or all(len(row) <= limit for row in parts_of(each))]
    if not kept:
        raise ValueError(f"max_length: {limit}: all {len(examples)} rows are longer")
    return kept, len(examples) - len(kept)


def _encoded(rows: pl.DataFrame, tokenizer: Any, chat: Chat | None) -> list[Row]:
    for column in ("prompt", "completion"):
        if column not in rows.columns:
            raise ValueError(f"rows: column {column!r} is missing; found {', '.join(rows.columns) or 'no columns'}")
    if rows.is_empty():
        raise ValueError("rows: there are no rows to train on; check whether any solution passed verification")
    for column in ("prompt", "completion"):
        if rows.schema[column] != pl.Utf8:
            raise ValueError(f"rows: column {column!r} has the type {rows.schema[column]}; allowed: String")
        if nulls := rows[column].null_count():
            raise ValueError(f"rows: column {column!r} is null in {nulls} of {rows.height} rows; every row needs text")
    if tokenizer.eos_token_id is None:
        raise ValueError("tokenizer: has no EOS token, so a model could not learn where to stop; set eos_token")
    prompts = {text: prompt_ids(tokenizer, text, chat) for text in rows["prompt"].unique(maintain_order=True)}
    encoded = []
    learned = learned_ids(rows, tokenizer, chat)
    traces = rows["messages"] if "messages" in rows.columns else [None] * rows.height
    for number, (prompt, rest, trace) in enumerate(zip(rows["prompt"], learned, traces, strict=True)):
        if trace is not None:
            encoded.append(_conversation(number, tokenizer, chat, prompt, trace))
            continue
        start = prompts[prompt]
        if not start:
            raise ValueError(f"rows: row {number}: prompt {prompt!r} has no tokens; expected at least one token")
        if not rest:
            raise ValueError(f"rows: row {number}: the completion was cut off before its first token; drop the row")
        encoded.append(Row(np.array([*start, *rest], dtype=np.int64), len(start)))
    return encoded


def _conversation(number: int, tokenizer: Any, chat: Chat | None, prompt: str, trace: str) -> Row:
    if chat is None:
        raise ValueError(
            f"rows: row {number}: a trace of several turns needs a chat template; set chat: true for an instruct model"
        )
    try:
        parts = conversation(tokenizer, chat, prompt, json.loads(trace))
    except ValueError as error:
        raise ValueError(f"rows: row {number}: {error}") from None
    masked = np.concatenate([np.full(len(ids), not learned) for ids, learned in parts])
    return Row(np.concatenate([np.array(ids, np.int64) for ids, _ in parts]), len(parts[0][0]), masked)


def learned_ids(rows: pl.DataFrame, tokenizer: Any, chat: Chat | None) -> Iterator[list[int]]:
    """Yield the tokens that a model is trained to write, for every row: its reasoning, its reply, and EOS."""
    thoughts = rows["reasoning"] if "reasoning" in rows.columns else [None] * rows.height
    yield from map(assistant_ids(tokenizer, chat), thoughts, rows["completion"], ~truncated(rows))


def schedule(lengths: Sequence[int], steps: int, batch_size: int, seed: int) -> np.ndarray:
    """Return the row indices of each step, shape (steps, batch_size).

    Each pass uses every row once and has its own shuffle. Rows that do not fill a batch are carried over to the next
    pass. Rows of similar length share a batch, which reduces padding. Batches are in random order within a window of
    `_WINDOW` batches.
    """
    rng = np.random.default_rng(seed)
    size = np.asarray(lengths)
    batches: list[np.ndarray] = []
    pool = np.empty(0, dtype=np.int64)
    while len(batches) < steps:
        pool = np.concatenate([pool, rng.permutation(len(size))])
        full = len(pool) // batch_size * batch_size
        now, pool = pool[:full], pool[full:]
        for start in range(0, full, _WINDOW * batch_size):
            window = now[start : start + _WINDOW * batch_size]
            cut = window[np.argsort(size[window], kind="stable")].reshape(-1, batch_size)
            batches.extend(cut[rng.permutation(len(cut))])
    return np.stack(batches[:steps])


class Scheduled:
    """A dataset of the rows in the order of a schedule, to be read sequentially."""

    def __init__(self, rows: Sequence[Any], plan: np.ndarray) -> None:
        self.rows = rows
        self.order = plan.ravel().tolist()

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, i: int) -> Any:
        return self.rows[self.order[i]]


class Collator:
    """Collate rows to tensors `input_ids`, `attention_mask`, `labels` of shape (rows, longest), padded on the right."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        import torch

        shape = len(rows), max(map(len, rows))
        ids = np.full(shape, self.pad, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        labels = np.full(shape, IGNORE, dtype=np.int64)
        for i, row in enumerate(rows):
            end = len(row)
            ids[i, :end] = row.ids
            mask[i, :end] = 1
            labels[i, :end] = row.labels
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        return {name: torch.from_numpy(array) for name, array in batch.items()}
