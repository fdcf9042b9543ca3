"""Batched decoding with a transformers model: the arithmetic of engine `transformers`.

A row of a matrix product has the same bits in every batch of 16 or more rows (one CPU thread, float32, measured for
widths from 32 to 4,864). With fewer rows another kernel is used: below 4 rows on AMD processors, below 16 on Intel
processors with AVX512. Attention works row by row. A batch is therefore padded to at least 16 rows, so that a sample
does not depend on the other rows.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np

from cos_assets.generation.completions import sample_seed
from cos_assets.generation.cpu_decoding import new_cache
from cos_assets.generation.types import Request, Sampling

_FEWEST_ROWS = 16  # where a sample must not depend on the others
_LIKELY = 256  # tokens among which top-p usually finds enough; sorting a whole vocabulary takes ten times as long
_DRAW_CELLS = 1 << 24  # rows x vocabulary in float64 at once


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
    """Samples that are decoded in lockstep, from prompts of one padded length.

    The network processes the unfinished rows; if there are fewer than 16, copies of the last row are added, and their
    tokens are discarded.

    Parameters
    ----------
    network : transformers.PreTrainedModel
        A causal language model with a key-value cache, in evaluation mode.
    jobs : list of Job
        The samples, at least one.
    padded : int
        The length to which prompts are padded on the left, at least that of the longest one.
    sampling : Sampling
        The sampling parameters.
    limit : ReasoningLimit, optional
        A maximum of reasoning tokens.

    Attributes
    ----------
    tokens : numpy.ndarray [jobs, max room], int64
        The drawn tokens of every job, up to column `at`. The last call of `advance` wrote columns `before` to `at`.
    rows : numpy.ndarray
        The indices of the unfinished jobs; `room` holds their token limits.
    """

    def __init__(
        self, network: Any, jobs: list[Job], padded: int, sampling: Sampling, limit: ReasoningLimit | None = None
    ) -> None:
        import torch
        from transformers import DynamicCache

        alone = independent(network)
        self._fewest = _FEWEST_ROWS if alone else 1
        self.jobs = jobs
        self.rows = np.arange(len(jobs))
        self.room = np.array([job.room for job in jobs])
        self.tokens = np.zeros((len(jobs), self.room.max()), np.int64)
        self.before = self.at = 0
        self._network, self._sampling, self._padded = network, sampling, padded
        self._accepted = inspect.signature(network.forward).parameters
        on_gpu = network.device.type != "cpu"
        self._cache = DynamicCache(config=network.config) if alone or on_gpu else new_cache(network.config)

        seen: dict[str, int] = {}
        self._of_prompt = self._enough(np.array([seen.setdefault(job.request.prompt, len(seen)) for job in jobs]))
        prompts = list({job.request.prompt: job.prompt for job in jobs}.values())
        prompts = [prompts[i] for i in self._enough(np.arange(len(prompts)))]
        lengths = torch.tensor([len(ids) for ids in prompts])
        columns = torch.arange(padded + self.tokens.shape[1])
        device = network.device
        self._mask = (columns >= padded - lengths[:, None]).long().to(device)
        self._length = lengths[:, None].to(device)
        self._next = torch.tensor([[0] * (padded - len(ids)) + ids for ids in prompts], device=device)
        self._drawn: Any = None
        self._prompts: Any = None
        if limit or penalizes(sampling):
            rows = len(self._enough(self.rows))
            self._drawn = torch.zeros((rows, self.tokens.shape[1]), dtype=torch.int64, device=device)
            self._prompts = torch.tensor([ids[:1] * (padded - len(ids)) + ids for ids in prompts], device=device)
            self._prompts = self._prompts[torch.from_numpy(self._of_prompt).to(device)]
        self._reasoning = None if limit is None else _Reasoning(limit, len(self._enough(self.rows)), device)
        self._uniforms = None
        if sampling.temperature > 0:
            keys = [sample_seed(sampling.seed, jobs[i].request.prompt, jobs[i].index) for i in self._enough(self.rows)]
            drawn = [np.random.Generator(np.random.Philox(key=k)).random(self.tokens.shape[1]) for k in keys]
            self._uniforms = torch.from_numpy(np.stack(drawn)).to(device)

    def advance(self, steps: int) -> None:
        """Draw up to `steps` more tokens for every row and store them in columns `before` to `at` of `tokens`.

        Raises
        ------
        ValueError
            If the logits of a prompt are not numbers (NaN), as can happen in half precision.
        """
        import torch

        drawn = []
        self.before, self.at = self.at, min(self.at + steps, int(self.room.max()))
        with torch.inference_mode():
            for step in range(self.before, self.at):
                logits = self._forward(step)
                if step == 0:
                    logits = logits[self._select(self._of_prompt)]
                uniforms = None if self._uniforms is None else self._uniforms[:, step : step + 1]
                if self._drawn is not None and penalizes(self._sampling):
                    logits = penalized(logits, self._prompts, self._drawn[:, :step], self._sampling)
                token = draw(logits, uniforms, self._sampling)
                if self._drawn is not None:
                    token = self._reasoning.limited(token, step) if self._reasoning else token
                    self._drawn[:, step] = token
                    if self._reasoning:
                        self._reasoning.note(self._drawn[:, : step + 1])
                self._next = token[:, None]
                drawn.append(token)
            block = torch.stack(drawn, 1).cpu().numpy()
        self.tokens[self.rows, self.before : self.at] = block[: len(self.rows)]

    def keep(self, live: np.ndarray) -> None:
        """Keep only the given positions of `rows` (integers, in increasing order)."""
        import torch

        if len(live) == len(self.rows):
            return
        self.rows, self.room = self.rows[live], self.room[live]
        if len(live):
            with torch.inference_mode():
                index = self._select(self._enough(live))
                self._next = self._next[index]
                if self._uniforms is not None:
                    self._uniforms = self._uniforms[index]
                if self._drawn is not None:
                    self._drawn, self._prompts = self._drawn[index], self._prompts[index]
                if self._reasoning:
                    self._reasoning.keep(index)

    def _enough(self, positions: np.ndarray) -> np.ndarray:
        """Pad the positions to the minimum number of rows by repeating the last one."""
        return np.pad(positions, (0, max(0, self._fewest - len(positions))), mode="edge")

    def _select(self, positions: np.ndarray) -> Any:
        """Reorder the cache to the given row positions, which may repeat, and return them as a tensor."""
        import torch

        index: Any = torch.from_numpy(positions).to(self._mask.device)
        self._cache.reorder_cache(index)
        self._mask, self._length = self._mask[index], self._length[index]
        return index

    def _forward(self, step: int) -> Any:
        """Return the logits [rows, vocabulary] of the next token, after the prompt (step 0) or after one more token."""
        import torch

        width = self._padded + step
        mask = self._mask[:, :width]
        positions = (mask.cumsum(1) - 1).clamp(min=0) if step == 0 else self._length + step - 1
        extra = {"position_ids": positions, "logits_to_keep": 1}
        logits = self._network(
            input_ids=self._next,
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
            **{name: value for name, value in extra.items() if name in self._accepted},
        ).logits[:, -1]
        if step == 0 and bool(torch.isnan(logits).any()):
            raise ValueError("model: the model computes NaN logits; try engine_options: {dtype: float32}")
        return logits


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


class _Reasoning:
    """The state of the reasoning of every row: whether it has begun and ended, and how much of its end is forced."""

    def __init__(self, limit: ReasoningLimit, rows: int, device: Any) -> None:
        import torch

        self._limit = limit
        self._opening, self._closing = (torch.tensor(ids, device=device) for ids in (limit.opening, limit.closing))
        self._begun = torch.full((rows,), not limit.opening, device=device)
        self._ended = torch.zeros(rows, dtype=torch.bool, device=device)
        self._forced = torch.zeros(rows, dtype=torch.int64, device=device)

    def limited(self, token: Any, step: int) -> Any:
        """Replace the tokens of rows whose budget is used up by those of the closing tag."""
        if step < self._limit.budget + len(self._limit.opening):
            return token
        over = self._begun & ~self._ended
        forced = self._closing[self._forced.clamp(max=len(self._closing) - 1)]
        self._forced = self._forced + over
        return forced.where(over, token)

    def note(self, drawn: Any) -> None:
        """Note the tags at the end of the drawn tokens [rows, steps]."""
        self._begun = self._begun | _ends_with(drawn, self._opening)
        self._ended = self._ended | (self._begun & _ends_with(drawn, self._closing))

    def keep(self, index: Any) -> None:
        self._begun, self._ended, self._forced = self._begun[index], self._ended[index], self._forced[index]


def _ends_with(drawn: Any, tag: Any) -> Any:
    if not len(tag) or drawn.shape[1] < len(tag):
        return drawn.new_zeros(len(drawn), dtype=bool)
    return (drawn[:, -len(tag) :] == tag).all(1)


def penalizes(sampling: Sampling) -> bool:
    """Return whether the sampling parameters change the logits of tokens that occurred before.

    Examples
    --------
    >>> penalizes(Sampling()), penalizes(Sampling(presence_penalty=1))
    (False, True)
    """
    return sampling.repetition_penalty != 1 or bool(sampling.presence_penalty or sampling.frequency_penalty)


def penalized(logits: Any, prompts: Any, drawn: Any, sampling: Sampling) -> Any:
    """Apply the penalties for tokens that occurred before, as vLLM does.

    Parameters
    ----------
    logits : torch.Tensor [rows, vocabulary]
        The scores of the next token.
    prompts, drawn : torch.Tensor [rows, length], int64
        The tokens of the prompt and those drawn so far.
    sampling : Sampling
        The penalties (see `Sampling`).

    Returns
    -------
    torch.Tensor [rows, vocabulary]
        The penalized scores.

    Examples
    --------
    >>> import torch
    >>> logits, prompts, drawn = torch.tensor([[2.0, 2.0, 2.0]]), torch.tensor([[0]]), torch.tensor([[1, 1]])
    >>> penalized(logits, prompts, drawn, Sampling(repetition_penalty=2, frequency_penalty=0.25)).tolist()
    [[1.0, 0.5, 2.0]]
    """
    import torch

    if sampling.repetition_penalty != 1:
        seen = torch.cat([prompts, drawn], 1)
        scores, penalty = logits.gather(1, seen), sampling.repetition_penalty
        logits = logits.scatter(1, seen, torch.where(scores < 0, scores * penalty, scores / penalty))
    if sampling.frequency_penalty:
        logits = logits.scatter_add(1, drawn, torch.full_like(drawn, -sampling.frequency_penalty, dtype=logits.dtype))
    if sampling.presence_penalty:
        there = torch.zeros_like(logits).scatter(1, drawn, 1.0)
        logits = logits - sampling.presence_penalty * there
    return logits


def draw(logits: Any, uniforms: Any, sampling: Sampling) -> Any:
    """Draw one token per row by inverse transform sampling.

    Temperature, min-p, top-k and top-p are applied in this order, as in vLLM: top-p is applied to the tokens that
    min-p and top-k keep. Top-p keeps the most probable tokens until their sum reaches it.

    Parameters
    ----------
    logits : torch.Tensor [rows, vocabulary]
        The scores of the next token.
    uniforms : torch.Tensor [rows, 1] or None
        Random numbers in [0, 1), in float64; not used for temperature 0.
    sampling : Sampling
        The sampling parameters.

    Returns
    -------
    torch.Tensor [rows], int64
        The drawn tokens.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[0.0, 1.0, 3.0], [2.0, 1.0, 0.0]])
    >>> uniforms = torch.tensor([[0.5], [0.1]], dtype=torch.float64)
    >>> draw(logits, None, Sampling(temperature=0)).tolist(), draw(logits, uniforms, Sampling(temperature=1)).tolist()
    ([2, 0], [2, 1])
    """
    import torch

    if sampling.temperature == 0:
        return logits.argmax(-1)
    rows = max(1, _DRAW_CELLS // logits.shape[-1])
    if sampling.top_k is None and len(logits) > rows:
        parts = zip(logits.split(rows), uniforms.split(rows), strict=True)
        return torch.cat([draw(part, u, sampling) for part, u in parts])
    ids = None
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        logits, ids = logits.topk(sampling.top_k)
    logits = logits.double()
    weights = ((logits - logits.amax(-1, keepdim=True)) / sampling.temperature).softmax(-1)
    if sampling.min_p:
        weights = weights.masked_fill(weights < sampling.min_p * weights.amax(-1, keepdim=True), 0)
        weights = weights / weights.sum(-1, keepdim=True)
    if sampling.top_p < 1 and ids is None:
        return _nucleus(weights, uniforms, sampling.top_p)
    return _chosen(weights, ids, uniforms, sampling.top_p)


def _nucleus(weights: Any, uniforms: Any, top_p: float) -> Any:
    """Draw from the most probable tokens of a whole vocabulary. Only rows that need more of them are sorted."""
    top, ids = weights.topk(min(_LIKELY, weights.shape[-1]))
    tokens = _chosen(top, ids, uniforms, top_p)
    if bool((short := top.sum(-1) < top_p).any()):
        whole, order = weights[short].sort(dim=-1, descending=True, stable=True)
        tokens[short] = _chosen(whole, order, uniforms[short], top_p)
    return tokens


def _chosen(weights: Any, ids: Any, uniforms: Any, top_p: float) -> Any:
    """Draw by weights [rows, tokens], of the tokens `ids`, which are sorted by weight if `top_p` is below 1."""
    import torch

    if top_p < 1:
        before = weights.cumsum(-1) - weights
        weights = weights.masked_fill(before >= top_p, 0)
    cumulative = weights.cumsum(-1)
    # 1 - u is in (0, 1], so the first token whose cumulative sum reaches it never has weight 0.
    chosen = torch.searchsorted(cumulative, (1 - uniforms) * cumulative[:, -1:])
    return (chosen if ids is None else ids.gather(-1, chosen))[:, 0]
