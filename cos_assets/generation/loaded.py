"""The engine that this process keeps between purchases, so that a model is loaded once.

Only engines that compute in this process are kept, and only for models that take long to load. A kept engine serves the
next model as well if that has the same base weights: a LoRA adapter is exchanged, not the model. A training releases
the engine first, so that both never hold memory at the same time.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cos_assets.generation import engines
from cos_assets.generation.compute import give_back_memory, size
from cos_assets.generation.types import Engine, Model

_FROM = 20e6  # parameters; a smaller model is loaded in a moment
_kept: Engine | None = None


def worth_keeping(params: float | None) -> bool:
    """Return whether a model of `params` parameters (None: unknown) takes long to load.

    Examples
    --------
    >>> worth_keeping(1e6), worth_keeping(1.5e9), worth_keeping(None)
    (False, True, True)
    """
    return params is None or params >= _FROM


@contextmanager
def engine_of(model: Model, open_engine: Callable[[Model], Engine]) -> Iterator[Engine]:
    """Provide an engine for a model: the kept one if it can serve the model, else a new one.

    An engine whose use ends with an error is closed.

    Parameters
    ----------
    model : Model
        The model.
    open_engine : callable
        Opens an engine for a model.

    Examples
    --------
    >>> from cos_assets.generation.generate import open_engine
    >>> from cos_assets.generation.types import Model
    >>> served = Model("org/model", "model-1", "openai", engine_options={"base_url": "http://a/v1"})
    >>> with engine_of(served, open_engine) as engine:
    ...     engine.name
    'openai'
    """
    global _kept
    keeps = engines.get(model.engine).gpu and worth_keeping(size(model))
    if keeps and _kept is not None and _kept.name == model.engine and _kept.serve(model):  # type: ignore[attr-defined]
        engine, _kept = _kept, None
    else:
        if keeps:
            release()
        engine = open_engine(model)
    try:
        yield engine
    except BaseException:
        engine.close()
        raise
    if keeps and hasattr(engine, "serve"):
        _kept = engine
    else:
        engine.close()


def release() -> None:
    """Close the kept engine, if there is one.

    Examples
    --------
    >>> release()
    """
    global _kept
    engine, _kept = _kept, None
    if engine is not None:
        engine.close()
        del engine
        give_back_memory()


atexit.register(release)
