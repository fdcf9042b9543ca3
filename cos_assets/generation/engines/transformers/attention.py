"""Faster attention with transformers on the processor.

The attention of transformers repeats the keys and values for all query heads that share them, and computes one query at
a time, which takes most of the time of a step. Here these query heads are the queries of one head. This rounds
differently, so it is used only where samples depend on the batch anyway (see `decoding.independent`).
"""

from __future__ import annotations

from typing import Any

_GROUPED = "cos_grouped_sdpa"


def use_grouped_attention(network: Any) -> None:
    """Let a network that uses torch's scaled dot-product attention on the processor use grouped attention."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if network.device.type == "cpu" and network.config._attn_implementation == "sdpa":
        ALL_ATTENTION_FUNCTIONS.register(_GROUPED, _grouped)
        ALL_MASK_ATTENTION_FUNCTIONS.register(_GROUPED, sdpa_mask)
        network.set_attn_implementation(_GROUPED)


def _grouped(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **given: Any) -> tuple[Any, Any]:
    """Attend to keys and values [rows, key heads, length, size]; see `sdpa_attention_forward`."""
    from torch.nn.functional import scaled_dot_product_attention
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    rows, heads, length, size = query.shape
    groups, own = key.shape[1], (given.get("position_bias"), given.get("cache"))
    if length > 1 or own != (None, None) or (attention_mask is not None and attention_mask.shape[1] > 1):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **given)
    mask = None if attention_mask is None else attention_mask.expand(rows, 1, heads // groups, -1)
    out = scaled_dot_product_attention(
        query.reshape(rows, groups, heads // groups, size), key, value, attn_mask=mask, scale=given.get("scaling")
    )
    return out.reshape(rows, 1, heads, value.shape[-1]), None
