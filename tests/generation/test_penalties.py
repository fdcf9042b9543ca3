"""Sampling parameters of engine transformers equal those of transformers' own processors and of vLLM's formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TopPLogitsWarper

from cos_assets.generation.engines.transformers.drawing import draw, penalized
from cos_assets.generation.types import Sampling

VOCABULARY, ROWS = 2000, 6


@pytest.fixture
def logits() -> Any:
    return torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture
def tokens() -> tuple[Any, Any]:
    """Prompts and drawn tokens, some of which occur in both, or several times."""
    made = torch.Generator().manual_seed(1)
    return torch.randint(20, (ROWS, 8), generator=made), torch.randint(10, 30, (ROWS, 12), generator=made)


def test_the_repetition_penalty_equals_that_of_transformers(logits: Any, tokens: tuple[Any, Any]) -> None:
    expected = RepetitionPenaltyLogitsProcessor(1.3)(torch.cat(tokens, 1), logits.clone())
    assert torch.equal(penalized(logits, *tokens, Sampling(repetition_penalty=1.3)), expected)


def test_presence_and_frequency_penalties_count_drawn_tokens_only(logits: Any, tokens: tuple[Any, Any]) -> None:
    counts = torch.stack([torch.bincount(row, minlength=VOCABULARY) for row in tokens[1]])
    expected = logits - 0.25 * counts - 1.5 * (counts > 0)
    found = penalized(logits, *tokens, Sampling(frequency_penalty=0.25, presence_penalty=1.5))
    torch.testing.assert_close(found, expected)


def test_penalties_apply_before_the_first_token(logits: Any, tokens: tuple[Any, Any]) -> None:
    none = tokens[1][:, :0]
    assert torch.equal(penalized(logits, tokens[0], none, Sampling(presence_penalty=1.0)), logits)


def shares(logits: Any, sampling: Sampling, draws: int = 4000) -> np.ndarray:
    """The share of the draws that each token of the first row gets."""
    uniforms = (torch.arange(draws, dtype=torch.float64)[:, None] + 0.5) / draws
    found = draw(logits[:1].expand(draws, -1), uniforms, sampling)
    return np.bincount(found.numpy(), minlength=VOCABULARY) / draws


@pytest.mark.parametrize(
    ("sampling", "warper"),
    [
        (Sampling(temperature=1.0, top_p=0.6), TopPLogitsWarper(0.6)),
        (Sampling(temperature=1.0, top_p=0.999), TopPLogitsWarper(0.999)),
        (Sampling(temperature=1.0, min_p=0.1), MinPLogitsWarper(0.1)),
    ],
    ids=["top-p", "top-p of more tokens than are likely", "min-p"],
)
def test_restrictions_draw_from_the_distribution_of_transformers(logits: Any, sampling: Sampling, warper: Any) -> None:
    if sampling.top_p == 0.999:
        logits = logits / 10  # flat: hundreds of tokens are needed
    expected = warper(None, logits[:1].double()).softmax(-1)[0].numpy()
    found = shares(logits, sampling)
    assert np.abs(found - expected).max() <= 1 / 4000 + 1e-9
    assert ((found > 0) <= (expected > 0)).all()


def test_a_row_does_not_depend_on_whether_another_needs_more_tokens(logits: Any) -> None:
    uniforms = torch.rand(ROWS, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mixed = torch.cat([logits[:3], logits[3:] / 50])
    together = draw(mixed, uniforms, Sampling(temperature=1.0, top_p=0.9))
    alone = [draw(mixed[n : n + 1], uniforms[n : n + 1], Sampling(temperature=1.0, top_p=0.9)) for n in range(ROWS)]
    assert together.tolist() == torch.cat(alone).tolist()
