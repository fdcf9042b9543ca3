"""Key-value caches of transformers whose rows are selected, joined, and extended in place.

The cache of transformers copies all keys and values with every token. A layer that grows in place sets aside room for
`_ROOM` more tokens. It is not used where a sample must not depend on the batch (see `decoding.independent`), because
attention rounds differently over its views.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_ROOM = 64


def new(config: Any, in_place: bool) -> Any:
    """Return an empty cache for a model with this configuration.

    Layers with a sliding window, or with another state, are those of transformers, also with `in_place`.

    Examples
    --------
    >>> from transformers import LlamaConfig
    >>> [type(layer).__name__ for layer in new(LlamaConfig(num_hidden_layers=1), True).layers]
    ['GrowingLayer']
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    found = DynamicCache(config=config)
    if in_place:
        found.layers = [_growing()() if type(layer) is DynamicLayer else layer for layer in found.layers]
    return found


def joinable(given: Any) -> bool:
    """Return whether all layers of a cache keep all tokens, so that rows can be joined and columns removed.

    Examples
    --------
    >>> from transformers import LlamaConfig
    >>> joinable(new(LlamaConfig(), False))
    True
    """
    return bool(given.layers) and all(_whole(layer) for layer in given.layers)


def select(given: Any, index: Any, width: int | None) -> None:
    """Reorder a cache to the rows `index`, which may repeat, and keep only its last `width` columns unless None.

    Layers that do not keep all tokens keep all columns.

    Examples
    --------
    >>> import torch
    >>> from transformers import LlamaConfig
    >>> cache = new(LlamaConfig(num_hidden_layers=1), False)
    >>> keys, _ = cache.update(torch.ones(2, 1, 5, 4), torch.ones(2, 1, 5, 4), 0)
    >>> select(cache, torch.tensor([1]), 3)
    >>> cache.layers[0].keys.shape
    torch.Size([1, 1, 3, 4])
    """
    for layer in given.layers:
        if width is None or not _whole(layer):
            layer.reorder_cache(index)
        else:
            layer.keys, layer.values = (
                each[:, :, each.shape[2] - width :].index_select(0, index) for each in (layer.keys, layer.values)
            )


def join(given: Any, other: Any) -> None:
    """Append the rows of another cache. The shorter one of the two is padded with zeros on the left.

    Examples
    --------
    >>> import torch
    >>> from transformers import LlamaConfig
    >>> one, two = (new(LlamaConfig(num_hidden_layers=1), False) for _ in range(2))
    >>> for cache, length in ((one, 2), (two, 3)):
    ...     _ = cache.update(torch.ones(1, 1, length, 1), torch.ones(1, 1, length, 1), 0)
    >>> join(one, two)
    >>> one.layers[0].keys[:, 0, :, 0].tolist()
    [[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    import torch
    from torch.nn.functional import pad

    for layer, more in zip(given.layers, other.layers, strict=True):
        width = max(layer.keys.shape[2], more.keys.shape[2])
        layer.keys, layer.values = (
            torch.cat([pad(each, (0, 0, width - each.shape[2], 0)) for each in both])
            for both in ((layer.keys, more.keys), (layer.values, more.values))
        )


def _whole(layer: Any) -> bool:
    from transformers.cache_utils import DynamicLayer

    return type(layer) in (DynamicLayer, _growing())


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
            # Selecting or joining rows makes tensors without room.
            if self._whole is None or end > self._whole[0].shape[-2] or old[0].data_ptr() != self._whole[0].data_ptr():
                self._whole = [each.new_empty((*each.shape[:2], end + _ROOM, each.shape[-1])) for each in new]
                for whole, before in zip(self._whole, old, strict=True):
                    whole[:, :, :length] = before if length else 0
            for whole, more in zip(self._whole, new, strict=True):
                whole[:, :, length:end] = more
            self.keys, self.values = (whole[:, :, :end] for whole in self._whole)
            return self.keys, self.values

    return GrowingLayer
