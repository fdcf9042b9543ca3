"""What runs inside the sandbox: the limits, then the program, then the report. Never imported; see `sandbox`.

    python inside.py <job fd> <report fd>

The job is its size in 16 digits, then that many bytes of marshal: (limits, parts). A pass token follows, and is left
unread until every part has run, so it is in no variable that the program could look at: to pass without running the
tests a program has to search its own file descriptors for it. No program can be fully kept from that by what shares
its interpreter, as none can be kept from an `__eq__` that is always true; what ends early, prints or exits cannot pass.

Little is imported: `json` alone would double the time that Python takes to start.
"""

import marshal
import os
import resource
import sys

_ALL = (
    (resource.RLIMIT_CORE, "core"),
    (resource.RLIMIT_CPU, "cpu"),
    (resource.RLIMIT_AS, "memory"),
    (resource.RLIMIT_FSIZE, "file"),
    (resource.RLIMIT_NOFILE, "open_files"),
    (resource.RLIMIT_NPROC, "processes"),
)


def main(job: int, report: int) -> None:
    read, write, leave, process = os.read, os.write, os._exit, os.getpid
    limits, parts = marshal.loads(_exactly(job, int(read(job, 16))))
    own = process()
    if limits["uid"]:  # started by root: go on as nobody in particular, of whom the kernel counts processes
        os.setgroups([])
        os.setgid(limits["uid"])
        os.setuid(limits["uid"])
    for what, name in _ALL:
        resource.setrlimit(what, (limits[name], limits[name] + (name == "cpu")))
    write(report, b"ready\n")
    failure = run(parts)
    _flush()
    if process() == own:  # a fork of the program that comes this far has nothing to report
        write(report, read(job, 64) if failure is None else "\t".join(failure).encode(errors="replace"))
    leave(0)  # without waiting for threads, and without handlers that the program left behind


def run(parts: list[tuple[str, str]]) -> tuple[str, str, str] | None:
    """Execute the parts (name, source) in turn in one module. None, or what stopped them: outcome, part and reason."""
    module = type(sys)("solution")
    sys.modules["solution"] = module
    for name, source in parts:
        try:
            exec(compile(source, f"<{name}>", "exec", dont_inherit=True), module.__dict__)
        except BaseException as error:
            return _outcome(error), name, _reason(error, dict(parts))
    return None


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # the program closed or replaced it
            continue


def _outcome(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, BlockingIOError) or "can't start new thread" in _text(error):
        return "processes"
    if isinstance(error, OSError) and error.errno in (27, 28):  # EFBIG, ENOSPC
        return "disk"
    return "error"


def _reason(error: BaseException, sources: dict[str, str]) -> str:
    """`ValueError: message (line 3 of the tests: assert f(2) == 4)`, the innermost line that is the program's own."""
    told = type(error).__name__
    if text := _text(error):
        told += f": {text[:200]}"
    place = None
    if isinstance(error, SyntaxError):
        place = error.filename, error.lineno
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.strip("<>") in sources:
            place = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next
    if place is None or not place[1]:
        return told
    name, number = str(place[0]).strip("<>"), place[1]
    lines = sources.get(name, "").splitlines()
    line = lines[number - 1].strip()[:200] if number <= len(lines) else ""
    return f"{told} (line {number} of the {name}: {line})"


def _text(error: BaseException) -> str:
    try:
        return " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    except BaseException:  # a `__str__` of the program's own
        return ""


def _exactly(fd: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += os.read(fd, size - len(data))
    return bytes(data)


if __name__ == "__main__" and len(sys.argv) == 3:
    main(int(sys.argv[1]), int(sys.argv[2]))
