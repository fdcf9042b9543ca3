"""Execution of untrusted Python programs in a sandbox.

A job is one Python process in its own sandbox, which bubblewrap (`bwrap`) creates. The job has no network, and it has
its own processes, users, host name and shared memory. Of the file system it sees only the system's programs and
libraries and the interpreter with its standard library, all read-only, and one scratch folder in memory. Its
environment is empty. When the job ends or is ended, its process namespace is destroyed with everything in it. There
is no mode without a sandbox: if none can be created, `require` says what to install.

Memory is bounded by the limit per process (address space) times the number of processes, plus the scratch folders. A
lower limit on the sum would require cgroups, which need rights that most machines do not give. If memory runs out,
the kernel ends a job before anything else.

If the caller is root, a job still has no root rights: it runs under a user id that owns nothing, because the kernel
does not count root's processes. For any other caller, it runs in a user namespace.

With COS_SANDBOX_URL, jobs run on a SandboxFusion server instead (https://bytedance.github.io/SandboxFusion), which
has its own limits for everything but time.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import math
import os
import random
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import IO, Any, Literal

import psutil

from cos_assets.grading import harness, sandbox_runner
from cos_assets.grading.cores import core
from cos_assets.grading.syscalls import system_call_filter

INSTALL = (
    "programs run in a sandbox only: install bubblewrap 0.7 or newer (`apt-get install bubblewrap`), or set"
    " COS_SANDBOX_URL to a SandboxFusion server"
)
Outcome = Literal["ok", "error", "time", "memory", "output", "processes", "disk", "interrupted", "form"]
Part = tuple[str, str]

_REPORT_BYTES = 1 << 16
_TAIL = 2000
_LIMITS = {"memory": "memory", "processes": "process", "disk": "disk"}
# User ids that systemd assigns to services while they run. They own no files.
_UIDS = range(61184, 65520)
# If memory runs out, the kernel ends this process first. In the sandbox /proc is read-only, so a job cannot undo this.
_FIRST_TO_GO = ("/bin/sh", "-c", 'echo 1000 > /proc/self/oom_score_adj; exec "$@"', "sh")
_START = (
    "import marshal, os, sys\n"
    "job, report = map(int, sys.argv[1:])\n"
    "code, limits = marshal.loads(os.read(job, int(os.read(job, 16))))\n"
    "exec(marshal.loads(code))"
)
_LOOK_EVERY = 1.0  # seconds between two measurements of a job's usage
_PATIENCE = 20  # maximum wall-clock time, in multiples of the wall limit, on a machine that withholds its cores
# The best of five runs of `_workload` on one core of an AMD EPYC with CPython 3.11.7.
REFERENCE_SECONDS = 0.012


@dataclass(frozen=True)
class Limits:
    """Limits of a job. Times are for the reference machine; elsewhere they are multiplied by `slowness`.

    Attributes
    ----------
    cpu_seconds : float
        Processor time of one process, rounded up to whole seconds.
    wall_seconds : float
        Ends a job that waits. Time in which a job was ready to run while the machine ran others does not count.
    memory, file : int
        Bytes of one process (address space), and of one file.
    processes, open_files : int
        The number of processes, and of open files of one process.
    scratch : int
        Bytes of the scratch folder, and the same again of shared memory.
    output : int
        Bytes that the job may print.
    """

    cpu_seconds: float = 3
    wall_seconds: float = 9
    memory: int = 1 << 30
    processes: int = 16
    file: int = 16 << 20
    scratch: int = 64 << 20
    output: int = 1 << 20
    open_files: int = 256


@dataclass(frozen=True)
class Result:
    """The result of a job.

    Attributes
    ----------
    outcome : Outcome
        "ok", "error" or the limit that was reached. Two outcomes do not depend on the program: "interrupted" (the
        machine did not run it, or it was stopped or killed from outside) and "form" (its tests cannot be run as they
        are written).
    part : str or None
        The name of the part that failed.
    reason : str or None
        The cause in one line.
    output : str
        The end of the printed text.
    seconds : float
        Duration of the job.
    """

    outcome: Outcome
    part: str | None
    reason: str | None
    output: str
    seconds: float


def run(parts: Sequence[Part], limits: Limits | None = None, *, entry_point: str | None = None) -> Result:
    """Execute parts one after another, with the standard library only.

    Safe to call from many threads and processes: at most one program runs per usable core. A program that is
    interrupted runs once more, alone.

    Parameters
    ----------
    parts : sequence of tuple
        (name, source), at least one. The last one may be "tests". Tests run as their author meant (see `harness.plan`),
        in a process of their own if they can: they then see only what the program returns. The other parts share one
        fresh Python module.
    limits : Limits, optional
        The limits of the job.
    entry_point : str, optional
        The function that the tests test.

    Returns
    -------
    Result
        "ok" means that every part ran to its end. A program that exits early, with any exit code, is an "error".

    Raises
    ------
    RuntimeError
        If there is no sandbox (see `require`).
    """
    require()
    limits = limits or Limits()
    has_tests = parts[-1][0] == "tests"
    plan = harness.plan(parts[-1][1], entry_point) if has_tests else harness.NO_TESTS
    program = {"parts": [list(part) for part in parts], "tests": has_tests, **plan}
    if url := os.environ.get("COS_SANDBOX_URL"):
        return _remote(url, program, limits)
    with core():
        result = _local(program, limits)
    if result.outcome == "interrupted":
        with core(alone=True):
            result = _local(program, limits)
    return result


def require() -> None:
    """Check that a sandbox can be created, once per process.

    Raises
    ------
    RuntimeError
        If it cannot: one line that says what to install.
    """
    if not os.environ.get("COS_SANDBOX_URL"):
        _try()


@cache
def _try() -> None:
    if not shutil.which("bwrap"):
        raise RuntimeError(f"bwrap is not installed; {INSTALL}")
    trial = "import threading\nthread = threading.Thread(target=int)\nthread.start()\nthread.join()"
    result = _local({"parts": [["trial", trial]], "tests": False, **harness.NO_TESTS}, Limits())
    if result.outcome == "processes":  # before Linux 5.14 the limit counts all processes of the user
        raise RuntimeError(
            f"this kernel counts the processes of other programs, too ({result.reason}); use Linux 5.14 or newer"
        )


@cache
def slowness() -> float:
    """Return how many times slower than the reference this machine runs Python, at least 1. Measured once per process.

    Examples
    --------
    >>> slowness() >= 1
    True
    """
    return max(1.0, min(_workload() for _ in range(5)) / REFERENCE_SECONDS)


def _workload() -> float:
    started, total, seen = time.thread_time(), 0, {}
    for i in range(100_000):
        total = (total * 31 + i) % 1_000_003
        seen[total % 1000] = str(i)
    return time.thread_time() - started


# --- on this machine -------------------------------------------------------------------------------------------------


@cache
def _code() -> bytes:
    """Return the compiled code that runs inside the sandbox, with the call that starts it."""
    return marshal.dumps(
        compile(sandbox_runner.text() + "main(limits, job, report)\n", "<inside>", "exec", dont_inherit=True)
    )


def _local(program: dict[str, Any], limits: Limits) -> Result:
    token, factor = secrets.token_hex(32).encode(), slowness()
    wall, cpu = limits.wall_seconds * factor, math.ceil(limits.cpu_seconds * factor)
    uid = random.choice(_UIDS) if os.getuid() == 0 else 0
    # The tests use one process in addition to the program's own.
    job = {"uid": uid, "core": 0, "cpu": cpu, "memory": limits.memory, "file": limits.file}
    job |= {"open_files": limits.open_files, "processes": limits.processes + 1}
    body = b"".join(b"%016d" % len(each) + each for each in (marshal.dumps((_code(), job)), marshal.dumps(program)))
    with contextlib.ExitStack() as stack:
        given = [_memory(stack, body + token), _memory(stack, system_call_filter())]
        (report, report_in), (info, info_in) = (_pipe(stack), _pipe(stack))
        given += [report_in, info_in]
        job_fd, filter_fd, report_fd, info_fd = (file.fileno() for file in given)
        bwrap = [shutil.which("bwrap") or "bwrap", "--info-fd", str(info_fd), "--seccomp", str(filter_fd)]
        command = [_python(), "-s", "-S", "-P", "-c", _START, str(job_fd), str(report_fd)]
        process = subprocess.Popen(
            [*_FIRST_TO_GO, *bwrap, *_walls(limits, bool(uid)), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"},
            pass_fds=(job_fd, filter_fd, report_fd, info_fd),
        )
        stdout = stack.enter_context(_stdout(process))
        clock = _Clock(process.pid, wall, cpu)
        first = None
        try:
            for file in given:
                file.close()  # the job's ends of the pipes, so that the job's close is seen as the end of the stream
            first = _first_process(info)
            output, told, stopped = _watch(process, stdout.fileno(), report.fileno(), limits.output, clock)
        finally:
            _end(process, first)
    seconds, code, tail = clock.elapsed(), process.returncode, output[-_TAIL:].decode(errors="replace")
    ready, _, last = told.partition(b"\n")
    if ready != b"ready":
        why = "it did not start in time" if stopped else " ".join(tail.split()) or f"exit code {code}"
        raise RuntimeError(f"bwrap cannot make a sandbox here ({why}); {INSTALL}")
    result = partial(Result, output=tail, seconds=seconds)
    if stopped == "output":
        return result("output", None, f"output limit: more than {limits.output} bytes")
    if stopped == "time" and (cause := clock.interrupted()):
        return result("interrupted", None, cause)
    if stopped == "time":
        return result("time", None, f"time limit: {wall:.3g} s")
    if last == token:
        return result("ok", None, None)
    if last:
        return result(*_told(last.decode(errors="replace")))
    killed = code == 128 + signal.SIGKILL
    if code == 128 + signal.SIGXCPU or (killed and clock.used >= cpu - _LOOK_EVERY):  # a job can ignore SIGXCPU
        return result("time", None, f"time limit: {cpu} s of processor time")
    if killed:
        return result("interrupted", None, "the program was killed (SIGKILL)")
    how = signal.Signals(code - 128).name if code - 128 in set(signal.Signals) else f"exit code {code}"
    return result("error", None, f"ended before its last line ({how})")


def _told(report: str) -> tuple[Outcome, str | None, str]:
    """Return the outcome, part and reason of a report of `sandbox_runner`."""
    outcome, part, reason = [*report.split("\t", 2), "", ""][:3]
    if outcome in _LIMITS:
        return outcome, part, f"{_LIMITS[outcome]} limit: {reason}"  # type: ignore[return-value]
    return "form" if outcome == "form" else "error", part or None, reason


def _walls(limits: Limits, root: bool) -> list[str]:
    """Return bwrap's arguments for what the job sees and what it shares with the machine."""
    walls = ["--die-with-parent", "--new-session", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    walls += ["--unshare-cgroup-try", "--hostname", "sandbox", "--cap-drop", "ALL"]
    walls += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if root else ["--unshare-user", "--uid", "65534"]
    walls += ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/lib", "/lib64"):
        if Path(name).is_symlink():
            walls += ["--symlink", str(Path(name).readlink()), name]
        elif Path(name).is_dir():
            walls += ["--ro-bind", name, name]
    walls += _hidden("/usr/local", *_packages(Path("/usr/lib")))
    prefix = Path(sys.base_prefix)
    if prefix != Path("/usr"):
        for folder in (*reversed(prefix.parents[:-1]), prefix, prefix / "bin"):
            walls += ["--dir", str(folder)]  # created implicitly, they would be accessible to bwrap's own user only
        walls += ["--ro-bind", _python(), _python(), "--ro-bind", str(prefix / "lib"), str(prefix / "lib")]
        walls += _hidden(*_packages(prefix / "lib"))
    scratch = ("--perms", "1777", "--size", str(limits.scratch), "--tmpfs")
    walls += ["--proc", "/proc", "--remount-ro", "/proc"]
    walls += ["--dev", "/dev", *scratch, "/dev/shm", "--remount-ro", "/dev"]
    return [*walls, *scratch, "/tmp", "--remount-ro", "/", "--chdir", "/tmp"]


def _packages(lib: Path) -> list[str]:
    """Return the folders of installed packages in a folder of libraries."""
    return [str(found) for name in ("site", "dist") for found in lib.glob(f"python3*/{name}-packages")]


def _hidden(*folders: str) -> list[str]:
    """Return bwrap's arguments that replace each existing folder with an empty one."""
    empty = [
        ("--size", "4096", "--tmpfs", folder, "--remount-ro", folder) for folder in folders if Path(folder).is_dir()
    ]
    return [argument for arguments in empty for argument in arguments]


def _python() -> str:
    """Return the interpreter itself, not a virtual environment's link to it: the sandbox contains no packages."""
    return str(Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"))


class _Clock:
    """The remaining time of a job, excluding the time for which the machine withheld a core from it.

    `used` is the processor time of all its processes at the last measurement, in seconds.
    """

    def __init__(self, pid: int, wall: float, cpu: float) -> None:
        self.pid, self.wall, self.cpu = pid, wall, cpu
        self.started = time.monotonic()
        self.used, self.withheld, self.held = 0.0, 0.0, False
        self._before: float | None = None  # time withheld before the program began
        self._looked = self.started
        self._elapsed = 0.0  # at the last measurement

    def begin(self) -> None:
        """Start the clock of the program.

        Until now, the kernel created the job's namespaces, which it does for one job after another.
        """
        self._look()
        self.started, self._before, self._elapsed = time.monotonic(), self.withheld, 0.0

    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def left(self) -> float:
        # The time that a measurement takes counts at the next one, because this process may itself wait for a core.
        elapsed = self.elapsed()
        if time.monotonic() - self._looked >= min(self.wall, _LOOK_EVERY):
            self._look()
            self._elapsed = elapsed
        if self._before is None:
            return max(0.0, _PATIENCE * self.wall - elapsed)
        # Time that several busy processes of a job withhold from one another is not the machine's fault.
        withheld = 0.0 if self.used >= self.cpu else self.withheld - self._before
        return max(0.0, min(self.wall + withheld, _PATIENCE * self.wall) - self._elapsed)

    def interrupted(self) -> str | None:
        """Return why a job whose time is over could not run; None if it could, and waited or computed."""
        if self.held:
            return "the program was stopped, or waited for a disk"
        if self.used < self.cpu and self.elapsed() >= _PATIENCE * self.wall:
            return f"the machine ran the program for {self.used:.3g} s of {self.elapsed():.3g} s"
        return None

    def _look(self) -> None:
        """Measure the usage of the job's processes.

        `run_delay` of /proc/PID/task/TID/schedstat is the time in nanoseconds in which a thread was ready while
        another ran.
        """
        used, withheld, held = 0.0, 0.0, False
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(self.pid)
            for process in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.Error, OSError):
                    used += sum(process.cpu_times()[:4])
                    held |= process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP)
                    for task in Path(f"/proc/{process.pid}/task").iterdir():
                        withheld += int((task / "schedstat").read_text().split()[1]) / 1e9
            self.used, self.withheld, self.held = max(self.used, used), max(self.withheld, withheld), held
        self._looked = time.monotonic()


def _watch(
    process: subprocess.Popen[bytes], stdout: int, report: int, limit: int, clock: _Clock
) -> tuple[bytes, bytes, Literal["time", "output"] | None]:
    """Return what the job printed and reported until its end, and why it has to be stopped, if it has to be."""
    buffers = {stdout: bytearray(), report: bytearray()}
    limits = {stdout: limit, report: _REPORT_BYTES}
    stopped: Literal["time", "output"] | None = None
    poll = select.poll()
    for fd in buffers:
        poll.register(fd, select.POLLIN)
    open_fds = set(buffers)
    while open_fds and not stopped:
        left = clock.left()
        ready = poll.poll(min(left, _LOOK_EVERY) * 1000)
        if not ready and left <= 0:
            stopped = "time"
        for fd, _ in ready:
            chunk = os.read(fd, 1 << 16)
            if fd == report and chunk and not buffers[report]:
                clock.begin()
            buffers[fd] += chunk
            if len(buffers[fd]) > limits[fd]:
                stopped = "output"
            elif not chunk:
                poll.unregister(fd)
                open_fds.remove(fd)
    while not stopped:  # both streams are closed, by the end of the job or by the job itself
        left = clock.left()
        try:
            process.wait(min(left, _LOOK_EVERY))
            break
        except subprocess.TimeoutExpired:
            stopped = "time" if left <= 0 else None
    return bytes(buffers[stdout]), bytes(buffers[report]), stopped


def _first_process(info: IO[bytes]) -> int | None:
    """Return a handle of the first process in the job's namespace; None if it has ended or never started."""
    text = info.read()  # bwrap closes it once the job has started, or has failed to start
    try:
        return os.pidfd_open(json.loads(text)["child-pid"]) if text else None
    except ProcessLookupError:
        return None


def _end(process: subprocess.Popen[bytes], first: int | None) -> None:
    """End the first process, with which the kernel ends the whole namespace, and wait until all of it has ended."""
    if first is not None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(first, signal.SIGKILL)
        gone = select.poll()
        gone.register(first, select.POLLIN)
        gone.poll()
        os.close(first)
    process.kill()
    process.wait()


def _memory(stack: contextlib.ExitStack, data: bytes) -> IO[bytes]:
    """Return a file in memory with `data`, positioned at its start."""
    file = stack.enter_context(os.fdopen(os.memfd_create("job"), "w+b"))
    file.write(data)
    file.seek(0)
    return file


def _pipe(stack: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """Return the reading and the writing end of a new pipe."""
    out, into = os.pipe()
    return stack.enter_context(os.fdopen(out, "rb", 0)), stack.enter_context(os.fdopen(into, "wb", 0))


def _stdout(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


# --- on a SandboxFusion server ---------------------------------------------------------------------------------------


def _remote(url: str, program: dict[str, Any], limits: Limits) -> Result:
    """Run a program by POST /run_code. The pass token is the first line of its input.

    The token is printed last, when all parts have run.
    """
    token, wall = secrets.token_hex(32), limits.wall_seconds * slowness()
    stdin = f"{token}\n{json.dumps(program)}"
    body = {"language": "python", "code": f"{sandbox_runner.text()}\nremote()\n", "stdin": stdin, "run_timeout": wall}
    request = urllib.request.Request(
        f"{url.rstrip('/')}/run_code", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    started = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=wall + 60) as response:
            answer = json.load(response)
        done = answer["run_result"] or {}
        status, code = done.get("status"), done.get("return_code")
        output = (done.get("stdout") or "") + (done.get("stderr") or "")
        if answer["status"] == "SandboxError" or not status:
            raise ValueError(answer.get("message") or "the server gave no reason")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        told = " ".join(str(error).split())[:200]
        raise RuntimeError(f"COS_SANDBOX_URL: the server did not run a program ({told})") from None
    result = partial(Result, output=output[-_TAIL:], seconds=time.monotonic() - started)
    report = (done.get("stdout") or "").rstrip("\n").rpartition("\n")[2]
    if status == "TimeLimitExceeded":
        return result("time", None, f"time limit: {wall:.3g} s")
    if len(output) > limits.output:
        return result("output", None, f"output limit: more than {limits.output} bytes")
    if report == token:
        return result("ok", None, None)
    if report.count("\t") >= 2 and report.split("\t")[1] in dict(program["parts"]):
        return result(*_told(report))
    return result("error", None, f"ended before its last line (exit code {code})")
