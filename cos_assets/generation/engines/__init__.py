"""Registry of engines, by the name that `engine:` has in a study.

To add one, write a module with `ENGINE`, a `Descriptor`, and add one call of `register`. See docs/extending.md.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from cos_assets.fields import EngineOptions
from cos_assets.generation.types import Engine, Model

AUTO = "auto"
"""vLLM if it is installed and a GPU is available, else transformers."""


class Descriptor(ABC):
    """Properties of an engine that are known without opening it. An engine overrides what differs."""

    local = True
    """Whether the weights are files that this machine can load, count and finetune."""
    gpu = True
    """Whether the engine computes in the calling process, on its GPU."""
    recorded = False
    """Whether the solutions exist already. Nothing is requested, paid for or timed, and failures are permanent."""
    origin = ""
    """Where the weights of a model that is not `local` are, for messages: "the model 'wc', which is …"."""

    options: type[EngineOptions] | None = None
    """The model of `engine_options:`, where the engine has one."""

    def validate(self, model_id: str, chat: bool, options: Mapping[str, Any]) -> None:
        """Raise ValueError with one line that names the engine option at fault. Called when a study is loaded."""
        if self.options is not None:
            self.options.read(options)

    def fingerprint(self, model_id: str, chat: bool, options: Mapping[str, Any]) -> str | None:
        """Return the name of a model in the ledger, or None if the name is derived from its weights."""
        return None

    def discounted(self, options: Mapping[str, Any]) -> bool:
        """Return whether the batch discount applies to the price."""
        return False

    def json_options(self, chat: bool, options: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
        """Return engine options that make a judge reply in JSON. `schema` is a `response_format` of OpenAI's API."""
        return options

    def preflight(self, model: Model) -> None:
        """Check that a model can be sampled, without buying anything. Raise ValueError or ConnectionError if not."""
        return None  # an engine of this machine reports what is wrong when it is opened

    @abstractmethod
    def open(self, model: Model) -> Engine:
        """Open the engine for a model.

        Raise ModuleNotFoundError, with what to install, if a package is missing, and ValueError for a wrong option.
        """


_MODULES: dict[str, str] = {}


def register(name: str, module: str) -> None:
    """Register a module's `ENGINE` as `engine: <name>`. The module is imported on first use."""
    _MODULES[name] = module


def names(local: bool = False) -> list[str]:
    """Return the allowed values of `engine:`; with `local`, those for a model that is finetuned."""
    return [AUTO, *(name for name in _MODULES if not local or get(name).local)]


def get(name: str) -> Descriptor:
    """Return the descriptor of a registered engine, or of `auto`."""
    descriptor: Descriptor = importlib.import_module(_MODULES["transformers" if name == AUTO else name]).ENGINE
    return descriptor


for _name in ("transformers", "vllm", "ray", "openai", "imported"):
    register(_name, f"{__name__}.{_name}")
