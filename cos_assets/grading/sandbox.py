"""Python programs that nobody has read, run where they can do no harm.

A job is one Python process in a sandbox of its own, made by bubblewrap (`bwrap`): no network; its own processes, users,
host name and shared memory; the system's programs and libraries, and the interpreter with its standard library,
read-only, and nothing else of the file system; an empty environment; one scratch folder in memory. When the job ends,
or is ended, its process namespace goes with everything in it.
There is no mode without a sandbox: where none can be made, `require` says what to install.

Memory is bounded per process (address space) times the number of processes, plus the scratch folders: there is no
limit on the sum below that without cgroups, which need rights that most machines do not give. Under pressure the kernel
ends a job before anything else.

Started by root, a job is root nowhere: the kernel does not count root's processes, so the job goes on under a user id
that owns nothing. Otherwise it runs in a user namespace.

With COS_SANDBOX_URL, jobs run on a SandboxFusion server instead (https://bytedance.github.io/SandboxFusion), which has
limits of its own for everything but time.
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
    "code is run in a sandbox only: `apt-get install bubblewrap` (0.7 or newer), or set COS_SANDBOX_URL to a"
    " SandboxFusion server"
)
Outcome = Literal["ok", "error", "time", "memory", "output", "processes", "disk", "interrupted", "form"]
Part = tuple[str, str]

_REPORT_BYTES = 1 << 16
_TAIL = 2000
_LIMITS = {"memory": "memory", "processes": "process", "disk": "disk"}
# Ids that systemd hands out to services for the time they run: they own no files.
_UIDS = range(61184, 65520)
# Out of memory, the kernel ends this process before others. Inside, /proc is read-only: a job cannot take that back.
_FIRST_TO_GO = ("/bin/sh", "-c", 'echo 1000 > /proc/self/oom_score_adj; exec "$@"', "sh")
_START = (
    "import marshal, os, sys\n"
    "job, report = map(int, sys.argv[1:])\n"
    "code, limits = marshal.loads(os.read(job, int(os.read(job, 16))))\n"
    "exec(marshal.loads(code))"
)
_LOOK_EVERY = 1.0  # seconds between two looks at what a job has used
_PATIENCE = 20  # times the wall limit that a job may take on a machine that does not let it run
# The best of five runs of `_workload` on one core of an AMD EPYC with CPython 3.11.7.
REFERENCE_SECONDS = 0.012


@dataclass(frozen=True)
class Limits:
    """What a job may use. Times are for the reference machine; elsewhere `slowness` stretches them.

    `cpu_seconds` is processor time of one process, rounded up to whole seconds. `wall_seconds` ends a job that waits.
    Time in which a job was ready to run and the machine ran others does not count. `memory` and `file` are bytes of one
    process and one file, `scratch` bytes of the scratch folder (and again of shared memory), `output` bytes printed.
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
    """How a job ended. `part` is the one that failed, `reason` one line; `output` the end of what was printed.

    Two outcomes say nothing about the program: "interrupted" (the machine did not run it, or somebody stopped or killed
    it) and "form" (its tests cannot be run as they are written).
    """

    outcome: Outcome
    part: str | None
    reason: str | None
    exit_code: int | None
    output: str
    seconds: float


def run(parts: Sequence[Part], limits: Limits | None = None, *, entry_point: str | None = None) -> Result:
    """Execute parts (name, source) one after another, with the standard library only.

    The last part may be "tests" (of `entry_point`). They run as their author meant (see `harness.plan`), in a process
    of their own where they can: to them the program is what it returns. The other parts share one fresh Python module.
    "ok" means that every part ran to its end: a program that leaves early, with whatever exit code, is an "error".

    Safe to call from many threads and processes: at most one program runs per usable core. One that is interrupted
    runs once more, alone. Raises RuntimeError where there is no sandbox (see `require`).
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
    """Raises RuntimeError, one line that says what to install, unless a sandbox can be made (tried once a process)."""
    if not os.environ.get("COS_SANDBOX_URL"):
        _try()


@cache
def _try() -> None:
    if not shutil.which("bwrap"):
        raise RuntimeError(f"bwrap is not installed; {INSTALL}")
    trial = "import threading\nthread = threading.Thread(target=int)\nthread.start()\nthread.join()"
    result = _local({"parts": [["trial", trial]], "tests": False, **harness.NO_TESTS}, Limits())
    if result.outcome == "processes":  # before Linux 5.14 the limit counts all processes of the user
        raise RuntimeError(f"this kernel counts other processes as a program's own ({result.reason}); use Linux 5.14")


@cache
def slowness() -> float:
    """How much slower than the reference this machine runs Python: at least 1. Measured once a process."""
    return max(1.0, min(_workload() for _ in range(5)) / REFERENCE_SECONDS)


def _workload() -> float:
    started, total, seen = time.thread_time(), 0, {}
    for i in range(100_000):
        total = (total * 31 + i) % 1_000_003
        seen[total % 1000] = str(i)
    return time.thread_time() - started


# --- here ------------------------------------------------------------------------------------------------------------


@cache
def _code() -> bytes:
    """What runs inside, compiled, with the call that starts it."""
    return marshal.dumps(
        compile(sandbox_runner.text() + "main(limits, job, report)\n", "<inside>", "exec", dont_inherit=True)
    )


def _local(program: dict[str, Any], limits: Limits) -> Result:
    token, factor = secrets.token_hex(32).encode(), slowness()
    wall, cpu = limits.wall_seconds * factor, math.ceil(limits.cpu_seconds * factor)
    uid = random.choice(_UIDS) if os.getuid() == 0 else 0
    # The process of the tests is one more than the program's own.
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
                file.close()  # the ends that are the job's: what it closes is closed
            first = _first_process(info)
            output, told, stopped = _watch(process, stdout.fileno(), report.fileno(), limits.output, clock)
        finally:
            _end(process, first)
    seconds, code, tail = clock.elapsed(), process.returncode, output[-_TAIL:].decode(errors="replace")
    ready, _, last = told.partition(b"\n")
    if ready != b"ready":
        why = "it did not start in time" if stopped else " ".join(tail.split()) or f"exit code {code}"
        raise RuntimeError(f"bwrap cannot make a sandbox here ({why}); {INSTALL}")
    result = partial(Result, exit_code=None if stopped else code, output=tail, seconds=seconds)
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
    if code == 128 + signal.SIGXCPU or (killed and clock.used >= cpu - _LOOK_EVERY):  # the first can be ignored
        return result("time", None, f"time limit: {cpu} s of processor time")
    if killed:
        return result("interrupted", None, "the program was killed (SIGKILL)")
    how = signal.Signals(code - 128).name if code - 128 in set(signal.Signals) else f"exit code {code}"
    return result("error", None, f"ended before its last line ({how})")


def _told(report: str) -> tuple[Outcome, str | None, str]:
    """Outcome, part and reason as `sandbox_runner` reports them."""
    outcome, part, reason = [*report.split("\t", 2), "", ""][:3]
    if outcome in _LIMITS:
        return outcome, part, f"{_LIMITS[outcome]} limit: {reason}"  # type: ignore[return-value]
    return "form" if outcome == "form" else "error", part or None, reason


def _walls(limits: Limits, root: bool) -> list[str]:
    """bwrap's arguments: what the job sees, and what it shares with the machine."""
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
            walls += ["--dir", str(folder)]  # bwrap would make them for its own user only
        walls += ["--ro-bind", _python(), _python(), "--ro-bind", str(prefix / "lib"), str(prefix / "lib")]
        walls += _hidden(*_packages(prefix / "lib"))
    scratch = ("--perms", "1777", "--size", str(limits.scratch), "--tmpfs")
    walls += ["--proc", "/proc", "--remount-ro", "/proc"]
    walls += ["--dev", "/dev", *scratch, "/dev/shm", "--remount-ro", "/dev"]
    return [*walls, *scratch, "/tmp", "--remount-ro", "/", "--chdir", "/tmp"]


def _packages(lib: Path) -> list[str]:
    """The folders of installed packages in a folder of libraries."""
    return [str(found) for name in ("site", "dist") for found in lib.glob(f"python3*/{name}-packages")]


def _hidden(*folders: str) -> list[str]:
    """bwrap's arguments that put an empty folder in the place of each that is there."""
    empty = [
        ("--size", "4096", "--tmpfs", folder, "--remount-ro", folder) for folder in folders if Path(folder).is_dir()
    ]
    return [argument for arguments in empty for argument in arguments]


def _python() -> str:
    """The interpreter itself, not a virtual environment's link to it: packages are no part of the sandbox."""
    return str(Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"))


class _Clock:
    """The time that a job may still take, without the time for which the machine withheld a core from it.

    `used` is the processor time of all its processes when last looked at, in seconds.
    """

    def __init__(self, pid: int, wall: float, cpu: float) -> None:
        self.pid, self.wall, self.cpu = pid, wall, cpu
        self.started = time.monotonic()
        self.used, self.withheld, self.held = 0.0, 0.0, False
        self._before: float | None = None  # withheld until the program began
        self._looked = self.started
        self._elapsed = 0.0  # at the last look

    def begin(self) -> None:
        """The program begins: until now the kernel made its namespaces, which it does for one job after another."""
        self._look()
        self.started, self._before, self._elapsed = time.monotonic(), self.withheld, 0.0

    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def left(self) -> float:
        # Time that passes while this process looks, which may itself wait for a core, is counted at the next look.
        elapsed = self.elapsed()
        if time.monotonic() - self._looked >= min(self.wall, _LOOK_EVERY):
            self._look()
            self._elapsed = elapsed
        if self._before is None:
            return max(0.0, _PATIENCE * self.wall - elapsed)
        # What several busy processes of a job withhold from one another is no fault of the machine.
        withheld = 0.0 if self.used >= self.cpu else self.withheld - self._before
        return max(0.0, min(self.wall + withheld, _PATIENCE * self.wall) - self._elapsed)

    def interrupted(self) -> str | None:
        """Why a job whose time is over could not run; None where it could, and waited or computed."""
        if self.held:
            return "the program was stopped, or waited for a disk"
        if self.used < self.cpu and self.elapsed() >= _PATIENCE * self.wall:
            return f"the machine ran the program for {self.used:.3g} s of {self.elapsed():.3g} s"
        return None

    def _look(self) -> None:
        """`run_delay` of /proc/PID/task/TID/schedstat: nanoseconds in which a thread was ready, and another ran."""
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
    """What the job prints and reports until it has ended, and what it has to be stopped for, if anything."""
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
    while not stopped:  # both were closed, by the end of the job or by the job
        left = clock.left()
        try:
            process.wait(min(left, _LOOK_EVERY))
            break
        except subprocess.TimeoutExpired:
            stopped = "time" if left <= 0 else None
    return bytes(buffers[stdout]), bytes(buffers[report]), stopped


def _first_process(info: IO[bytes]) -> int | None:
    """A handle of the first process in the job's namespace; None where it is gone, or never was."""
    text = info.read()  # bwrap closes it once the job has been started, or cannot be
    try:
        return os.pidfd_open(json.loads(text)["child-pid"]) if text else None
    except ProcessLookupError:
        return None


def _end(process: subprocess.Popen[bytes], first: int | None) -> None:
    """The kernel ends a namespace with its first process; wait until all of it is gone."""
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
    """A file in memory, to be read from its start."""
    file = stack.enter_context(os.fdopen(os.memfd_create("job"), "w+b"))
    file.write(data)
    file.seek(0)
    return file


def _pipe(stack: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """Its reading and its writing end."""
    out, into = os.pipe()
    return stack.enter_context(os.fdopen(out, "rb", 0)), stack.enter_context(os.fdopen(into, "wb", 0))


def _stdout(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


# --- on a SandboxFusion server ---------------------------------------------------------------------------------------


def _remote(url: str, program: dict[str, Any], limits: Limits) -> Result:
    """POST /run_code. The pass token is the first line of the input, and printed last, when all parts have run."""
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
            raise ValueError(answer.get("message") or "it gives no reason")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        told = " ".join(str(error).split())[:200]
        raise RuntimeError(f"COS_SANDBOX_URL: the server did not run a program ({told})") from None
    result = partial(Result, exit_code=code, output=output[-_TAIL:], seconds=time.monotonic() - started)
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
