"""Faster decoding with transformers on the processor: a cache that grows in place, and grouped attention.

The cache of transformers copies all keys and values with every token. Here room for `_ROOM` more tokens is set aside,
and filled in place. Its attention repeats the keys and values for all query heads that share them, and computes one
query at a time, which takes most of the time of a step. Here these query heads are the queries of one head.

Both round differently from transformers' own, so they are used only where samples depend on the batch anyway (see
`decoding.independent`).
"""

from __future__ import annotations

from functools import cache
from typing import Any

_GROUPED = "cos_grouped_sdpa"
_ROOM = 64


def new_cache(config: Any) -> Any:
    """Return an empty cache for a model with this configuration.

    Layers with a sliding window, or with another cache of their own, keep it.

    Examples
    --------
    >>> from transformers import LlamaConfig
    >>> [type(layer).__name__ for layer in new_cache(LlamaConfig(num_hidden_layers=1)).layers]
    ['GrowingLayer']
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    found = DynamicCache(config=config)
    found.layers = [_growing()() if type(layer) is DynamicLayer else layer for layer in found.layers]
    return found


@cache
def _growing() -> type:
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):
        """`keys` and `values` are views of the filled part of larger tensors."""

        keys: Any
        values: Any
        _whole: list[Any] | None = None

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            length = self.get_seq_length()
            end = length + key_states.shape[-2]
            new, old = (key_states, value_states), (self.keys, self.values)
            # Selecting or reordering rows makes tensors without room.
            if self._whole is None or end > self._whole[0].shape[-2] or old[0].data_ptr() != self._whole[0].data_ptr():
                self._whole = [each.new_empty((*each.shape[:2], end + _ROOM, each.shape[-1])) for each in new]
                for whole, before in zip(self._whole, old, strict=True):
                    whole[:, :, :length] = before if length else 0
            for whole, more in zip(self._whole, new, strict=True):
                whole[:, :, length:end] = more
            self.keys, self.values = (whole[:, :, :end] for whole in self._whole)
            return self.keys, self.values

    return GrowingLayer


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
