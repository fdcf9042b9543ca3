"""The memory that one process of a training needs, computed from the configuration of the model.

Weights, gradients and optimizer states are counted. The activations and the logits are found by running the forward and
the backward pass of one step on tensors without data (torch's FakeTensorMode), in which every operation reports the
size of its result. No weights are loaded; a model with 70 billion parameters takes some seconds.
"""

from __future__ import annotations

import json
import weakref
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from cos_assets.generation import compute
from cos_assets.generation.weights import architecture
from cos_assets.training.data import Objective
from cos_assets.training.job import Base
from cos_assets.training.network import adapted, with_less_memory
from cos_assets.training.settings import Finetune

RUNTIME = 1.2e9
"""Bytes of a process beside its tensors: 0.5 GB for Python, torch and transformers, and what the allocator keeps.

The allocator of Linux kept between 0 and 1.1 GB of freed memory in seven trainings of SmolLM2-135M on a processor.
"""
_OPTIMIZER_BYTES = {"adamw": 8.0, "adamw_8bit": 2.03, "paged_adamw_8bit": 2.03, "sgd": 0.0}  # per trained parameter
_MUCH = 1 << 30
_MATTER = {"method", "lora", "batch_size", "gradient_accumulation", "num_processes", "sharding", "cpu_offload"} | {
    *("gradient_checkpointing", "chunked_loss", "optimizer", "weights"),
}
_NF4_BYTES = 0.516  # per parameter: 4 bits, and the constants of each 64 parameters, which are quantized, too


@dataclass(frozen=True)
class Memory:
    """Bytes of one process, by what they hold.

    Attributes
    ----------
    weights : float
        All weights, frozen ones included.
    gradients, optimizer : float
        The gradients of the trained weights, and the states of the optimizer.
    activations : float
        What is stored when the output layer is reached.
    logits : float
        What the output layer, the loss and the backward pass need beside it, without gradients.
    gathered : float
        With sharding, what a process holds of the others' weights and of their gradients for a moment.
    accumulates : bool
        Whether gradients are kept while activations are (`gradient_accumulation` above 1).
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    gathered: float = 0.0
    accumulates: bool = False

    @property
    def total(self) -> float:
        """The peak. In a backward pass gradients take the place of activations, so it is the larger of its two ends."""
        passing = self.activations + self.logits
        both = passing + self.gradients if self.accumulates else max(passing, self.gradients)
        return RUNTIME + self.weights + self.optimizer + self.gathered + both


def decided(base: Base, settings: Finetune, length: int, bf16: bool, objective: Objective = "sft") -> Finetune:
    """Return the settings with `auto` decided for this machine, for rows of at most `length` tokens.

    The loss is chunked if the logits of a pass exceed 1 GiB. Activations are recomputed if a step does not fit into
    memory otherwise. An architecture that transformers does not know gets neither.
    """
    if "auto" not in (settings.chunked_loss, settings.gradient_checkpointing):
        return settings
    if _is_small(base.config().get_text_config(), settings, length):
        return settings
    known = estimate(base.name, base.revision, settings, length, bf16, objective)
    if known is None:
        return settings
    if settings.chunked_loss == "auto" and known.logits > _MUCH:
        chunked = settings.model_copy(update={"chunked_loss": True})
        less = estimate(base.name, base.revision, chunked, length, bf16, objective)
        if less and less.total < known.total:
            settings, known = chunked, less
    if settings.gradient_checkpointing == "auto" and known.total > available():
        settings = settings.model_copy(update={"gradient_checkpointing": True})
    return settings


def _is_small(config: Any, settings: Finetune, length: int) -> bool:
    """Return whether activations and logits are surely small: at most 1 GiB by a generous count."""
    sizes: list[Any] = [getattr(config, name, None) for name in ("vocab_size", "hidden_size", "num_hidden_layers")]
    if None in sizes:
        return False
    vocabulary, hidden, layers = sizes
    tokens = settings.batch_size * length
    return tokens * 4 * (6 * vocabulary + 64 * hidden * layers + length * layers) <= _MUCH


def available() -> float:
    """Return the bytes of memory that a process of a training may use: of its GPU, or of this machine's memory.

    The jobs of a machine share its memory (`compute.jobs`).
    """
    import psutil

    return of_gpu() or psutil.virtual_memory().total / compute.jobs()


def of_gpu() -> float | None:
    """Return the bytes of memory of a GPU of this machine; None if there is none."""
    import torch

    return float(torch.cuda.mem_get_info()[1]) if torch.cuda.is_available() else None


def estimate(
    model: str, revision: str | None, settings: Finetune, length: int, bf16: bool, objective: Objective = "sft"
) -> Memory | None:
    """Return the memory of one process of a training.

    Parameters
    ----------
    model, revision : str, str or None
        A folder or hub id with a configuration, and the hub revision.
    settings : Finetune
        The settings. `auto` counts as off.
    length : int
        The number of tokens of the longest row. All rows of a batch are assumed to be as long.
    bf16 : bool
        Whether the training uses bf16 mixed precision.
    objective : str
        With dpo, a row is two completions. With dpo and kto, the loss is always chunked, and a training of all weights
        keeps a second, frozen copy of them.

    Returns
    -------
    Memory or None
        None if transformers does not know the architecture of the model.
    """
    rows = settings.batch_size // (settings.gradient_accumulation * (settings.num_processes or 1))
    if objective != "sft":
        settings = settings.model_copy(update={"chunked_loss": True})
        rows *= 2 if objective == "dpo" else 1
    given = settings.model_dump(mode="json", include=_MATTER, exclude_unset=True)
    known = _estimate(model, revision, json.dumps(given), rows, length, bf16)
    if known is None or objective == "sft" or settings.method != "full":
        return known
    return replace(known, weights=2 * known.weights)


@cache
def _estimate(model: str, revision: str | None, given: str, rows: int, length: int, bf16: bool) -> Memory | None:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    settings = Finetune.model_validate({"steps": 1, **json.loads(given)})
    network = architecture(model, revision, attention=None)
    if network is None:
        return None
    full = settings.method == "full"
    halved = bf16 if not full else settings.weights == "bf16"
    # FSDP2 gathers fp32 weights in bf16.
    cast = bf16 and full and settings.sharding is not None and settings.weights == "fp32"
    network = network.to(torch.bfloat16 if halved or cast else torch.float32)
    gathered = _gathered(network)
    linear = sum(m.weight.numel() for m in network.modules() if isinstance(m, torch.nn.Linear))
    head = network.get_output_embeddings().weight.numel()
    network = adapted(network, settings, None)
    with FakeTensorMode():
        _fill(network)
        with_less_memory(network.train(), settings)
        trained = [weight for weight in network.parameters() if weight.requires_grad]
        passing = _pass(network, rows, length, bf16)
        factor = 2.0 if cast else 1.0
        weights = factor * sum(each.untyped_storage().nbytes() for each in network.parameters())
        gradients = factor * sum(each.untyped_storage().nbytes() for each in trained)
        optimizer = factor * sum(_states(each, settings.optimizer) for each in trained)
    if settings.method == "qlora":
        weights -= (linear - head) * ((2 if halved else 4) - _NF4_BYTES)
    share, moment = 1.0, 0.0
    if settings.sharding:
        share = 1 / (settings.num_processes or 1)
        moment = gathered * ((2 if bf16 else 4) + 4 * gradients / weights)
    activations, logits = passing
    return Memory(
        weights=share * weights,
        gradients=share * gradients,
        optimizer=share * optimizer,
        activations=activations,
        logits=logits,
        gathered=moment,
        accumulates=settings.gradient_accumulation > 1,
    )


def _gathered(network: Any) -> int:
    """Return the parameters that FSDP2 gathers at once: the embeddings, the layer at work, and the next one."""
    kinds = set(getattr(network, "_no_split_modules", None) or ())
    layers = [sum(w.numel() for w in m.parameters()) for m in network.modules() if type(m).__name__ in kinds]
    return network.num_parameters() - sum(layers) + 2 * max(layers, default=0)


def _states(weight: Any, optimizer: str) -> float:
    """Return the bytes of the optimizer's states for a weight."""
    if optimizer == "adafactor":  # a mean per row and per column of a matrix
        return float(4 * sum(weight.shape) if weight.dim() > 1 else 4 * weight.numel())
    small = weight.numel() < 4096  # bitsandbytes keeps these in fp32
    each = _OPTIMIZER_BYTES["adamw" if small and optimizer.endswith("8bit") else optimizer]
    return weight.numel() * each * (weight.dtype.itemsize / 4 if optimizer == "adamw" else 1)


def _fill(network: Any) -> None:
    """Replace the tensors of a network on the meta device by those of the current mode, shared ones by one."""
    import torch

    found: dict[Any, Any] = {}
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if tensor not in found:
                    new = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
                    parameter = isinstance(tensor, torch.nn.Parameter)
                    found[tensor] = torch.nn.Parameter(new, requires_grad=tensor.requires_grad) if parameter else new
                tensors[name] = found[tensor]


def _pass(network: Any, rows: int, length: int, bf16: bool) -> tuple[float, float]:
    """Return (activations, logits) of a forward and backward pass, in bytes. Gradients of weights are dropped."""
    import torch
    from accelerate.utils import convert_outputs_to_fp32

    ids = torch.zeros((rows, length), dtype=torch.int64)
    known = [*network.parameters(), *network.buffers(), ids]
    for weight in network.parameters():
        if weight.requires_grad:
            weight.register_post_accumulate_grad_hook(lambda weight: setattr(weight, "grad", None))
    held, before = _held(known), 0.0

    def reached(*_: Any) -> None:
        nonlocal before
        before = before or held.now

    whole = network.get_base_model() if hasattr(network, "get_base_model") else network
    whole.base_model.register_forward_hook(reached)
    forward = torch.autocast("cpu", torch.bfloat16, enabled=bf16)(network.forward)
    with held:
        run = convert_outputs_to_fp32(forward) if bf16 else forward  # as accelerate does
        run(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids, use_cache=False).loss.backward()
    return float(before), float(held.peak - before)


def _held(known: list[Any]) -> Any:
    """Return a mode that counts the bytes of all tensors made in it, now and at most. `known` ones do not count."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_iter

    class Held(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.peak = 0
            self._seen = {tensor.untyped_storage()._cdata for tensor in known}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for tensor in tree_iter(out):
                if isinstance(tensor, torch.Tensor):
                    self._note(tensor.untyped_storage())
            return out

        def _note(self, storage: Any) -> None:
            key, size = storage._cdata, storage.nbytes()
            if key not in self._seen:
                self._seen.add(key)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._drop, key, size)

        def _drop(self, key: int, size: int) -> None:
            self._seen.discard(key)
            self.now -= size

    return Held()


def fitting(
    base: Base, settings: Finetune, length: int, bf16: bool, limit: float, objective: Objective = "sft"
) -> tuple[dict[str, Any], float] | None:
    """Return changes of the settings with which a step needs at most `limit` bytes, and the bytes that it needs then.

    Changes that keep the result come first, and adapters last. None if no combination that is tried fits.
    """
    parts = settings.batch_size // (settings.num_processes or 1)
    changes: dict[str, Any] = {}
    for change in (
        {"gradient_checkpointing": True},
        {"chunked_loss": True},
        {"gradient_accumulation": parts},
        {"optimizer": "adamw_8bit"},
        {"optimizer": "adamw", "weights": "fp32", "method": "lora"},
        {"method": "qlora"},
    ):
        changes |= change
        known = estimate(base.name, base.revision, settings.model_copy(update=changes), length, bf16, objective)
        if known and known.total <= limit:
            stated = settings.model_dump()
            return {key: value for key, value in changes.items() if stated[key] != value}, known.total
    return None
