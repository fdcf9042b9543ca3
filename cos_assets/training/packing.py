"""Rows laid end to end, so that next to nothing is spent on padding, and the proof that a model keeps them apart.

Positions begin anew with each row. From that transformers' masks know where one ends (`find_packed_sequence_indices`
of `masking_utils`), so that no token attends to another row. The first token of a row is its prompt's and is never
learned, so that no row learns how the next one begins.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cos_assets.training.data import IGNORE, Collator, Row


class Packer(Collator):
    """Rows to tensors `input_ids`, `position_ids` and `labels`, several rows to a line where that saves work; else as
    `Collator` has them. `limit` and `hidden`: see `pack`."""

    def __init__(self, pad: int, limit: int | None, hidden: int) -> None:
        super().__init__(pad)
        self.limit, self.hidden = limit, hidden

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        lines = pack(rows, self.limit, self.hidden)
        return packed(lines, self.pad) if len(lines) < len(rows) else super().__call__(rows)


def pack(rows: Sequence[Row], limit: int | None, hidden: int) -> list[list[Row]]:
    """Deal rows into lines that are the least work; at a tie there are more, shorter ones.

    A token of a line with n tokens takes 24·hidden² FLOPs a layer in the weights and 4·hidden·n in attention, which
    looks at the whole line. A line is at most twice as long as the longest row, for attention's memory may grow with
    its square, and at most `limit` tokens where the model's context is that.
    """

    def work(count: int, length: int) -> float:
        return count * length * (1 + length / (6 * hidden))

    longest = max(map(len, rows))
    most = 2 * longest if limit is None else max(longest, min(2 * longest, limit))
    longest_first = sorted(rows, key=len, reverse=True)
    best, least = [[row] for row in rows], work(len(rows), longest)
    fewest = math.ceil(sum(map(len, rows)) / most)
    every = max(1, (len(rows) - fewest) // 32)  # of hundreds of rows the next number of lines is hardly better
    for count in range(len(rows) - 1, fewest - 1, -every):
        lines = _deal(longest_first, count)
        length = max(sum(map(len, line)) for line in lines)
        if length <= most and work(count, length) < least:
            best, least = lines, work(count, length)
    return best


def _deal(longest_first: Sequence[Row], count: int) -> list[list[Row]]:
    """Each row goes to the line that is shortest so far (Graham 1969: at most 4/3 of the best longest line)."""
    lines: list[list[Row]] = [[] for _ in range(count)]
    heap = [(0, number) for number in range(count)]
    for row in longest_first:
        length, number = heap[0]
        lines[number].append(row)
        heapq.heapreplace(heap, (length + len(row), number))
    return lines


def packed(lines: Sequence[Sequence[Row]], pad: int) -> dict[str, Any]:
    """Lines of rows to tensors `input_ids`, `position_ids` and `labels`, each (lines, longest line).

    There is no attention mask, as the positions stand for it; the padding behind a line counts as a row of its own.
    """
    import torch

    shape = len(lines), max(sum(map(len, line)) for line in lines)
    ids = np.full(shape, pad, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORE, dtype=np.int64)
    for i, line in enumerate(lines):
        end = 0
        for row in line:
            start, end = end, end + len(row)
            ids[i, start:end] = row.ids
            positions[i, start:end] = np.arange(len(row))
            labels[i, start + row.prompt : end] = row.ids[row.prompt :]
        positions[i, end:] = np.arange(shape[1] - end)
    batch = {"input_ids": ids, "position_ids": positions, "labels": labels}
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def check(model: Any, rows: Sequence[Row], pad: int, name: str) -> None:
    """Raise ValueError if the model's losses on `rows` change by more than rounding when these are packed.

    Architectures are not told apart by name: state-space layers, positions that are not taken from `position_ids` and
    attention without these masks show in the losses. Draws no random numbers.
    """
    import torch

    if len(rows) < 2:
        return
    lines = [rows[:2], rows[2:]] if len(rows) > 2 else [rows]
    model.eval()
    model.config.use_cache = False  # with a cache the positions are not looked at; the Trainer turns it off as well
    with torch.no_grad():
        alone, eps = _losses(model, Collator(pad)(rows))
        try:
            together, _ = _losses(model, packed(lines, pad))
        except TypeError:
            raise ValueError(f"packing: {name} takes no position_ids; leave it out") from None
    off = (alone - together).square().mean().sqrt().item()
    if not off <= math.sqrt(eps):  # half of the digits; NaN is no good, either
        raise ValueError(
            f"packing: {name} does not keep packed rows apart: the losses of their tokens, {alone.mean().item():.4g} "
            f"nats on average, change by {off:.2g}; leave it out"
        )


def _losses(model: Any, batch: dict[str, Any]) -> tuple[Any, float]:
    """The loss of each learned token, row by row, and the precision in which it was computed."""
    import torch
    from torch.nn.functional import cross_entropy

    labels = batch.pop("labels")[:, 1:].to(model.device)
    logits = model(**{key: tensor.to(model.device) for key, tensor in batch.items()}).logits[:, :-1]
    losses = cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORE, reduction="none")
    return losses[labels != IGNORE], torch.finfo(logits.dtype).eps
