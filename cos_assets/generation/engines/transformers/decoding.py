"""Batched decoding with a transformers model: the arithmetic of engine `transformers`.

A row of a matrix product has the same bits in every batch of 16 or more rows (one CPU thread, float32, measured for
widths from 32 to 4,864). With fewer rows another kernel is used: below 4 rows on AMD processors, below 16 on Intel
processors with AVX512. Attention works row by row. A batch is therefore padded to at least 16 rows, so that a sample
does not depend on the other rows.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from cos_assets.generation.completions import sample_seed
from cos_assets.generation.engines.transformers import caches
from cos_assets.generation.engines.transformers.drawing import draw, penalized, penalizes
from cos_assets.generation.types import Request, Sampling

_FEWEST_ROWS = 16  # where a sample must not depend on the others
_NO_TOKEN = -1


@dataclass(frozen=True, slots=True)
class Job:
    """One sample to draw.

    Attributes
    ----------
    request, index : Request, int
        The sample.
    prompt : list of int
        The tokens of the prompt.
    room : int
        Maximum number of tokens: max_tokens, or what is left of the model's context if that is less.
    """

    request: Request
    index: int
    prompt: list[int]
    room: int


@dataclass(frozen=True)
class ReasoningLimit:
    """A maximum of reasoning tokens, after which the closing tag is forced.

    Attributes
    ----------
    budget : int
        Number of tokens of the completion after which the reasoning ends.
    opening, closing : list of int
        The tokens of the tags. Without `opening` the completion starts inside the reasoning.
    """

    budget: int
    opening: list[int]
    closing: list[int]


class Batch:
    """Samples that are decoded together, one token per row and step.

    The tokens of a row end in the last column of the cache; shorter rows are padded on the left. If there are fewer
    than 16 rows and samples must not depend on each other, copies of the last row are added, and their tokens are
    discarded.

    Parameters
    ----------
    network : transformers.PreTrainedModel
        A causal language model with a key-value cache, in evaluation mode.
    sampling : Sampling
        The sampling parameters.
    limit : ReasoningLimit, optional
        A maximum of reasoning tokens.

    Attributes
    ----------
    jobs : list of Job
        The samples of the rows, until `keep_live` removes them.
    live : numpy.ndarray [rows], bool
        The rows that are not finished. The caller marks those that are.
    shared : numpy.ndarray [rows], bool
        Whether the prompt of a row was processed for an earlier row.
    tokens : numpy.ndarray [rows, max_tokens], int64
        The drawn tokens of every row, up to column `counts`. The caller notes in `before` which ones it has examined.
    room : numpy.ndarray [rows]
        The maximum number of tokens of every row.
    joins : bool
        Whether samples can be added to those that are under way: where samples may depend on each other, and all layers
        keep their whole cache.
    """

    def __init__(self, network: Any, sampling: Sampling, limit: ReasoningLimit | None = None) -> None:
        self._network, self._sampling, self._limit = network, sampling, limit
        self._accepted = inspect.signature(network.forward).parameters
        self._alone = independent(network)
        self.joins = not self._alone and caches.joinable(self._new_cache())
        self.jobs: list[Job] = []
        self.live = self.shared = np.zeros(0, bool)
        self.room = self.counts = self.before = np.zeros(0, np.int64)
        self.tokens = np.zeros((0, sampling.max_tokens), np.int64)
        self._rows: _Rows | None = None
        self._cache: Any = None
        self._width = 0  # columns of the cache

    def admit(self, jobs: list[Job], padded: int) -> None:
        """Process the prompts of more samples, and draw the first token of each.

        Parameters
        ----------
        jobs : list of Job
            The samples, at least one. If there are unfinished ones already, `joins` must hold.
        padded : int
            The length to which prompts are padded on the left, at least that of the longest one.

        Raises
        ------
        ValueError
            If the logits of a prompt are not numbers (NaN), as can happen in half precision.
        """
        import torch

        with torch.inference_mode():
            cache = self._new_cache()
            logits, rows = self._prompted(jobs, padded, cache)
            rows = self._drawn(logits, rows)
            drawn, new = rows.next[: len(jobs)].cpu().numpy(), len(jobs)
            if self._rows is None:
                self._rows, self._cache, self._width = rows, cache, padded
            else:
                self._rows, self._width = self._rows.joined(rows), max(self._width, padded)
                caches.join(self._cache, cache)
        self.jobs += jobs
        self.live = np.append(self.live, np.ones(new, bool))
        first = {job.request.prompt: number for number, job in reversed(list(enumerate(jobs)))}
        self.shared = np.append(self.shared, [first[job.request.prompt] < number for number, job in enumerate(jobs)])
        self.room = np.append(self.room, [job.room for job in jobs])
        self.before = np.append(self.before, np.zeros(new, np.int64))
        self.counts = np.append(self.counts, np.ones(new, np.int64))
        tokens = np.zeros((new, self.tokens.shape[1]), np.int64)
        tokens[:, :1] = drawn
        self.tokens = np.concatenate([self.tokens, tokens])

    def advance(self, steps: int) -> None:
        """Draw up to `steps` more tokens for every row, and store those of unfinished rows in `tokens`."""
        import torch

        steps = min(steps, int((self.room - self.counts)[self.live].max(initial=0)))
        if not steps:
            return
        assert self._rows is not None
        rows, drawn = self._rows, []
        with torch.inference_mode():
            ahead = torch.arange(steps, device=rows.next.device)
            positions = torch.minimum(rows.length + rows.count - 1 + ahead, rows.last)
            mask = _mask(self._width + steps, self._width + 1 - rows.length - rows.count)
            for step in range(steps):
                self._width += 1
                logits = self._forward(rows.next, mask[:, : self._width], positions[:, step : step + 1], self._cache)
                rows = self._drawn(logits, rows)
                drawn.append(rows.next)
            block = torch.cat(drawn, 1).cpu().numpy()[: len(self.jobs)]
        self._rows = rows
        columns = self.counts[:, None] + np.arange(steps)
        written = self.live[:, None] & (columns < self.room[:, None])
        self.tokens[np.nonzero(written)[0], columns[written]] = block[written]
        self.counts = np.minimum(self.counts + steps, self.room)

    def keep_live(self) -> None:
        """Remove the finished rows, and the columns of the cache that only they used."""
        import torch

        live = np.flatnonzero(self.live)
        if len(live) == len(self.jobs):
            return
        self.jobs = [self.jobs[position] for position in live]
        self.live, self.shared, self.tokens = self.live[live], self.shared[live], self.tokens[live]
        self.room, self.counts, self.before = self.room[live], self.counts[live], self.before[live]
        if not len(live):
            self._rows = self._cache = None
            return
        assert self._rows is not None
        with torch.inference_mode():
            index = self._index(self._enough(live))
            self._rows = self._rows.selected(index)
            if self._rows.drawn is not None:
                self._rows.drawn = self._rows.drawn[:, -int(self.counts.max()) :]
            # The last token of a row is not in the cache yet.
            if self.joins:
                lengths = [len(job.prompt) for job in self.jobs]
                self._width = int((self.counts - 1 + lengths).max())
            caches.select(self._cache, index, self._width if self.joins else None)

    def _prompted(self, jobs: list[Job], padded: int, cache: Any) -> tuple[Any, _Rows]:
        """Run every prompt once, copy its cache for its samples, and return the logits and the state of the rows."""
        import torch

        device = self._network.device
        seen: dict[str, int] = {}
        of_prompt = self._enough(np.array([seen.setdefault(job.request.prompt, len(seen)) for job in jobs]))
        prompts = list({job.request.prompt: job.prompt for job in jobs}.values())
        prompts = [prompts[i] for i in self._enough(np.arange(len(prompts)))]
        tokens = torch.tensor([[0] * (padded - len(ids)) + ids for ids in prompts], device=device)
        lengths = torch.tensor([[len(ids)] for ids in prompts], device=device)
        rows = _Rows(tokens, lengths, torch.zeros_like(lengths), lengths)
        mask = _mask(padded, padded - lengths)
        logits = self._forward(tokens, mask, (mask.cumsum(1) - 1).clamp(min=0), cache)
        if bool(torch.isnan(logits).any()):
            raise ValueError("model: the model computes NaN logits; try engine_options: {dtype: float32}")
        index = self._index(of_prompt)
        caches.select(cache, index, None)
        every = [jobs[i] for i in self._enough(np.arange(len(jobs)))]
        rows = rows.selected(index)
        rows.last = rows.length + torch.tensor([[job.room] for job in every], device=device) - 1
        if self._sampling.temperature > 0:
            keys = [sample_seed(self._sampling.seed, job.request.prompt, job.index) for job in every]
            numbers = [np.random.Generator(np.random.Philox(key=k)).random(self.tokens.shape[1]) for k in keys]
            rows.uniforms = torch.from_numpy(np.stack(numbers)).to(device)
        if self._limit or penalizes(self._sampling):
            rows.prompts = torch.tensor([[_NO_TOKEN] * (padded - len(job.prompt)) + job.prompt for job in every])
            rows.prompts = rows.prompts.to(device)
            rows.drawn = rows.prompts[:, :0]
        if self._limit:
            rows.forced = torch.zeros(len(every), dtype=torch.int64, device=device)
            rows.begun = torch.full((len(every),), not self._limit.opening, device=device)
            rows.ended = torch.zeros(len(every), dtype=torch.bool, device=device)
        return logits[index], rows

    def _forward(self, tokens: Any, mask: Any, positions: Any, cache: Any) -> Any:
        """Return the logits [rows, vocabulary] of the next token, after tokens [rows, length] that the cache lacks."""
        extra = {"position_ids": positions, "logits_to_keep": 1}
        return self._network(
            input_ids=tokens,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **{name: value for name, value in extra.items() if name in self._accepted},
        ).logits[:, -1]

    def _drawn(self, logits: Any, rows: _Rows) -> _Rows:
        """Return the rows with one more token each."""
        import torch

        uniforms = None
        if rows.uniforms is not None:
            uniforms = rows.uniforms.gather(1, rows.count.clamp(max=rows.uniforms.shape[1] - 1))
        if penalizes(self._sampling):
            logits = penalized(logits, rows.prompts, rows.drawn, self._sampling)
        token = draw(logits, uniforms, self._sampling)
        if self._limit:
            token = _limited(token, rows, self._limit)
        drawn = None if rows.drawn is None else torch.cat([rows.drawn, token[:, None]], 1)
        rows = replace(rows, next=token[:, None], count=rows.count + 1, drawn=drawn)
        if self._limit:
            _note_tags(rows, self._limit)
        return rows

    def _new_cache(self) -> Any:
        return caches.new(self._network.config, not self._alone and self._network.device.type == "cpu")

    def _enough(self, positions: np.ndarray) -> np.ndarray:
        """Pad the positions to the minimum number of rows by repeating the last one."""
        return np.pad(positions, (0, max(0, (_FEWEST_ROWS if self._alone else 1) - len(positions))), mode="edge")

    def _index(self, positions: np.ndarray) -> Any:
        import torch

        return torch.from_numpy(positions).to(self._network.device)


@dataclass
class _Rows:
    """The state of the rows on the device: tensors whose first dimension is the rows. Optional ones may be unused.

    Attributes
    ----------
    next : torch.Tensor [rows, tokens]
        The tokens that the cache does not have yet: the prompt, padded on the left, or the token drawn last.
    length, count, last : torch.Tensor [rows, 1]
        The tokens of the prompt, those drawn, and the last position that a row may reach.
    uniforms : torch.Tensor [rows, max_tokens], float64, optional
        The random numbers of the row's tokens.
    prompts, drawn : torch.Tensor [rows, tokens], optional
        The tokens of the prompt and those drawn, padded on the left with `_NO_TOKEN`.
    begun, ended, forced : torch.Tensor [rows], optional
        Whether the reasoning has begun and ended, and how many tokens of its closing tag were forced.
    """

    next: Any
    length: Any
    count: Any
    last: Any
    uniforms: Any = None
    prompts: Any = None
    drawn: Any = None
    begun: Any = None
    ended: Any = None
    forced: Any = None

    def selected(self, index: Any) -> _Rows:
        return _Rows(*(None if value is None else value[index] for value in self._values()))

    def joined(self, other: _Rows) -> _Rows:
        """Return the rows of both."""
        import torch
        from torch.nn.functional import pad

        def both(one: Any, two: Any) -> Any:
            if one is None:
                return None
            if one.dim() == 1:
                return torch.cat([one, two])
            width = max(one.shape[1], two.shape[1])
            return torch.cat([pad(each, (width - each.shape[1], 0), value=_NO_TOKEN) for each in (one, two)])

        return _Rows(*(both(one, two) for one, two in zip(self._values(), other._values(), strict=True)))

    def _values(self) -> list[Any]:
        return [getattr(self, field.name) for field in fields(self)]


def independent(network: Any) -> bool:
    """Return whether a sample depends on nothing beside it: in float32, on one thread of the processor.

    Examples
    --------
    >>> import torch
    >>> independent(torch.nn.Linear(1, 1, dtype=torch.bfloat16))
    False
    """
    import torch

    weight = next(network.parameters())
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.get_num_threads() == 1


def _mask(columns: int, first: Any) -> Any:
    """Return a mask [rows, columns] that is 1 from column `first` [rows, 1] on."""
    import torch

    return (torch.arange(columns, device=first.device) >= first).long()


def _limited(token: Any, rows: _Rows, limit: ReasoningLimit) -> Any:
    """Replace the tokens of rows whose budget is used up by those of the closing tag."""
    import torch

    closing = torch.tensor(limit.closing, device=token.device)
    over = rows.begun & ~rows.ended & (rows.count[:, 0] >= limit.budget + len(limit.opening))
    forced = closing[rows.forced.clamp(max=len(closing) - 1)]
    rows.forced = rows.forced + over
    return forced.where(over, token)


def _note_tags(rows: _Rows, limit: ReasoningLimit) -> None:
    """Note the tags at the end of the drawn tokens."""
    rows.begun = rows.begun | _ends_with(rows.drawn, limit.opening)
    rows.ended = rows.ended | (rows.begun & _ends_with(rows.drawn, limit.closing))


def _ends_with(drawn: Any, tag: list[int]) -> Any:
    import torch

    if not tag or drawn.shape[1] < len(tag):
        return drawn.new_zeros(len(drawn), dtype=torch.bool)
    return (drawn[:, -len(tag) :] == torch.tensor(tag, device=drawn.device)).all(1)
