"""Values that are copied between the processes in addition to plain data, and updates of containers in place."""

import builtins
import sys
from collections.abc import Iterator
from typing import Any

BASES: tuple[Any, ...] = (int, float, complex, str, bytes, bytearray, tuple, list, dict, set, frozenset)


def parts_of(value: Any) -> Any:
    """Return the arguments that reconstruct a value of the standard library; None for a value that is not copied."""
    kind = type(value)
    module, name = kind.__module__, kind.__name__
    if getattr(sys.modules.get(module), name, None) is not kind:
        return None
    if kind is range or kind is slice:
        return (value.start, value.stop, value.step)
    if kind is bytearray:
        return (bytes(value),)
    if module == "collections":
        if name == "deque":
            return (list(value), value.maxlen)
        if name == "OrderedDict":
            return (list(value.items()),)
        if name == "Counter":
            return (dict(value),)
        if name == "defaultdict":
            return (value.default_factory, dict(value))
    if module == "fractions" and name == "Fraction":
        return (value.numerator, value.denominator)
    if module == "decimal" and name == "Decimal":
        return (str(value),)
    if module == "datetime":
        return value.__reduce__()[1]
    if module == "uuid" and name == "UUID":
        return (str(value),)
    return None


def made_of(module: str, name: str, parts: Any) -> Any:
    if module == "builtins" and name in ("range", "slice", "bytearray"):
        return vars(builtins)[name](*parts)
    if module not in ("collections", "fractions", "decimal", "datetime", "uuid"):
        raise TypeError(f"{module}.{name} is not copied")
    kind = getattr(__import__(module), name)
    if not isinstance(kind, type):
        raise TypeError(f"{module}.{name} is not a type")
    return kind(*parts)


def restore(old: Any, new: Any) -> None:
    """Update a container in place with the content that the other side gave it."""
    kind = type(old)
    if kind is not type(new):
        return
    if kind is list and old is not new:
        for before, now in zip(old, new, strict=False):
            restore(before, now)
        old[:] = [before if _same(before, now) else now for before, now in _pairs(old, new)]
    elif kind is dict:
        kept = {key: old[key] for key in old.keys() & new.keys()}
        for key, before in kept.items():
            restore(before, new[key])
        now = {key: kept[key] if key in kept and _same(kept[key], value) else value for key, value in new.items()}
        old.clear()
        old.update(now)
    elif kind is set:
        old.clear()
        old.update(new)
    elif kind is bytearray:
        old[:] = new
    elif kind is tuple:
        for before, now in zip(old, new, strict=False):
            restore(before, now)
    elif kind.__module__ == "collections" and kind.__name__ in ("deque", "OrderedDict", "Counter", "defaultdict"):
        old.clear()
        (old.extend if kind.__name__ == "deque" else old.update)(new)


def _pairs(old: list[Any], new: list[Any]) -> Iterator[tuple[Any, Any]]:
    missing = object()
    for place, now in enumerate(new):
        yield (old[place] if place < len(old) else missing), now


def _same(before: Any, now: Any) -> bool:
    """Return whether `before` is a container that `restore` has just updated with the content of `now`."""
    return type(before) is type(now) and type(before) in (list, dict, set, bytearray)


def base_of(value: Any) -> Any:
    """Return the data in an object whose class is derived from a built-in type; None if it is not."""
    kind: Any = next((kind for kind in BASES if isinstance(value, kind)), None)
    if kind in (str, bytes, bytearray, list, tuple):
        return kind.__getitem__(value, slice(None))
    if kind in (set, frozenset):
        return kind(kind.__iter__(value))
    if kind is dict:
        return dict(dict.items(value))
    return None if kind is None else kind.__pos__(value)
