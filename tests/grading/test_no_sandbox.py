"""Machines without a sandbox: no program runs there, or a SandboxFusion server runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cos_assets.grading import sandbox
from cos_assets.grading.sandbox import Limits, run

# --- no sandbox ------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Reset the cached result of the first attempt."""
    monkeypatch.delenv("COS_SANDBOX_URL", raising=False)
    sandbox._try.cache_clear()
    yield monkeypatch
    sandbox._try.cache_clear()


def test_no_program_runs_without_bwrap(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fresh.setenv("PATH", str(tmp_path))
    for attempt in (sandbox.require, lambda: run([("solution", f"open({str(tmp_path / 'x')!r}, 'w')")])):
        with pytest.raises(RuntimeError, match=r"^bwrap is not installed; .*`apt-get install bubblewrap`") as error:
            attempt()
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("told", ["bwrap: No permissions to create new namespace", "bwrap: Unknown option --size", ""])
def test_a_failure_of_bwrap_is_reported_in_one_line(fresh: pytest.MonkeyPatch, tmp_path: Path, told: str) -> None:
    (tmp_path / "bwrap").write_text(f"#!/bin/sh\n[ -z '{told}' ] || echo '{told}' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    fresh.setenv("PATH", str(tmp_path))
    with pytest.raises(
        RuntimeError, match=f"cannot make a sandbox here .{told or 'exit code 1'}.; .*bubblewrap"
    ) as error:
        sandbox.require()
    assert "\n" not in str(error.value)


def test_an_unknown_machine_is_refused(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(RuntimeError, match="the sandbox does not run on 'riscv64'; allowed: x86_64, aarch64"):
        sandbox.system_call_filter()


# --- a SandboxFusion server ------------------------------------------------------------------------------------------


class Fusion(BaseHTTPRequestHandler):
    """Answers POST /run_code as documented by SandboxFusion."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/run_code" or asked["language"] != "python":
            self.send_error(404)
            return
        if "out of order" in asked["stdin"]:
            answer = {"status": "SandboxError", "message": "no\nroom", "compile_result": None, "run_result": None}
        else:
            answer = {"message": "", "compile_result": None, **self.execute(asked)}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def execute(self, asked: dict) -> dict:
        command = [sys.executable, "-c", asked["code"]]
        try:
            done = subprocess.run(
                command, input=asked["stdin"], capture_output=True, text=True, timeout=asked["run_timeout"]
            )
        except subprocess.TimeoutExpired:
            ended = {"status": "TimeLimitExceeded", "return_code": None, "stdout": "", "stderr": ""}
            return {"status": "Failed", "run_result": ended}
        ended = {"status": "Finished", "return_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
        return {"status": "Failed" if done.returncode else "Success", "run_result": ended}

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def fusion(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Fusion) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("COS_SANDBOX_URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("PATH", "/nonexistent")  # no program runs locally
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("fusion")
@pytest.mark.parametrize(
    ("source", "outcome", "part", "reason"),
    [
        ("def f(n):\n    print('x')\n    return n + 1", "ok", None, None),
        ("def f(n): return n", "error", "tests", "AssertionError (line 1 of the tests: assert f(1) == 2)"),
        ("x = bytearray(2**62)", "memory", "solution", "memory limit: MemoryError (line 1 of the solution"),
        ("import os; print('0' * 64); os._exit(0)", "error", None, "ended before its last line (exit code 0)"),
        ("import sys; sys.exit(0)", "error", "solution", "SystemExit: 0"),
        ("import time; time.sleep(30)", "time", None, "time limit"),
    ],
)
def test_a_server_runs_programs(source: str, outcome: str, part: str | None, reason: str | None) -> None:
    result = run([("solution", source), ("tests", "assert f(1) == 2")], Limits(wall_seconds=2))
    assert (result.outcome, result.part) == (outcome, part)
    assert result.reason is None if reason is None else reason in (result.reason or "")


BOTH = {
    "prints at exit": "import atexit\natexit.register(print, 'bye')\ndef f(n): return n + 1",
    "replaces its output": "import io, sys\nsys.stdout = io.StringIO()\ndef f(n): return n + 1",
    "closes its output": "import sys\nsys.stdout.close()\ndef f(n): return n + 1",
    "reads its input": "import sys\nassert sys.stdin.read() == ''\ndef f(n): return n + 1",
    "prints from a thread": "import threading\n"
    "def f(n):\n    threading.Thread(target=print, args=('x',)).start()\n    return n + 1",
    "prints what it reads and leaves": "import os\ndef f(n):\n    print(input(), flush=True)\n    os._exit(0)",
    "prints 5 MB": "def f(n):\n    print('x' * 5_000_000)\n    return n + 1",
    "is wrong": "def f(n): return n",
    "exits": "import sys\ndef f(n): sys.exit(0)",
    "equals all": "class A:\n    def __eq__(self, other): return True\ndef f(n): return A()",
    "replaces exec": "import builtins\nbuiltins.exec = lambda *a, **k: None",
}  # fmt: skip
OK = set(list(BOTH)[:5])


@pytest.mark.usefixtures("sandbox", "fusion")
@pytest.mark.parametrize("name", BOTH)
def test_the_server_and_the_local_sandbox_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [("solution", BOTH[name]), ("tests", "assert f(1) == 2")]
    there = run(parts)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("COS_SANDBOX_URL")
    here = run(parts)
    assert (there.outcome, there.part, there.reason) == (here.outcome, here.part, here.reason)
    assert (here.outcome == "ok") == (name in OK)


@pytest.mark.usefixtures("fusion")
def test_a_failure_of_the_server_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=r"COS_SANDBOX_URL: the server did not run a program \(no room\)"):
        run([("solution", "'out of order'")])
    monkeypatch.setenv("COS_SANDBOX_URL", os.environ["COS_SANDBOX_URL"] + "elsewhere")
    with pytest.raises(RuntimeError, match=r"did not run a program \(HTTP Error 404"):
        run([("solution", "")])
    monkeypatch.setenv("COS_SANDBOX_URL", "http://127.0.0.1:9")
    with pytest.raises(RuntimeError, match=r"did not run a program \(.*refused"):
        run([("solution", "")])
