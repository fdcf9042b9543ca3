"""Drawing the next token from the scores of a model: penalties, temperature, min-p, top-k and top-p."""

from __future__ import annotations

from typing import Any

from cos_assets.generation.types import Sampling

_LIKELY = 256  # tokens among which top-p usually finds enough; sorting a whole vocabulary takes ten times as long
_DRAW_CELLS = 1 << 24  # rows x vocabulary in float64 at once


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
        The tokens of the prompt and those drawn so far. Negative numbers are padding.
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
        seen = torch.where(seen < 0, seen.amax(1, keepdim=True), seen)
        scores, penalty = logits.gather(1, seen), sampling.repetition_penalty
        logits = logits.scatter(1, seen, torch.where(scores < 0, scores * penalty, scores / penalty))
    tokens, there = drawn.clamp(min=0), (drawn >= 0).to(logits.dtype)
    if sampling.frequency_penalty:
        logits = logits.scatter_add(1, tokens, -sampling.frequency_penalty * there)
    if sampling.presence_penalty:
        occurs = torch.zeros_like(logits).scatter_reduce(1, tokens, there, "amax")
        logits = logits - sampling.presence_penalty * occurs
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
