"""The sandbox: programs that try to escape, to outlive their run, or to exceed limits."""

from __future__ import annotations

import ast
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest

from cos_assets.grading import cores, sandbox
from cos_assets.grading.cores import usable_cores
from cos_assets.grading.sandbox import Limits, Result, run

pytestmark = pytest.mark.usefixtures("sandbox")
QUICK = Limits(cpu_seconds=1, wall_seconds=2)


@pytest.fixture
def mark() -> str:
    """A unique name for the processes of this test's programs."""
    return f"t{uuid.uuid4().hex[:14]}"


def marked(mark: str) -> list[str]:
    """The processes of this machine with a mark in their name (which forks inherit) or their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "comm").read_text() + (process / "cmdline").read_text(errors="replace")
        except OSError:  # it has ended
            continue
        if mark in text:
            found.append(process.name)
    return found


def until(holds: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.01)
    return False


def hostile(mark: str, source: str, limits: Limits = QUICK) -> Result:
    """Run a program under a mark, and check that no process of it remains."""
    name = f"import ctypes\nctypes.CDLL(None).prctl(15, b{mark!r}, 0, 0, 0)"
    result = run([("mark", name), ("solution", source)], limits)
    assert marked(mark) == []
    return result


# --- programs --------------------------------------------------------------------------------------------------------


def test_parts_of_a_program_share_a_module() -> None:
    result = run([("solution", "def f(n):\n    print('called')\n    return n + 1"), ("tests", "assert f(1) == 2")])
    assert (result.outcome, result.part, result.reason) == ("ok", None, None)
    assert result.output == "called\n"


@pytest.mark.parametrize(
    ("source", "part", "reason"),
    [
        ("def f(n): return n", "tests", "AssertionError (line 2 of the tests: assert f(1) == 2)"),
        ("def f(n):\n  n / 0", "tests", "ZeroDivisionError: division by zero (line 2 of the solution: n / 0)"),
        ("def f(n:", "solution", "SyntaxError: '(' was never closed (line 1 of the solution: def f(n:)"),
        ("def f(n):\nreturn n", "solution", "IndentationError: expected an indented block"),
        ("\0", "solution", "source code string cannot contain null bytes"),
        ("class E(Exception):\n  def __str__(self): 1 / 0\nraise E", "solution", "E (line 3 of the solution: raise E)"),
        ("def f(n): return f(n)", "tests", "RecursionError: maximum recursion depth exceeded"),
        ("def f(n): return input()", "tests", "EOFError"),
        ("import numpy", "solution", "ModuleNotFoundError: No module named 'numpy'"),
        ("raise ValueError('a\\n\\tb')", "solution", "ValueError: a b (line 1"),
        ("x = 1\n" * 200_000 + "y", "solution", "NameError: name 'y' is not defined (line 200001 of the solution: y)"),
    ],
)  # fmt: skip
def test_errors_are_reported_with_the_part_and_the_reason(source: str, part: str, reason: str) -> None:
    result = run([("solution", source), ("tests", "\nassert f(1) == 2")])
    assert (result.outcome, result.part) == ("error", part)
    assert result.reason is not None and reason in result.reason and "\n" not in result.reason


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("raise SystemExit", "SystemExit"),
        ("exit(0)", "NameError"),  # `exit` is defined in interactive sessions only
        ("import os; os._exit(0)", "ended before its last line (exit code 0)"),
        ("import os; os._exit(7)", "ended before its last line (exit code 7)"),
        ("import os; os.kill(os.getpid(), 15)", "ended before its last line (SIGTERM)"),
        ("import ctypes; ctypes.string_at(0)", "ended before its last line (SIGSEGV)"),
        # A program that continues in a fork after its first process exits.
        ("import os\nif os.fork(): os._exit(0)", "ended before its last line (exit code 0)"),
        # A report without the token on every descriptor.
        (
            "import os\nfor fd in range(64):\n  try: os.write(fd, b'ready\\n' + b'0' * 64)\n  except OSError: pass\n"
            "os._exit(0)",
            "",
        ),
    ],
)
def test_exiting_early_is_an_error(source: str, reason: str) -> None:
    result = run([("solution", source), ("tests", "raise ValueError('not reached')")])
    assert result.outcome == "error"
    assert result.reason is not None and reason in result.reason


def test_a_running_thread_does_not_delay_the_result(mark: str) -> None:
    source = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()"
    result = hostile(mark, source)
    assert result.outcome == "ok" and result.seconds < 2


def test_concurrent_programs_leave_no_descriptor_open() -> None:
    run([("solution", "")])
    before = sorted(Path("/proc/self/fd").iterdir())
    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(lambda n: run([("solution", f"assert {n} % 2")]).outcome, range(24)))
    assert outcomes == ["error", "ok"] * 12
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_hashes_and_set_orders_are_the_same_in_every_run() -> None:
    assert len({run([("solution", "print(set('abcdef'))")]).output for _ in range(3)}) == 1


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "outcome", "reason"),
    [
        pytest.param("while True: pass", "time", "time limit", id="loop"),
        pytest.param("import time; time.sleep(60)", "time", r"time limit: [0-9.]+ s$", id="sleep"),
        pytest.param(
            "import signal, time\nfor n in range(1, 64):\n  try: signal.signal(n, signal.SIG_IGN)\n"
            "  except (OSError, ValueError): pass\nwhile True: time.sleep(1)",
            "time",
            "time limit",
            id="deaf",
        ),
        pytest.param(
            "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
            "time",
            "time limit",
            id="deaf loop",
        ),
        pytest.param(
            "import os, time\nos.closerange(0, 64)\ntime.sleep(60)", "time", "time limit", id="closes its outputs"
        ),
        pytest.param("x = bytearray(10 * 2**30)", "memory", "memory limit: MemoryError", id="10 GB"),
        pytest.param("x = [0]\nwhile True: x += x", "memory", "memory limit: MemoryError", id="growing list"),
        pytest.param("while True: print('x' * 1000)", "output", "output limit: more than 1048576 bytes", id="output"),
        pytest.param(
            "import sys\nwhile True: print('x' * 1000, file=sys.stderr)", "output", "output limit", id="errors"
        ),
        pytest.param("import os\nwhile True: os.fork()", "processes", "process limit: BlockingIOError", id="fork bomb"),
        pytest.param(
            "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass", "time", "time limit", id="fork bomb 2"
        ),
        pytest.param(
            "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()",
            "processes",
            "process limit: RuntimeError: can't start new thread",
            id="threads",
        ),
        pytest.param("open('/tmp/x', 'w').write('x' * 10**8)", "disk", "disk limit: .*File too large", id="file"),
        pytest.param(
            "for n in range(99): open(f'/tmp/{n}', 'w').write('x' * 10**7)", "disk", "disk limit: .*No space", id="n"
        ),
    ],
)  # fmt: skip
def test_each_exceeded_limit_is_reported_with_its_reason(mark: str, source: str, outcome: str, reason: str) -> None:
    result = hostile(mark, source)
    assert result.outcome == outcome
    assert re.search(reason, result.reason or "")
    assert len(result.output) <= 2000
    assert result.seconds < 15


def test_shared_memory_is_refused() -> None:
    source = "import ctypes\nassert ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600) == -1"
    assert run([("solution", source)]).outcome == "ok"


def test_files_in_memory_are_refused() -> None:
    source = "import os\ntry: os.memfd_create('x')\nexcept OSError: pass\nelse: raise ValueError('made')"
    assert run([("solution", source)]).outcome == "ok"


def test_slow_machines_get_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program needs 1.5 s of processor time, which is above the limit of 1 s."""
    source = "import time\nwhile time.process_time() < 1.5: pass"
    monkeypatch.setattr(sandbox, "slowness", lambda: 1.0)
    assert run([("solution", source)], QUICK).outcome == "time"
    monkeypatch.setattr(sandbox, "slowness", lambda: 4.0)
    assert run([("solution", source)], QUICK).outcome == "ok"


def test_slowness_is_relative_to_the_reference_and_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sandbox.slowness() >= 1
    monkeypatch.setattr(sandbox, "_workload", lambda: 3 * sandbox.REFERENCE_SECONDS)
    sandbox.slowness.cache_clear()
    try:
        assert sandbox.slowness() == pytest.approx(3)
    finally:
        sandbox.slowness.cache_clear()


# --- escapes ---------------------------------------------------------------------------------------------------------


def test_a_program_cannot_use_the_network(mark: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        here = hostile(mark, f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)")
        assert here.reason is not None and "Connection refused" in here.reason
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    there = hostile(mark, "import socket\nsocket.create_connection(('192.0.2.1', 80), 1)")
    assert there.reason is not None and "Network is unreachable" in there.reason


@pytest.mark.parametrize("family", ["AF_VSOCK", "AF_NETLINK", "AF_PACKET", "AF_ALG", "AF_CAN"])
def test_sockets_outside_network_namespaces_are_refused(mark: str, family: str) -> None:
    for call in ("socket.socket", "socket.socketpair"):
        result = hostile(mark, f"import socket\n{call}(socket.{family}, socket.SOCK_DGRAM)")
        assert result.reason is not None and "Address family not supported by protocol" in result.reason


def test_local_and_internet_sockets_are_available(mark: str) -> None:
    source = (
        "import asyncio, socket\nsocket.socketpair()\nfor f in (socket.AF_INET, socket.AF_INET6): socket.socket(f)\n"
    )
    assert hostile(mark, f"{source}asyncio.run(asyncio.sleep(0))").outcome == "ok"


def test_a_program_cannot_read_the_environment_or_other_processes(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = uuid.uuid4().hex
    monkeypatch.setenv("COS_TEST_SECRET", secret)
    source = """
import os, glob
for file in glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/cmdline'):
    try: print(file, open(file).read())
    except OSError as error: print(file, error)
print(dict(os.environ))
"""
    result = hostile(mark, source)
    assert result.outcome == "ok"
    assert "'HOME': '/tmp'" in result.output and "COS_TEST" not in result.output and secret not in result.output
    own = run([("solution", "import glob; print(len(glob.glob('/proc/[0-9]*')), open('/proc/1/comm').read())")])
    assert own.output.split() == ["3", "bwrap"], "only the processes of its sandbox are visible"


def test_a_program_cannot_read_files_of_the_machine(mark: str, tmp_path: Path) -> None:
    (tmp_path / "private").write_text("secret")
    looks = [str(tmp_path / "private"), str(tmp_path), __file__, "/etc/passwd", "/var", "/proc/1/root/etc"]
    result = hostile(mark, f"import os\nprint([path for path in {looks} if os.path.exists(path)])")
    assert result.output == "[]\n"
    home = str(Path.home())
    way = Path(sys.base_prefix)  # the interpreter may be in the home: then only the path to it is visible
    seen = [way.relative_to(home).parts[0]] if way.is_relative_to(home) else []
    result = hostile(mark, f"import os\nprint(os.listdir({home!r}) if os.path.exists({home!r}) else [])")
    assert result.output == f"{seen}\n"


def test_a_program_can_write_only_in_its_scratch_folder(mark: str, tmp_path: Path) -> None:
    folders = ["/", "/usr", "/dev", "/etc", "/proc", sys.base_prefix, str(tmp_path), str(Path(__file__).parent)]
    source = f"""
import os
for folder in {folders!r}:
    for attempt in (lambda path: open(path, 'w'), os.mkdir):
        try: attempt(os.path.join(folder, {mark!r}))
        except OSError: continue
        print(folder)
open('/tmp/{mark}', 'w').write('x')
for line in open('/proc/mounts'):
    what, where, kind, options, *_ = line.split()
    if 'rw' in options.split(',') and kind not in ('proc', 'devpts') and not where.startswith('/dev/'): print(where)
"""
    result = hostile(mark, source)
    assert (result.outcome, result.output) == ("ok", "/tmp\n")
    assert not Path("/tmp", mark).exists(), "each job has its own scratch folder"
    assert run([("solution", "import os; print(os.listdir('/tmp'), os.getcwd())")]).output == "[] /tmp\n"


def test_a_program_has_no_capabilities(mark: str) -> None:
    source = """
import ctypes, os
kernel = ctypes.CDLL(None)
assert os.getuid() != 0 and os.geteuid() != 0 and os.getgroups() in ([], [os.getgid()])
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
assert int(status['CapEff'], 16) == int(status['CapPrm'], 16) == 0 and status['NoNewPrivs'].strip() == '1'
for flags in (0x10000000, 0x20000, 0x20000000, 0x40000000):  # new users, mounts, processes, network
    assert kernel.unshare(flags) == -1
assert kernel.mount(b'none', b'/tmp', b'tmpfs', 0, None) == -1
assert kernel.setuid(0) == -1 and kernel.ptrace(0, 0, 0, 0) == -1
assert kernel.syscall(56, 0x10000011, 0, 0, 0, 0) <= -1 or os.uname().machine != 'x86_64'  # clone of users
"""
    assert hostile(mark, source).reason is None


def test_a_daemon_ends_with_its_program(mark: str) -> None:
    daemon = f"""
import os, subprocess, sys, time
ready = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    import signal
    for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(n, signal.SIG_IGN)
    os.write(ready[1], b'x')
    os.closerange(0, 3)
    while True: time.sleep(1)
os.read(ready[0], 1)
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', {mark!r}], start_new_session=True)
"""
    result = hostile(mark, daemon)
    assert result.outcome == "ok" and result.seconds < 2


def test_marks_of_running_programs_are_found(mark: str) -> None:
    """A control for the tests above: a running program and its fork are found by their mark."""
    seen: list[str] = []
    source = "import os, time\nif os.fork() == 0: os.setsid()\ntime.sleep(1.5)"
    watch = threading.Thread(target=lambda: until(lambda: seen.extend(marked(mark)) or len(set(seen)) == 2))
    watch.start()
    hostile(mark, source)
    watch.join()
    assert len(set(seen)) == 2


def test_programs_of_a_killed_caller_end(mark: str) -> None:
    source = f"import ctypes, os, time\nos.fork()\nctypes.CDLL(None).prctl(15, b{mark!r}, 0, 0, 0)\ntime.sleep(60)"
    call = f"from cos_assets.grading.sandbox import run\nrun([('solution', {source!r})])"
    caller = subprocess.Popen([sys.executable, "-c", call])
    try:
        assert until(lambda: len(set(marked(mark)) - {str(caller.pid)}) == 2)
    finally:
        caller.send_signal(signal.SIGKILL)
        caller.wait()
    assert until(lambda: not marked(mark))


# --- a busy machine --------------------------------------------------------------------------------------------------


def test_programs_that_share_one_core_do_not_reach_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 programs of about a second, started at once on one core, take 30 s in total; each may wait 9 s."""
    monkeypatch.setattr(sandbox, "core", lambda alone=False: nullcontext())
    monkeypatch.setattr(sandbox, "slowness", lambda: 1.0)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(allowed)])
    try:
        source = "import time\nwhile time.process_time() < 0.7: pass"
        with ThreadPoolExecutor(32) as threads:
            results = list(threads.map(lambda _: run([("solution", source)]), range(32)))
    finally:
        os.sched_setaffinity(0, allowed)
    assert [result.outcome for result in results] == ["ok"] * 32
    assert max(result.seconds for result in results) > 9


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGSTOP, "the program was stopped"), (signal.SIGKILL, "the program was killed (SIGKILL)")],
)
def test_a_program_that_ends_by_a_signal_from_outside_runs_again(
    mark: str, number: signal.Signals, reason: str
) -> None:
    """If interrupted once, it completes; if interrupted twice, the result is "interrupted"."""
    assert disturbed(mark, number, times=1).outcome == "ok"
    result = disturbed(mark, number, times=2)
    assert result.outcome == "interrupted" and reason in (result.reason or "")


def disturbed(mark: str, number: signal.Signals, times: int) -> Result:
    """The result of a program whose first `times` runs receive a signal."""
    # A stopped program ends at the limit; one that was killed ends at once, so its second run may take its time.
    limits = QUICK if number == signal.SIGSTOP else Limits(cpu_seconds=5, wall_seconds=20)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(hostile, mark, "import time\ntime.sleep(0.8)", limits)
        seen: set[str] = set()
        for _ in range(times):
            assert until(lambda seen=frozenset(seen): bool(set(marked(mark)) - seen))  # type: ignore[misc]
            found = set(marked(mark)) - seen
            seen |= found
            for pid in found:
                os.kill(int(pid), number)
        return running.result()


def test_at_most_one_program_per_core_runs_across_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes with eight threads each: no more programs at once than cores, and none during an exclusive one."""
    code = (
        "import sys, time\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from cos_assets.grading.cores import core\n"
        "def job(n):\n"
        "    with core(alone=n == 5):\n"
        "        start = time.monotonic()\n"
        "        time.sleep(0.05)\n"
        "        return n == 5, start, time.monotonic()\n"
        "with ThreadPoolExecutor(8) as threads: print(list(threads.map(job, range(16))))\n"
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    spans = [span for process in both for span in ast.literal_eval(process.communicate()[0])]
    assert len(spans) == 32
    for alone, start, end in spans:
        beside = sum(other_start < end and start < other_end for _, other_start, other_end in spans)
        assert beside == 1 if alone else True
        at_start = sum(other_start <= start < other_end for _, other_start, other_end in spans)
        assert at_start <= usable_cores()


def test_usable_cores_follow_the_affinity_mask_and_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4, 5, 6, 7})
    monkeypatch.setattr(cores, "_quota", lambda: math.inf)
    assert usable_cores() == 8
    monkeypatch.setattr(cores, "_quota", lambda: 2.5)
    assert usable_cores() == 3


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/job", {"job/cpu.max": "150000 100000", "cpu.max": "max 100000"}, 1.5),
        ("0::/job/step", {"job/cpu.max": "100000 100000", "job/step/cpu.max": "max 100000"}, 1.0),
        ("0::/", {"cpu.max": "400000 100000"}, 4.0),
        ("3:cpu,cpuacct:/job", {"cpu,cpuacct/job/cpu.cfs_quota_us": "50000",
                                "cpu,cpuacct/job/cpu.cfs_period_us": "100000"}, 0.5),
        ("3:cpu:/job", {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"}, math.inf),
        ("0::/elsewhere", {}, math.inf),
    ],
)  # fmt: skip
def test_quota_is_read_from_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str], quota: float
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "self").write_text(own + "\n")
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "_OWN", tmp_path / "self")
    assert cores._quota() == quota


# --- what a program can read of the machine --------------------------------------------------------------------------


def test_a_program_sees_no_installed_packages() -> None:
    source = (
        "import glob, sys\n"
        "places = [*sys.path, '/usr', '/usr/local', sys.base_prefix]\n"
        "depths = ('', '/lib', '/lib/python3', '/lib/python3.*')\n"
        "kinds = ('/site-packages/*', '/dist-packages/*')\n"
        "print([found for a in places for b in depths for c in kinds for found in glob.glob(a + b + c)])"
    )
    assert ast.literal_eval(run([("solution", source)]).output) == []


def test_a_program_has_the_highest_oom_score_and_cannot_lower_it() -> None:
    source = (
        "import os\n"
        "if os.fork():\n"
        "    os.wait()\n"
        "for process in ('self', 'thread-self'):\n"
        "    assert open(f'/proc/{process}/oom_score_adj').read() == '1000\\n'\n"
        "    try:\n"
        "        open(f'/proc/{process}/oom_score_adj', 'w').write('0')\n"
        "    except OSError:\n"
        "        continue\n"
        "    raise ValueError('lowered')"
    )
    assert run([("solution", source)]).outcome == "ok"
