"""Compute-optimal sampling as Dagster assets: which model's solutions a sampling budget should buy, and how many."""

from typing import Any

__all__ = ["ParquetIOManager", "Study", "TinyModels"]


def __getattr__(name: str) -> Any:
    # Imported lazily: these need Dagster, while most of the package is usable without it.
    if name == "ParquetIOManager":
        from cos_assets.orchestration.io_manager import ParquetIOManager

        return ParquetIOManager
    if name in __all__:
        from cos_assets import component

        return getattr(component, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])  # `dg` finds components by listing their module
