"""The main module inside the sandbox: it sets the limits, runs the program and its tests, and reports the result.

The job has three parts: this code with the limits; the program and its tests; a pass token. The solution runs in a
child process that is forked when only the first part has been read. The tests and the token are therefore in no memory
and no open file that the solution can reach. The token is reported when the tests have run to their end.
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
    """Main function of the process that bwrap starts. It reads `job`, from the second part on, and writes `report`."""
    if limits["uid"]:  # started by root, whose processes the kernel does not limit: continue as another user
        os.setgroups([])
        os.setgid(limits["uid"])
        os.setuid(limits["uid"])
    for what, name in _LIMITS:
        resource.setrlimit(what, (limits[name], limits[name] + (name == "cpu")))
    os.write(report, b"ready\n")
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # Python ignores these two
        if signal.getsignal(number) == signal.SIG_IGN:  # inherited from the parent process
            signal.signal(number, signal.SIG_DFL)
    peer, child = start(close=(job, report))
    program = marshal.loads(os.read(job, int(os.read(job, 16))))
    failure = judge(peer, program, child)
    token = os.read(job, 64)
    os.write(report, token if failure is None else "\t".join(failure).encode(errors="replace"))
    os._exit(0)  # does not wait for threads, and does not run handlers that the tests registered


def start(close: tuple[int, ...] = ()) -> tuple[Peer, int]:
    """Fork the child that runs the solution. Return the peer at the pipes to it, and its pid.

    The file descriptors in `close` are closed in the child.
    """
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
    """Prevent other processes of this user from inspecting this one, through /proc or by system calls."""
    if os.stat("/proc/self").st_uid == 0 != os.getuid():  # noqa: PTH116 (pathlib takes long to import)
        return  # the kernel did this when the user id changed
    import ctypes

    if ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError("prctl")


def judge(peer: Peer, program: dict[str, Any], child: int) -> tuple[str, str, str] | None:
    """Run a program and its tests. Return None if they pass, else the outcome, the part at fault and the reason.

    If the child ends early, this process exits with the same status.
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
        except Exception:  # the program closed or replaced the stream
            continue


# --- the solution ----------------------------------------------------------------------------------------------------


def _serve(read: int, write: int) -> NoReturn:
    """Execute the requests of the tests' process and answer them, until that process ends."""
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
    """The names of the solution, as the tests see them. A value is requested when it is used."""

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
    """Execute the tests as a main program, then run the tests that they only define (see `harness.plan`)."""
    names["__name__"] = "__main__"
    if isinstance(names, Lazy):
        sys.modules["solution"] = Names("solution", names, names.names)
    sys.modules["__main__"], sys.argv = Names("__main__", names, ()), ["tests.py"]
    try:
        exec(compile(source, "<tests>", "exec", dont_inherit=True), names)
    except SystemExit as error:
        # `unittest.main()` exits in this way. An exit of the solution is not a result of the tests.
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
    """Run the tests of a class in pytest's style, with a new object for each test."""
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
    """Main function of the program that a SandboxFusion server starts.

    The token is the first line of its input, and the rest is the job. The report is the last line of its output.
    """
    import json

    peer, child = start()
    token = sys.stdin.readline().strip()
    failure = judge(peer, json.load(sys.stdin), child)
    os.kill(child, signal.SIGKILL)
    os.write(1, ("\n" + (token if failure is None else "\t".join(failure)) + "\n").encode(errors="replace"))
    os._exit(0)
