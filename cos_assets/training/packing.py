"""Sequence packing: concatenate rows to avoid padding, and check that a model keeps packed rows apart.

Positions restart at 0 with each row. From the positions, transformers builds attention masks in which no token attends
to another row (`find_packed_sequence_indices` of `masking_utils`). The first token of a row belongs to its prompt and
has no label, so the end of a row is not trained to predict the start of the next one.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cos_assets.training.data import IGNORE, Collator, Row


class Packer(Collator):
    """Collate rows to tensors `input_ids`, `position_ids` and `labels`, with several rows per line.

    If packing saves no work, the result is that of `Collator`. `limit` and `hidden`: see `pack`.
    """

    def __init__(self, pad: int, limit: int | None, hidden: int) -> None:
        super().__init__(pad)
        self.limit, self.hidden = limit, hidden

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        lines = pack(rows, self.limit, self.hidden)
        return packed(lines, self.pad) if len(lines) < len(rows) else super().__call__(rows)


def pack(rows: Sequence[Row], limit: int | None, hidden: int) -> list[list[Row]]:
    """Distribute rows over lines so that the batch takes the least work. At a tie there are more, shorter lines.

    In a line of n tokens, each token takes 24·hidden² FLOPs per layer for the weights and 4·hidden·n for attention,
    which covers the whole line. A line is at most twice as long as the longest row, because the memory of attention may
    grow with the square of the length. It has at most `limit` tokens, the model's context (None: no limit).
    """

    def work(count: int, length: int) -> float:
        return count * length * (1 + length / (6 * hidden))

    longest = max(map(len, rows))
    most = 2 * longest if limit is None else max(longest, min(2 * longest, limit))
    longest_first = sorted(rows, key=len, reverse=True)
    best, least = [[row] for row in rows], work(len(rows), longest)
    fewest = math.ceil(sum(map(len, rows)) / most)
    every = max(1, (len(rows) - fewest) // 32)  # with hundreds of rows, adjacent counts hardly differ
    for count in range(len(rows) - 1, fewest - 1, -every):
        lines = _deal(longest_first, count)
        length = max(sum(map(len, line)) for line in lines)
        if length <= most and work(count, length) < least:
            best, least = lines, work(count, length)
    return best


def _deal(longest_first: Sequence[Row], count: int) -> list[list[Row]]:
    """Put each row into the shortest line so far (Graham 1969: the longest line is at most 4/3 of the optimum)."""
    lines: list[list[Row]] = [[] for _ in range(count)]
    heap = [(0, number) for number in range(count)]
    for row in longest_first:
        length, number = heap[0]
        lines[number].append(row)
        heapq.heapreplace(heap, (length + len(row), number))
    return lines


def packed(lines: Sequence[Sequence[Row]], pad: int) -> dict[str, Any]:
    """Convert lines of rows to tensors `input_ids`, `position_ids` and `labels`, each of shape (lines, longest line).

    The positions replace the attention mask. The padding at the end of a line has positions like a row of its own.
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
            labels[i, start:end] = row.labels
        positions[i, end:] = np.arange(shape[1] - end)
    batch = {"input_ids": ids, "position_ids": positions, "labels": labels}
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def check(model: Any, rows: Sequence[Row], pad: int, name: str) -> None:
    """Raise ValueError if packing changes the model's losses on `rows` by more than rounding errors.

    The check does not depend on the name of the architecture. State-space layers, positions that are not taken from
    `position_ids` and attention without these masks all change the losses. Draws no random numbers.
    """
    import torch

    if len(rows) < 2:
        return
    lines = [rows[:2], rows[2:]] if len(rows) > 2 else [rows]
    model.eval()
    model.config.use_cache = False  # with a cache the positions are ignored; the Trainer turns it off as well
    with torch.no_grad():
        alone, eps = _losses(model, Collator(pad)(rows))
        try:
            together, _ = _losses(model, packed(lines, pad))
        except TypeError:
            raise ValueError(f"packing: {name} does not accept position_ids; leave it out") from None
    off = (alone - together).square().mean().sqrt().item()
    if not off <= math.sqrt(eps):  # agreement in half of the digits; NaN fails, too
        raise ValueError(
            f"packing: {name} does not keep packed rows apart: packing changes the losses of tokens by {off:.2g} nats "
            f"(their mean is {alone.mean().item():.4g}); leave it out"
        )


def _losses(model: Any, batch: dict[str, Any]) -> tuple[Any, float]:
    """Return the loss of each labeled token, row by row, and the machine epsilon of the logits' dtype."""
    import torch
    from torch.nn.functional import cross_entropy

    labels = batch.pop("labels")[:, 1:].to(model.device)
    logits = model(**{key: tensor.to(model.device) for key, tensor in batch.items()}).logits[:, :-1]
    losses = cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORE, reduction="none")
    return losses[labels != IGNORE], torch.finfo(logits.dtype).eps
