"""Proxies of objects of the other process. Each operation on a proxy is a request.

`peer` is this process's side of the pipes (see `peer.py`).
"""

import builtins
import types
from collections.abc import Callable
from typing import Any

from cos_assets.grading.sandbox_runner.values import BASES

_ARITHMETIC = "add sub mul matmul truediv floordiv mod divmod pow lshift rshift and or xor"
_OTHERS = (
    "neg pos abs invert round trunc floor ceil int float complex index bool len getitem setitem delitem contains"
    " reversed iter next call enter exit str repr format bytes hash"
)
_COMPARISONS = ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")
SPECIALS = (
    *(f"__{prefix}{name}__" for name in _ARITHMETIC.split(" ") for prefix in ("", "r", "i")),
    *(f"__{name}__" for name in _OTHERS.split(" ")),
    *_COMPARISONS,
)
_TAKES_DATA = (*SPECIALS[: 3 * len(_ARITHMETIC.split(" "))], "__contains__")


class Proxy:
    """Represents an object of the other process."""

    __slots__ = ("_base_", "_known_", "_number_", "_peer_")
    _base_: type | None
    _known_: bool
    """Whether the tests name the object's class."""
    _number_: int
    _peer_: Any

    def __getattr__(self, name: str) -> Any:
        return self._peer_.ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._peer_.ask("set", self, name, value)

    def __delattr__(self, name: str) -> None:
        self._peer_.ask("delete", self, name)

    def __instancecheck__(self, instance: Any) -> bool:
        return bool(self._peer_.ask("isinstance", instance, self))

    def __subclasscheck__(self, other: Any) -> bool:
        return bool(self._peer_.ask("issubclass", other, self))

    def __copy__(self) -> Any:
        return self._peer_.ask("copy", self)

    def __deepcopy__(self, memo: Any) -> Any:
        return self._peer_.ask("deepcopy", self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("an object of the solution cannot be pickled by the tests")

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # isinstance then regards a named tuple as a tuple
        return self._base_ or type(self)

    @property
    def __doc__(self) -> Any:  # type: ignore[override]
        return self._peer_.ask("get", self, "__doc__")


def proxy_class(specials: frozenset[str]) -> type:
    space: dict[str, Any] = {"__slots__": (), "__hash__": object.__hash__}
    for name in specials:
        compares = name in _COMPARISONS
        space[name] = _with_data(name, compares) if compares or name in _TAKES_DATA else _special(name)
    if "no hash" in specials:
        space["__hash__"] = None
    return type("Proxy", (Proxy,), space)


def _special(name: str) -> Callable[..., Any]:
    def method(self: Proxy, *arguments: Any, **named: Any) -> Any:
        return self._peer_.ask("special", self, name, arguments, named)

    return method


def _with_data(name: str, compares: bool) -> Callable[..., Any]:
    """Return an operation between an object and data. The data may be the expected result, so the solution must not
    determine the outcome.

    The operation is performed in this process, on the data that the object contains. An object without such data equals
    nothing, and supports arithmetic only if the tests name its class, because then they test its behavior.
    """

    def method(self: Proxy, other: Any, *more: Any) -> Any:
        peer, base = self._peer_, self._base_
        if not peer.guarded or issubclass(type(other), Proxy):
            return peer.ask("special", self, name, (other, *more), {})
        if base is not None and base is not type:
            data = peer.ask("base", self)
            return (
                other in data if name == "__contains__" else getattr(base, name, _not_implemented)(data, other, *more)
            )
        if self._known_ and not compares:
            return peer.ask("special", self, name, (other, *more), {})
        if name == "__contains__":
            return any(each == other for each in self)  # type: ignore[attr-defined]
        return NotImplemented

    return method


def _not_implemented(*_: Any) -> Any:
    return NotImplemented


def facts_of(value: Any) -> tuple[str, str, str | None, list[str]]:
    """Return what the other side needs for a Proxy: kind, class name, built-in base type, and special methods."""
    kind = type(value)
    if isinstance(value, type) and issubclass(value, BaseException):
        first = next(each for each in value.__mro__ if vars(builtins).get(each.__name__) is each)
        return "exception", value.__name__, first.__name__, []
    if kind is types.CoroutineType:
        return "coroutine", kind.__name__, None, []
    base = "type" if isinstance(value, type) else next((b.__name__ for b in BASES if isinstance(value, b)), None)
    specials = [name for name in SPECIALS if _own(kind, name)]
    if kind.__hash__ is None:
        specials = [name for name in specials if name != "__hash__"] + ["no hash"]
    return "object", kind.__name__, base, specials


def _own(kind: type, name: str) -> bool:
    found = getattr(kind, name, None)
    return found is not None and found is not getattr(object, name, None)
