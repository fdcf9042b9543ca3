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
from cos_assets.generation.types import Request, Sampling

_FEWEST_ROWS = 16
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

    Attributes
    ----------
    tokens : numpy.ndarray [jobs, max room], int64
        The drawn tokens of every job, up to column `at`. The last call of `advance` wrote columns `before` to `at`.
    rows : numpy.ndarray
        The indices of the unfinished jobs; `room` holds their token limits.
    """

    def __init__(self, network: Any, jobs: list[Job], padded: int, sampling: Sampling) -> None:
        import torch
        from transformers import DynamicCache

        self.jobs = jobs
        self.rows = np.arange(len(jobs))
        self.room = np.array([job.room for job in jobs])
        self.tokens = np.zeros((len(jobs), self.room.max()), np.int64)
        self.before = self.at = 0
        self._network, self._sampling, self._padded = network, sampling, padded
        self._accepted = inspect.signature(network.forward).parameters
        self._cache = DynamicCache(config=network.config)

        seen: dict[str, int] = {}
        self._of_prompt = _enough(np.array([seen.setdefault(job.request.prompt, len(seen)) for job in jobs]))
        prompts = list({job.request.prompt: job.prompt for job in jobs}.values())
        prompts = [prompts[i] for i in _enough(np.arange(len(prompts)))]
        lengths = torch.tensor([len(ids) for ids in prompts])
        columns = torch.arange(padded + self.tokens.shape[1])
        device = network.device
        self._mask = (columns >= padded - lengths[:, None]).long().to(device)
        self._length = lengths[:, None].to(device)
        self._next = torch.tensor([[0] * (padded - len(ids)) + ids for ids in prompts], device=device)
        self._uniforms = None
        if sampling.temperature > 0:
            keys = [sample_seed(sampling.seed, jobs[i].request.prompt, jobs[i].index) for i in _enough(self.rows)]
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
                token = draw(logits, uniforms, self._sampling)
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
                index = self._select(_enough(live))
                self._next = self._next[index]
                if self._uniforms is not None:
                    self._uniforms = self._uniforms[index]

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


def draw(logits: Any, uniforms: Any, sampling: Sampling) -> Any:
    """Draw one token per row by inverse transform sampling.

    Temperature, top-k and top-p are applied in this order, as in vLLM: top-p is applied to the tokens that top-k keeps.
    Top-p keeps the most probable tokens until their sum reaches it.

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
    elif sampling.top_p < 1:
        logits, ids = logits.sort(dim=-1, descending=True, stable=True)
    logits = logits.double()
    weights = ((logits - logits.amax(-1, keepdim=True)) / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        before = weights.cumsum(-1) - weights
        weights = weights.masked_fill(before >= sampling.top_p, 0)
    cumulative = weights.cumsum(-1)
    # 1 - u is in (0, 1], so the first token whose cumulative sum reaches it never has weight 0.
    chosen = torch.searchsorted(cumulative, (1 - uniforms) * cumulative[:, -1:])
    return (chosen if ids is None else ids.gather(-1, chosen))[:, 0]


def _enough(positions: np.ndarray) -> np.ndarray:
    """Pad the positions to the minimum number of rows by repeating the last one."""
    return np.pad(positions, (0, max(0, _FEWEST_ROWS - len(positions))), mode="edge")
