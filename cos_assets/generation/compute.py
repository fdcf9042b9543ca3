"""How a model that runs in this process uses the processor: threads and number format.

A tiny model is fastest on one thread: with more, the threads wait for each other longer than they compute. On one
thread in float32 a sample also depends on nothing that is drawn beside it (see engine `transformers`). A larger model
gets all cores, shared among the jobs that run at the same time, and, larger still, bfloat16 where the processor
multiplies it natively. docs/engines.md has the measurements behind the borders. On a GPU nothing is changed.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from cos_assets.generation import adapters, engines
from cos_assets.generation.types import Model
from cos_assets.generation.weights import architecture
from cos_assets.grading.cores import usable_cores

_THREADS_FROM, _BFLOAT16_FROM = 4e5, 5e6  # parameters
JOBS = "COS_JOBS"
"""Environment variable: how many jobs share the cores of this machine. `cos run --jobs` sets it for its processes."""


def size(model: Model) -> float | None:
    """Return the number of parameters of a model: as stated, or as its architecture has. None if it is not known.

    Examples
    --------
    >>> size(Model("org/model", "model-1", "vllm", params=7e9))
    7000000000.0
    """
    if model.params is not None:
        return model.params
    adapter = adapters.find(model.source)
    network = architecture(adapter.base, adapter.revision) if adapter else architecture(model.model_id, model.revision)
    return None if network is None else network.num_parameters()


def threads(params: float | None) -> int:
    """Return the number of threads for a model of `params` parameters (None: unknown, hence large) on the processor.

    Examples
    --------
    >>> threads(1e5)
    1
    """
    return 1 if params is not None and params < _THREADS_FROM else max(1, usable_cores() // jobs())


def jobs() -> int:
    """Return how many jobs share the cores: the value of `COS_JOBS`, by default 1.

    Raises
    ------
    ValueError
        If the value is not a whole number of at least 1.

    Examples
    --------
    >>> jobs() >= 1
    True
    """
    given = os.environ.get(JOBS, "1")
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"{JOBS}: {given!r} is not allowed; expected a whole number of at least 1")
    return int(given)


def dtype(params: float | None) -> str:
    """Return the number format of a model on the processor: "bfloat16" where that is faster, else "float32".

    Examples
    --------
    >>> dtype(1e6)
    'float32'
    """
    return "bfloat16" if multiplies_bf16() and (params is None or params >= _BFLOAT16_FROM) else "float32"


def multiplies_bf16() -> bool:
    """Return whether the processor multiplies bfloat16 natively (AVX512-BF16, AMX, or ARM's bf16).

    Examples
    --------
    >>> multiplies_bf16() in (True, False)
    True
    """
    import torch

    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def described(model: Model) -> str | None:
    """Return how a model that runs in this process computes, and whether its samples depend on each other.

    None for a model that runs elsewhere.

    Examples
    --------
    >>> described(Model("wc", "wc-1", "transformers", params=1e5, engine_options={"device": "cpu"}))
    'float32 on 1 thread: a sample depends on nothing beside it'
    """
    if not engines.get(model.engine).gpu:
        return None
    import torch

    device = str(model.engine_options.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device != "cpu":
        return "on a GPU: a sample may depend on what is drawn beside it"
    params = size(model)
    form, count = str(model.engine_options.get("dtype") or dtype(params)), threads(params)
    how = f"{form} on {count} thread{'s' if count > 1 else ''}"
    if (form, count) == ("float32", 1):
        return f"{how}: a sample depends on nothing beside it"
    return f"{how}: a sample may depend on what is drawn beside it"


def give_back_memory() -> None:
    """Return memory that is no longer used to the system: that of the GPU, and that of the allocator of Linux.

    The allocator keeps freed tensors below 32 MB. After a training of a model with 0.5 billion parameters it kept 8 GB,
    which the engine that follows did not use.

    Examples
    --------
    >>> give_back_memory()
    """
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim()


def trim() -> None:
    """Return the pages that the allocator of Linux keeps free to the system.

    Examples
    --------
    >>> trim()
    """
    with suppress(OSError, AttributeError):  # another allocator, another system
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def held_memory() -> float:
    """Return the bytes that this process holds now: of its GPU if there is one, else of the machine.

    Examples
    --------
    >>> held_memory() > 1e6
    True
    """
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        return float(torch.cuda.memory_allocated())
    return float(psutil.Process().memory_info().rss)


@contextmanager
def torch_threads(params: float | None) -> Iterator[None]:
    """Set the number of torch's threads for a model of `params` parameters, unless there is a GPU.

    Examples
    --------
    >>> import torch
    >>> with torch_threads(1e5):
    ...     torch.get_num_threads()
    1
    """
    import torch

    before = torch.get_num_threads()
    if not torch.cuda.is_available():
        torch.set_num_threads(threads(params))
    try:
        yield
    finally:
        torch.set_num_threads(before)
