"""A model's weights as they are loaded: all of them, and no code from their folder."""

from __future__ import annotations

from typing import Any

_SHOWN = 3


def load_network(model: str, **settings: Any) -> Any:
    """The causal language model in a folder or behind a hub id; `settings` are those of `from_pretrained`.

    Raises ValueError where the weights lack tensors of the architecture, which would be random numbers, or hold others;
    and where a file of weights cannot be read.
    """
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            model, trust_remote_code=False, output_loading_info=True, **settings
        )
    except (SafetensorError, UnpicklingError, EOFError) as error:
        raise ValueError(f"model: {model!r}: its weights cannot be read ({error}); get the files again") from error
    network, report = loaded
    for kind, said in (("missing_keys", "lacks"), ("unexpected_keys", "holds")):
        if names := sorted(report[kind]):
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise ValueError(
                f"model: {model!r}: the checkpoint {said} {', '.join(names[:_SHOWN])}{more}; expected the tensors of"
                f" {type(network).__name__}, no more and no fewer"
            )
    return network
