"""Networks of models, and strict loading of their weights: every tensor must be present. No foreign code is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_SHOWN = 3


def load_network(model: str, **settings: Any) -> Any:
    """Load the causal language model of a folder or hub id.

    Parameters
    ----------
    model : str
        A folder with a checkpoint, or a hub id.
    **settings
        Passed to `AutoModelForCausalLM.from_pretrained`: `dtype`, `device_map`, `revision` and the like.

    Returns
    -------
    transformers.PreTrainedModel
        The network, in evaluation mode.

    Raises
    ------
    ValueError
        If the checkpoint lacks tensors of the architecture (they would be initialized randomly), if it holds others, or
        if a file of weights cannot be read.
    OSError
        If there is no such folder or hub model.
    """
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            model, trust_remote_code=False, output_loading_info=True, **settings
        )
    except (SafetensorError, UnpicklingError, EOFError) as error:
        raise ValueError(f"model: {model!r}: the weights cannot be read ({error}); download the files again") from error
    network, report = loaded
    for kind, said in (("missing_keys", "lacks"), ("unexpected_keys", "also has")):
        if names := sorted(report[kind]):
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise ValueError(
                f"model: {model!r}: the checkpoint {said} {', '.join(names[:_SHOWN])}{more}; expected exactly the"
                f" tensors of {type(network).__name__}"
            )
    return network


def architecture(model: str | Path, revision: str | None = None, attention: str | None = "eager") -> Any | None:
    """Build the network of a folder or hub id on the meta device, without memory for its weights. Runs no foreign code.

    `attention` is its implementation; None is the default of transformers.

    Returns None if transformers does not know the architecture. The first call takes half a second and later calls a
    tenth of a second, even for 70 billion parameters.

    Examples
    --------
    >>> from cos_assets.tiny import shipped
    >>> architecture(shipped("wc")).num_parameters()
    116544
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    try:
        config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError):  # no config.json, or a kind that needs its own code
        return None
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config
    for kind in (AutoModelForCausalLM, AutoModelForImageTextToText):
        try:
            with torch.device("meta"):
                return kind.from_config(
                    config, trust_remote_code=False, dtype=torch.float32, attn_implementation=attention
                )
        except ValueError:  # the configuration is of another kind of model
            continue
    return None
