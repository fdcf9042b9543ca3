"""Worker processes for graders that may hang or crash, one item at a time, without harm to the other items.

Some graders can run forever, set time limits by signals that fail in threads, or fill the memory of the machine. Here
they run without limits of their own in plain child processes. A child is not forked from a process that may hold
torch's threads, and it does not import the caller's main module. The kernel ends a worker that uses more than
`timeout` seconds of processor time on one item. The limit is on processor time so that a busy machine does not change
verdicts.

A grader is a module that runs `serve` when it is the main module, and calls `ask` with its own name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from cos_assets import progress

_MEMORY = 4 << 30  # bytes of address space: a huge power fails in its worker instead of filling the memory
_WORTH_A_START = 20  # items per worker; a worker takes about a second to start
_TELL_EVERY = 1.0  # seconds between progress reports
_WALL = 20  # wall-clock limit of a worker that waits instead of computing, as a multiple of `timeout`

Item = Mapping[str, Any]


def ask(module: str, items: Sequence[Item], workers: int, timeout: float, name: str, install: str) -> list[Any]:
    """Return the answer of the grader in `module` for each item, in order. A str is the reason for no decision.

    A worker that spends more than `timeout` seconds of processor time on an item ends and is replaced. All workers
    have ended when this returns or raises. Items and answers are passed as JSON. Raises RuntimeError, which says what
    to `install`, if the grader `name` does not start.
    """
    answers: list[Any] = ["not graded"] * len(items)
    todo = deque(enumerate(items))
    pool = [_Worker(module, timeout, name, install) for _ in range(min(workers, -(-len(items) // _WORTH_A_START)))]

    def drain(worker: _Worker) -> None:
        try:
            while True:
                try:
                    position, item = todo.popleft()
                except IndexError:
                    return
                answers[position] = worker.ask(item)
        finally:
            worker.close()

    with ThreadPoolExecutor(max(1, len(pool))) as threads:
        try:
            running = {threads.submit(drain, worker) for worker in pool}
            while running:
                over, running = wait(running, timeout=_TELL_EVERY, return_when=FIRST_COMPLETED)
                for each in over:
                    each.result()
                progress.report(f"grading with {name}", len(items) - len(todo), len(items))
        finally:
            todo.clear()  # after an error or Ctrl-C, the other threads have nothing left to do
            for worker in pool:
                worker.close()
    return answers


class _Worker:
    """A child process that is started by the first `ask`, and again after it ended."""

    def __init__(self, module: str, timeout: float, name: str, install: str) -> None:
        self.module, self.timeout, self.name, self.install = module, timeout, name, install
        self.process: subprocess.Popen[str] | None = None

    def ask(self, item: Item) -> Any:
        if self.process is None:
            self.process = self._start()
        reply = self._exchange(self.process, item)
        if reply is not None:
            return reply["answer"]
        code = self.process.wait()
        self.process = None
        if code in (-signal.SIGPROF, -signal.SIGALRM):
            return f"no result within {self.timeout:g} s"
        return f"the grading process died (exit code {code})"

    def close(self) -> None:
        if (process := self.process) is not None:  # read once, because two threads may close
            process.kill()
            process.wait()

    def _start(self) -> subprocess.Popen[str]:
        path = os.pathsep.join(p or str(Path.cwd()) for p in sys.path)
        process = subprocess.Popen(
            [sys.executable, "-m", self.module, str(self.timeout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="ascii",
            # Graders iterate over sets, so their results may depend on the hash seed.
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"},
        )
        ready = self._exchange(process, None)
        if ready is None or "error" in ready:
            code = process.wait()
            problem = ready["error"] if ready else f"it ended with exit code {code}"
            raise RuntimeError(f"{self.name} does not start: {problem}; install {self.install}")
        return process

    @staticmethod
    def _exchange(process: subprocess.Popen[str], message: Item | None) -> dict[str, Any] | None:
        """Send a line and read a line; return None if the process has ended."""
        assert process.stdin is not None and process.stdout is not None
        try:
            if message is not None:
                process.stdin.write(json.dumps(message) + "\n")
                process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            return None
        return json.loads(line) if line.endswith("\n") else None


def serve(name: str, answer: Callable[[dict[str, Any]], Any], warm_up: dict[str, Any]) -> None:
    """Run the worker: read a JSON line and write one, until the input ends, which it does when the parent has ended.

    `name` is the grader's name in messages. `warm_up` is answered first, so that lazy imports happen before a clock
    runs.
    """
    import logging
    import resource

    timeout = float(sys.argv[1])
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # keep what libraries print out of the replies
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))

    def say(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    try:
        answer(warm_up)
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})
        return
    say({"ready": True})
    # The default action of both signals is to end the process, also inside one long C call.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for line in sys.stdin:
        item = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, timeout)
        signal.setitimer(signal.ITIMER_REAL, _WALL * timeout)
        try:
            outcome = answer(item)
        except Exception as error:
            outcome = f"{name} failed: {type(error).__name__}: {str(error)[:200]}"
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        say({"answer": outcome})
