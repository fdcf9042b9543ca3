"""The engines, by the name that `engine:` has in a study.

To add one: a module with `ENGINE`, a `Descriptor`, and one line of `register`. See docs/extending.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from cos_assets.generation.types import Engine, Model

AUTO = "auto"
"""vLLM where it is installed beside a GPU, else transformers."""


class Descriptor:
    """What the platform knows of an engine without opening it. An engine overrides what differs."""

    local = True
    """The weights are files that this machine can load, count and finetune."""
    gpu = True
    """The engine computes in the process that asks, on its GPU."""
    recorded = False
    """The solutions exist already: nothing is asked, paid for or timed, and a failed one fails again."""
    origin = ""
    """Where the weights are instead, for messages: "the model 'wc', which is …"."""

    def validate(self, model_id: str, chat: bool, options: Mapping[str, Any]) -> None:
        """Raise ValueError with one line that names the engine option at fault. Called when a study is loaded."""

    def fingerprint(self, model_id: str, chat: bool, options: Mapping[str, Any]) -> str | None:
        """The name of a model in the ledger, where its weights do not tell it; None where they do."""
        return None

    def discounted(self, options: Mapping[str, Any]) -> bool:
        """Is the batch discount of a price taken off?"""
        return False

    def json_options(self, chat: bool, options: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
        """The engine options with which a judge is asked for JSON; `schema` is a `response_format` of OpenAI's API."""
        return options

    def preflight(self, model: Model) -> None:
        """Look, without buying anything, whether a model can be asked. Raise ValueError or ConnectionError if not."""

    def open(self, model: Model) -> Engine:
        """The engine for a model. Raise ModuleNotFoundError with what to install, ValueError for a wrong option."""
        raise NotImplementedError


_MODULES: dict[str, str] = {}


def register(name: str, module: str) -> None:
    """Make a module's `ENGINE` known as `engine: <name>`. The module is imported when a study first names it."""
    _MODULES[name] = module


def names(local: bool = False) -> list[str]:
    """What `engine:` may say; with `local`, what it may say of a model that is finetuned."""
    return [AUTO, *(name for name in _MODULES if not local or get(name).local)]


def get(name: str) -> Descriptor:
    """The descriptor of a registered engine, or of `auto`."""
    descriptor: Descriptor = importlib.import_module(_MODULES["transformers" if name == AUTO else name]).ENGINE
    return descriptor


for _name in ("transformers", "vllm", "ray", "openai", "imported"):
    register(_name, f"{__name__}.{_name}")
