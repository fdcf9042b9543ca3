"""What runs inside the sandbox: the limits, then the program, then the report.

The job comes as three parts: this code with the limits; the program and its tests; a pass token. The solution runs in a
child process, which is forked when only the first part has been read, so the tests and the token are in no memory and
no open file that it can reach. The token is reported once the tests have run to their end.
"""

import contextlib
import marshal
import os
import resource
import signal
import sys
import types
from collections.abc import Iterable
from typing import Any, NoReturn

from cos_assets.grading.sandbox_runner.peer import Gone, Peer
from cos_assets.grading.sandbox_runner.reasons import SOURCES, reason, text_of

_LIMITS = (
    (resource.RLIMIT_CORE, "core"),
    (resource.RLIMIT_CPU, "cpu"),
    (resource.RLIMIT_AS, "memory"),
    (resource.RLIMIT_FSIZE, "file"),
    (resource.RLIMIT_NOFILE, "open_files"),
    (resource.RLIMIT_NPROC, "processes"),
)
_PR_SET_DUMPABLE = 4


def main(limits: dict[str, int], job: int, report: int) -> NoReturn:
    """The process that bwrap starts. `job` is open at the second part, `report` for what this process tells."""
    if limits["uid"]:  # started by root: go on as nobody in particular, of whom the kernel counts processes
        os.setgroups([])
        os.setgid(limits["uid"])
        os.setuid(limits["uid"])
    for what, name in _LIMITS:
        resource.setrlimit(what, (limits[name], limits[name] + (name == "cpu")))
    os.write(report, b"ready\n")
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # Python ignores these two
        if signal.getsignal(number) == signal.SIG_IGN:  # as who started this process does
            signal.signal(number, signal.SIG_DFL)
    peer, child = start(close=(job, report))
    program = marshal.loads(os.read(job, int(os.read(job, 16))))
    failure = judge(peer, program, child)
    token = os.read(job, 64)
    os.write(report, token if failure is None else "\t".join(failure).encode(errors="replace"))
    os._exit(0)  # without waiting for threads, and without handlers that the tests left behind


def start(close: tuple[int, ...] = ()) -> tuple[Peer, int]:
    """The child that runs the solution, and the pipes to it. What `close` names is not open in it."""
    _hide()
    (ask_out, ask_in), (tell_out, tell_in) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        for fd in (*close, ask_in, tell_out):
            os.close(fd)
        _serve(ask_out, tell_in)
    os.close(ask_out)
    os.close(tell_in)
    return Peer(tell_out, ask_in, guarded=True, other=child), child


def _hide() -> None:
    """No other process of this user may look into this one, in /proc or by system calls."""
    if os.stat("/proc/self").st_uid == 0 != os.getuid():  # noqa: PTH116 (pathlib takes long to import)
        return  # the kernel has done it, because the user has changed
    import ctypes

    if ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError("prctl")


def judge(peer: Peer, program: dict[str, Any], child: int) -> tuple[str, str, str] | None:
    """Run a program and its tests. None, or what stopped them: outcome, part and reason.

    Ends this process as the child has ended, where it ends early.
    """
    *parts, (last, tests) = program["parts"] if program["tests"] else (*program["parts"], ("", ""))
    name = ""
    peer.classes_in_tests = frozenset(program["classes"])
    try:
        for name, source in parts:
            peer.ask("execute", name, source)
        if last:
            name = last
            SOURCES[name] = tests
            if program["apart"]:
                _test(Lazy(peer), tests, program)
            else:
                peer.ask("test", tests, program)
        peer.ask("flush")
    except BaseException as error:
        if peer.broken:
            os._exit(1)
        if peer.gone:
            _end_as(child)
        return _outcome(error), name, getattr(error, "_reason_", None) or reason(error)
    finally:
        flush()
    return None


def _end_as(child: int) -> NoReturn:
    with contextlib.suppress(OSError):
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        os._exit(128 - code if code < 0 else code)
    os._exit(1)


def _outcome(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, BlockingIOError) or "can't start new thread" in text_of(error):
        return "processes"
    if isinstance(error, OSError) and error.errno in (27, 28):  # EFBIG, ENOSPC
        return "disk"
    return "form" if isinstance(error, Form) else "error"


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # the program closed or replaced it
            continue


# --- the solution ----------------------------------------------------------------------------------------------------


def _serve(read: int, write: int) -> NoReturn:
    """Execute what the tests' process sends, and answer it, until it is gone."""
    own, leave = os.getpid(), os._exit
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        peer = Peer(read, write, guarded=False)
        module = types.ModuleType("solution")
        sys.modules["solution"] = module

        def execute(name: str, source: str) -> None:
            SOURCES[name] = source
            exec(compile(source, f"<{name}>", "exec", dont_inherit=True), module.__dict__)

        def test(source: str, program: dict[str, Any]) -> None:
            SOURCES["tests"] = source
            _test(module.__dict__, source, program)

        def value(name: str) -> Any:
            return module.__dict__[name]

        def names() -> list[str]:
            return [name for name in module.__dict__ if not (name.startswith("__") and name.endswith("__"))]

        peer.operations |= {"execute": execute, "test": test, "value": value, "names": names, "flush": flush}
        peer.serve()
    except Gone:
        leave(0)
    except BaseException:
        leave(1 if os.getpid() == own else 0)
    leave(0)


class Lazy(dict[str, Any]):
    """The names of the solution, as the tests see them: asked for when they are used."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.names = frozenset(peer.ask("names"))

    def __missing__(self, name: str) -> Any:
        if name not in self.names:
            raise KeyError(name)
        return self.peer.ask("value", name)


class Names(types.ModuleType):
    """A module with the names of a dictionary: for `from solution import f`, and for `unittest.main()`."""

    def __init__(self, name: str, names: dict[str, Any], public: Iterable[str]) -> None:
        super().__init__(name)
        self.__dict__["_names_"] = names
        self.__dict__["__all__"] = [name for name in public if not name.startswith("_")]

    def __dir__(self) -> list[str]:
        return list(self.__dict__["_names_"])

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_names_"][name]
        except KeyError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None


# --- the tests -------------------------------------------------------------------------------------------------------


class Form(Exception):
    """The tests cannot be run as they are written."""


def _test(names: dict[str, Any], source: str, program: dict[str, Any]) -> None:
    """Execute the tests as a main program, then what they define and leave to a test runner (see `harness.plan`)."""
    names["__name__"] = "__main__"
    if isinstance(names, Lazy):
        sys.modules["solution"] = Names("solution", names, names.names)
    sys.modules["__main__"], sys.argv = Names("__main__", names, ()), ["tests.py"]
    try:
        exec(compile(source, "<tests>", "exec", dont_inherit=True), names)
    except SystemExit as error:
        # `unittest.main()` ends the tests so. One of the solution says nothing about them.
        if hasattr(error, "_reason_"):
            raise
        if error.code:
            raise AssertionError(f"the tests end with exit code {error.code!r}") from None
        return
    for form, name, argument in program["after"]:
        found = names[name]
        if form == "unittest":
            _unittest(found)
        elif form == "class":
            _class(found, argument)
        elif form == "call":
            _awaited(found(*([names[argument]] if argument else [])))
        else:
            raise Form(argument)


def _awaited(result: Any) -> None:
    if isinstance(result, types.CoroutineType):
        import asyncio

        asyncio.run(result)


def _class(kind: Any, methods: str) -> None:
    """A class of pytest's: an object for each test."""
    for method in methods.split():
        case = kind()
        getattr(case, "setup_method", lambda: None)()
        _awaited(getattr(case, method)())
        getattr(case, "teardown_method", lambda: None)()


def _unittest(kind: Any) -> None:
    import unittest

    class Result(unittest.TestResult):
        """Keeps the first error."""

        first: Any = None

        def addError(self, test: Any, err: Any) -> None:
            self.first = self.first or err[1]

        def addFailure(self, test: Any, err: Any) -> None:
            self.first = self.first or err[1]

        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
            self.first = self.first or (err and err[1])

    result = Result()
    unittest.defaultTestLoader.loadTestsFromTestCase(kind).run(result)
    if result.first is not None:
        raise result.first
    if result.unexpectedSuccesses or result.testsRun == len(result.skipped):
        raise AssertionError(f"no test of {kind.__name__} passed as expected")


def remote() -> NoReturn:
    """The program that a SandboxFusion server starts: the token is the first line of its input, the rest is the job.

    What it tells is its last line.
    """
    import json

    peer, child = start()
    token = sys.stdin.readline().strip()
    failure = judge(peer, json.load(sys.stdin), child)
    os.kill(child, signal.SIGKILL)
    os.write(1, ("\n" + (token if failure is None else "\t".join(failure)) + "\n").encode(errors="replace"))
    os._exit(0)
