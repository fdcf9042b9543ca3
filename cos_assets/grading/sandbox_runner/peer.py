"""Calls between two processes: the process of the tests, and the process of the solution.

Data are copied: numbers, texts, containers whose type is exactly a built-in one, and some types of the standard
library. Other objects stay in the process that created them. The other side gets a Proxy, whose operations are
requests. Therefore nothing that a solution replaces in its own process (built-in functions, modules, frames) changes
the behavior of the tests, and the tests compare their own copies.

A message consists of its size in 8 bytes and a marshalled tuple: ("ask", operation, arguments), ("done", result,
changed arguments) or ("raised", error). While one side waits for an answer, it answers requests of the other side.
"""

import _thread
import builtins
import contextlib
import marshal
import os
import select
import sys
import types
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from cos_assets.grading.sandbox_runner.proxies import SPECIALS, Proxy, facts_of, proxy_class
from cos_assets.grading.sandbox_runner.reasons import reason
from cos_assets.grading.sandbox_runner.values import BASES, base_of, made_of, parts_of, restore

_CONTAINERS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_NAMES = ("mine", "yours", "module", "builtin")
_SIZE, _MOST = 8, 1 << 30
_read, _write, _getpid = os.read, os.write, os.getpid


class Gone(BaseException):
    """The other process has ended, or closed its pipes."""


class Peer:
    """One side of the pipes. The side of the tests is `guarded`: the other side may only use objects that it got."""

    classes: ClassVar[dict[frozenset[str], type]] = {}

    def __init__(self, read: int, write: int, guarded: bool, other: int | None = None) -> None:
        self.pipes, self.guarded, self.process = (read, write), guarded, _getpid()
        self.mine: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}
        self.theirs: dict[int, Any] = {}
        self.errors: dict[type, int] = {}
        self.classes_in_tests: frozenset[str] = frozenset()
        self.turn = _thread.RLock()
        self.gone = self.broken = False
        self.operations: dict[str, Callable[..., Any]] = dict(_OPERATIONS)
        self.poll = select.poll()
        self.poll.register(read, select.POLLIN)
        self.ended = os.pidfd_open(other) if other and hasattr(os, "pidfd_open") else None
        if self.ended is not None:
            self.poll.register(self.ended, select.POLLIN)

    # --- messages

    def ask(self, operation: str, *arguments: Any) -> Any:
        """Return the answer of the other side. Raises the error that the operation raised there, or Gone."""
        with self.turn:
            self._send(("ask", operation, [self.pack(argument) for argument in arguments]))
            while True:
                kind, *rest = self._receive()
                if kind == "ask":
                    self._answer(*rest)
                    continue
                if kind == "raised":
                    raise self._error(rest[0])
                result, changed = rest
                for argument, now in zip(arguments, changed or (), strict=False):
                    if now is not None:
                        restore(argument, self.unpack(now))
                return self.unpack(result)

    def serve(self) -> None:
        """Answer requests until the other side ends."""
        while True:
            kind, *rest = self._receive()
            if kind == "ask":
                self._answer(*rest)

    def _answer(self, operation: str, packed: list[Any]) -> None:
        before = [marshal.dumps(argument) for argument in packed]
        try:
            arguments = [self.unpack(argument) for argument in packed]
            if self.guarded:
                _allow(operation, packed, arguments)
            result = self.pack(self.operations[operation](*arguments))
            now = [None if old[0] in _NAMES else self.pack(each) for old, each in zip(packed, arguments, strict=True)]
            same = all(new is None or marshal.dumps(new) == old for old, new in zip(before, now, strict=True))
            message = ("done", result, None if same else now)
        except Gone:
            raise
        except BaseException as error:
            message = ("raised", self._raised(error))  # type: ignore[assignment]
        if _getpid() != self.process:  # this is a process that the program forked
            os._exit(0)
        self._send(message)

    def _send(self, message: tuple[Any, ...]) -> None:
        data = marshal.dumps(message)
        data = len(data).to_bytes(_SIZE, "big") + data
        try:
            while data:
                data = data[_write(self.pipes[1], data) :]
        except OSError:
            self._lost()

    def _receive(self) -> Any:
        size = int.from_bytes(self._exactly(_SIZE), "big")
        if size < _MOST:
            try:
                kind, *rest = marshal.loads(self._exactly(size))
                return kind, *rest
            except (ValueError, TypeError, EOFError):
                pass
        self.broken = True  # the program has written to the pipe
        self._lost()

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            if self.ended is not None and self.pipes[0] not in {fd for fd, _ in self.poll.poll()}:
                self._lost()
            try:
                chunk = _read(self.pipes[0], size - len(data))
            except OSError:
                chunk = b""
            if not chunk:
                self._lost()
            data += chunk
        return bytes(data)

    def _lost(self) -> NoReturn:
        self.gone = True
        raise Gone

    # --- values

    def pack(self, value: Any) -> tuple[Any, ...]:
        try:
            marshal.dumps(value)  # accepts exact types only
        except ValueError:
            return self._pack(value)
        return ("data", value)

    def _pack(self, value: Any) -> tuple[Any, ...]:
        kind: Any = type(value)
        if kind.__name__ in _CONTAINERS and kind is _CONTAINERS[kind.__name__]:
            return (kind.__name__, [self.pack(each) for each in value])
        if kind is dict:
            return ("dict", [(self.pack(key), self.pack(each)) for key, each in value.items()])
        if value is NotImplemented:
            return ("not implemented",)
        if issubclass(kind, Proxy):
            return ("yours", object.__getattribute__(value, "_number_"))
        if kind is types.ModuleType and value.__name__.partition(".")[0] in sys.stdlib_module_names:
            return ("module", value.__name__)
        if isinstance(value, type) and value in self.errors:
            return ("yours", self.errors[value])
        name = getattr(value, "__name__", None) if isinstance(value, type | types.BuiltinFunctionType) else None
        if name and vars(builtins).get(name) is value and (self.guarded or isinstance(value, type)):
            return ("builtin", name)
        parts = parts_of(value)
        if parts is not None:
            return ("made", kind.__module__, kind.__name__, self.pack(parts))
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = len(self.mine)
            self.mine[number] = value
        return ("mine", number, facts_of(value))

    def unpack(self, packed: Any) -> Any:
        kind, *rest = packed
        if kind == "data":
            return rest[0]
        if kind in _CONTAINERS:
            return _CONTAINERS[kind]([self.unpack(each) for each in rest[0]])
        if kind == "dict":
            return {self.unpack(key): self.unpack(each) for key, each in rest[0]}
        if kind == "not implemented":
            return NotImplemented
        if kind == "yours":
            return self.mine[rest[0]]
        if kind == "module":
            if rest[0].partition(".")[0] not in sys.stdlib_module_names:
                raise ImportError(rest[0])
            __import__(rest[0])
            return sys.modules[rest[0]]
        if kind == "builtin":
            found = vars(builtins)[rest[0]]
            if self.guarded and not isinstance(found, type):
                raise TypeError(f"{rest[0]} is not a type")
            return found
        if kind == "made":
            module, name, parts = rest
            return made_of(module, name, self.unpack(parts))
        return self._proxy(*rest)

    def _proxy(self, number: int, facts: Any) -> Any:
        if number in self.theirs:
            return self.theirs[number]
        what, name, base, specials = facts
        made: Any
        if what == "exception":
            made = type(name, (_builtin_error(base),), {})
            self.errors[made] = number
        elif what == "coroutine":
            return self._wait(number)
        else:
            key = frozenset(specials)
            if key not in self.classes:
                self.classes[key] = proxy_class(key)
            made = object.__new__(self.classes[key])
            kinds = {kind.__name__: kind for kind in (*BASES, type)}
            facts = {"_peer_": self, "_number_": number, "_base_": kinds.get(base)}
            for slot, value in (facts | {"_known_": name in self.classes_in_tests}).items():
                object.__setattr__(made, slot, value)
        self.theirs[number] = made
        return made

    async def _wait(self, number: int) -> Any:
        return self.ask("run", self._stub(number))

    def _stub(self, number: int) -> Proxy:
        made = object.__new__(Proxy)
        object.__setattr__(made, "_number_", number)
        return made

    # --- errors

    def _raised(self, error: BaseException) -> tuple[Any, ...]:
        kind = type(error)
        own = self.pack(kind) if kind.__module__ != "builtins" else ("builtin", kind.__name__)
        told = getattr(error, "_reason_", None) or reason(error)
        try:
            arguments = self.pack(error.args)
            facts = self.pack({name: value for name, value in vars(error).items() if name != "_reason_"})
        except BaseException:  # the program's own error class may raise anything
            arguments, facts = self.pack(()), self.pack({})
        return own, kind.__module__, kind.__name__, arguments, facts, told

    def _error(self, raised: Any) -> BaseException:
        own, module, name, arguments, facts, told = raised
        kind = self.unpack(own)
        if self.guarded and own[0] == "mine":
            kind = _loaded_error(module, name) or kind
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            kind = Exception
        given = self.unpack(arguments)
        error = _made_error(kind, given if isinstance(given, tuple) else ())
        for name, value in self.unpack(facts).items():
            if not name.startswith("_"):
                with contextlib.suppress(AttributeError, TypeError):
                    setattr(error, name, value)
        error._reason_ = " ".join(str(told).split())[:600]  # type: ignore[attr-defined]
        return error


def _made_error(kind: type[BaseException], arguments: tuple[Any, ...]) -> BaseException:
    try:
        if kind.__module__ == "builtins":
            return kind(*arguments)
        error = kind.__new__(kind, *arguments)
        error.args = arguments
    except TypeError:
        return Exception(*arguments)
    return error


def _builtin_error(name: str | None) -> type:
    found = vars(builtins).get(name or "")
    return found if isinstance(found, type) and issubclass(found, BaseException) else Exception


def _loaded_error(module: str, name: str) -> type | None:
    """Return the error class of a module that the tests have imported, or None.

    Excludes unittest, because unittest would treat its own errors as skipped tests.
    """
    if module.partition(".")[0] not in sys.stdlib_module_names or module.startswith("unittest"):
        return None
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


# --- operations that one side performs for the other


def _run(waiting: Any) -> Any:
    import asyncio

    return asyncio.run(waiting)


def _copy(value: Any) -> Any:
    import copy

    return copy.copy(value)


def _deepcopy(value: Any) -> Any:
    import copy

    return copy.deepcopy(value)


def _do_special(value: Any, name: str, arguments: Any, named: Any) -> Any:
    if name == "__call__":
        return value(*arguments, **named)
    return getattr(type(value), name)(value, *arguments, **named)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "get": getattr,
    "set": setattr,
    "delete": delattr,
    "isinstance": isinstance,
    "issubclass": issubclass,
    "special": _do_special,
    "base": base_of,
    "run": _run,
    "copy": _copy,
    "deepcopy": _deepcopy,
}
_CLOSED = (
    *(types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.GeneratorType, types.CoroutineType),
    *(types.AsyncGeneratorType, types.FrameType, types.CodeType, types.ModuleType, types.TracebackType, type),
)


def _allow(operation: str, packed: list[Any], arguments: list[Any]) -> None:
    """Raise AttributeError unless a solution may perform an operation.

    It may use operators and public attributes of objects that the tests handed over. It may not inspect their internals
    or any other object.
    """
    if operation in ("isinstance", "issubclass"):
        return
    handed_over = bool(packed) and packed[0][0] == "yours"
    operator = operation == "base" or (operation == "special" and arguments[1] in SPECIALS)
    attribute = operation in ("get", "set", "delete") and type(arguments[1]) is str and not arguments[1].startswith("_")
    if not handed_over or not (operator or (attribute and not isinstance(arguments[0], _CLOSED))):
        raise AttributeError(f"{operation} {arguments[1:2]} is not allowed on an object of the tests")
