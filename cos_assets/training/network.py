"""The network that is trained: its precision, adapters, and what lets it need less memory."""

from __future__ import annotations

import logging
from functools import partial
from importlib.util import find_spec
from typing import Any

from cos_assets.generation import compute
from cos_assets.generation.weights import architecture
from cos_assets.training.job import Base
from cos_assets.training.settings import Finetune

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it, and it warns of kernels that the hub has


def wants_bf16(settings: Finetune, base: Base) -> bool:
    """Return whether to train in bf16 mixed precision on this device: on a CPU only a model that is faster with it.

    Raises ValueError if the settings ask for bf16 and the device lacks it.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    has = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else compute.multiplies_bf16()
    if settings.precision == "bf16" and not has:
        device = "GPU" if on_gpu else "CPU"
        raise ValueError(f"precision: the {device} of this machine does not support bf16; allowed: auto, fp32")
    if settings.precision == "auto" and has and not on_gpu:
        network = architecture(base.name, base.revision)
        return network is not None and compute.dtype(network.num_parameters()) == "bfloat16"
    return has and settings.precision != "fp32"


def check_packages(settings: Finetune) -> None:
    """Raise ValueError if the settings need bitsandbytes, and it is not installed."""
    wanted = [f"{key}: {value}" for key, value in (("method", settings.method), ("optimizer", settings.optimizer))]
    wanted = [each for each in wanted if each.endswith(("qlora", "8bit"))]
    if wanted and find_spec("bitsandbytes") is None:
        raise ValueError(f"{wanted[0]}: needs bitsandbytes; install it with `pip install 'cos-assets[quantization]'`")


def trainable(base: Base, settings: Finetune, bf16: bool, seed: int) -> Any:
    """Load the base model for training, with untrained adapters for LoRA.

    Trained weights are fp32, also under mixed precision, unless `weights` is bf16. The frozen weights of LoRA are bf16
    under mixed precision, and with `qlora` in 4 bits.
    """
    import torch
    from transformers import BitsAndBytesConfig, set_seed

    if settings.method == "full":
        return base.load(torch.bfloat16 if settings.weights == "bf16" else torch.float32)
    set_seed(seed)  # adapters are initialized at random
    dtype = torch.bfloat16 if bf16 else torch.float32
    if settings.method == "lora":
        return adapted(base.load(dtype), settings, base.revision)
    quantized = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return adapted(base.load(dtype, quantization_config=quantized), settings, base.revision)


def adapted(network: Any, settings: Finetune, revision: str | None) -> Any:
    """Add untrained adapters to a network, unless the method is `full`. `revision` is that of its weights."""
    if settings.method == "full":
        return network
    from peft import LoraConfig, get_peft_model

    lora = settings.lora
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,  # a float does as well
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        revision=revision,  # serving the adapter needs the revision of its base
    )
    return get_peft_model(network, config)


def with_less_memory(network: Any, settings: Finetune) -> None:
    """Turn on gradient checkpointing and the chunked loss where the settings say so (`auto` counts as off)."""
    if settings.gradient_checkpointing is True:
        network.gradient_checkpointing_enable({"use_reentrant": False})
    if settings.chunked_loss is True:
        from trl.trainer import utils

        whole = network if settings.method == "full" else network.get_base_model()
        if whole.device.type == "cpu":
            utils._CHUNKED_LOGPROB_CHUNK_SIZE = 4096  # several copies of a part are made there, on a GPU none
        utils.add_fused_lm_head(whole)
        whole.forward = partial(whole.forward, fused_lm_head=True)
