"""Registry of engines, by the name that `engine:` has in a study.

    transformers   any causal language model of the hub, in this process, without extra packages
    vllm           vLLM in this process
    ray            vLLM on a Ray cluster (its options in `ray_options`)
    openai         any OpenAI-compatible server or API
    imported       solutions from files
    loop           an event loop in a thread, shared by engines that wait for the network

To add an engine, write a module with `ENGINE`, a `Descriptor`, and add one call of `register`. docs/extending.md has
a complete example.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from cos_assets.fields import EngineOptions
from cos_assets.generation.types import Chat, Engine, Model

AUTO = "auto"
"""vLLM or transformers, whichever is faster for the model here (see `model.pick_engine`)."""


class Descriptor(ABC):
    """Properties of an engine that are known without opening it. An engine overrides what differs, and defines `open`.

    Attributes
    ----------
    local : bool
        Whether the weights are files that this machine can load, count and finetune.
    gpu : bool
        Whether the engine computes in the calling process, on its GPU.
    recorded : bool
        Whether the solutions exist already. Nothing is requested, paid for or timed, and failures are permanent.
    origin : str
        Where the weights of a model that is not `local` are, for messages: "the model 'wc', which is …".
    options : type, optional
        The model of `engine_options:`, where the engine has one.

    Examples
    --------
    >>> get("vllm").local, get("openai").local, get("imported").recorded
    (True, False, True)
    """

    local = True
    gpu = True
    recorded = False
    origin = ""

    options: type[EngineOptions] | None = None

    def validate(self, model_id: str, chat: Chat | None, options: Mapping[str, Any]) -> None:
        """Check the settings of a model. Called when a study is loaded, so it must not need a package or the network.

        Parameters
        ----------
        model_id, chat, options : str, Chat or None, mapping
            The model's name, its chat format, and the `engine_options:` of the study.

        Raises
        ------
        ValueError
            If an option is wrong: one line that names it.

        Examples
        --------
        >>> get("ray").validate("org/model", None, {"replicas": 0})
        Traceback (most recent call last):
        ValueError: engine_options.replicas: Input should be greater than or equal to 1
        """
        if self.options is not None:
            self.options.read(options)

    def fingerprint(self, model_id: str, chat: Chat | None, options: Mapping[str, Any]) -> str | None:
        """Return the name of a model in the ledger, or None if the name is derived from its weights.

        The parameters are those of `validate`. Samples of different fingerprints are never mixed up.

        Examples
        --------
        >>> get("openai").fingerprint("org/model", Chat(), {"concurrency": 8})
        'model-dda42a3f308eedc4'
        """
        return None

    def discounted(self, options: Mapping[str, Any]) -> bool:
        """Return whether the batch discount applies to the price.

        Examples
        --------
        >>> get("openai").discounted({"batch": True})
        True
        """
        return False

    def json_options(self, chat: Chat | None, options: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
        """Return engine options that make a judge reply in JSON; the options unchanged if the engine has none for it.

        Parameters
        ----------
        chat, options : Chat or None, dict
            The chat format and the engine options of the judge's model.
        schema : dict
            A `response_format` of OpenAI's API.

        Examples
        --------
        >>> get("openai").json_options(Chat(), {"concurrency": 8}, {"type": "json_object"})
        {'concurrency': 8, 'extra_body': {'response_format': {'type': 'json_object'}}}
        """
        return options

    def unsupported(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the sampling parameters that the engine cannot apply.

        Examples
        --------
        >>> get("openai").unsupported({"base_url": "https://api.openai.com/v1"})
        ('top_k', 'min_p', 'repetition_penalty')
        """
        return ()

    def preflight(self, model: Model) -> None:
        """Check that a model can be sampled, without buying anything.

        Raises
        ------
        ModuleNotFoundError, ValueError, ConnectionError
            If it cannot be sampled. The message says what to fix.
        """
        return None  # an engine of this machine reports what is wrong when it is opened

    @abstractmethod
    def open(self, model: Model) -> Engine:
        """Open the engine for a model.

        Returns
        -------
        Engine
            The engine; the caller closes it. The model may be loaded later, with the first request.

        Raises
        ------
        ModuleNotFoundError
            If a package is missing. The message says what to install.
        ValueError
            If an engine option is wrong.
        """


_MODULES: dict[str, str] = {}


def register(name: str, module: str) -> None:
    """Register a module's `ENGINE` as `engine: <name>`.

    Parameters
    ----------
    name : str
        The value of `engine:`. A registered name is replaced.
    module : str
        The full name of the module, which is imported on first use.

    Examples
    --------
    >>> register("imported", "cos_assets.generation.engines.imported")
    >>> get("imported").origin
    'imported'
    """
    _MODULES[name] = module


def names(recorded: bool = True) -> list[str]:
    """Return the allowed values of `engine:`; without `recorded`, those of engines that generate text.

    Examples
    --------
    >>> names()[:3]
    ['auto', 'transformers', 'vllm']
    """
    return [AUTO, *(name for name in _MODULES if recorded or not get(name).recorded)]


def get(name: str) -> Descriptor:
    """Return the descriptor of a registered engine, or of `auto` (that of transformers).

    Raises
    ------
    KeyError
        If the name is not registered.

    Examples
    --------
    >>> get("auto") is get("transformers")
    True
    """
    descriptor: Descriptor = importlib.import_module(_MODULES["transformers" if name == AUTO else name]).ENGINE
    return descriptor


for _name in ("transformers", "vllm", "ray", "openai", "imported"):
    register(_name, f"{__name__}.{_name}")
