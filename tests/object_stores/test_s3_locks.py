"""Locks on an object store: one holder at a time, also after kills and lost requests."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from support.s3_server import Server

from cos_assets.storage import locks
from cos_assets.storage.locks import ObjectLock, lock
from cos_assets.storage.paths import ObjectPath, PlaceError

ELSEWHERE = "another-boot pid:[1] 1 1"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "POLL", 0.01)


def holder(s3: ObjectPath, name: str = ".lock") -> str | None:
    return json.loads((s3 / name).read_text())["holder"]


def test_one_process_at_a_time_has_the_lock(s3: ObjectPath) -> None:
    count = s3 / "count"
    count.put(b"0")

    def work() -> None:
        for _ in range(5):
            with lock(s3 / ".lock"):
                read = int(count.read_text())
                time.sleep(0.001)
                count.put(str(read + 1).encode())

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert count.read_text() == "30"
    assert holder(s3) is None


def test_the_lock_of_a_killed_process_of_this_machine_is_taken_at_once(
    s3: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "STALE", 1e9)
    code = """if True:
        import os, signal
        from cos_assets.storage import locks
        from cos_assets.storage import paths
        locks.lock(paths.place(os.environ["COS_HOME"]) / ".lock").__enter__()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert holder(s3) is not None
    with lock(s3 / ".lock"):
        pass


def test_a_renewal_counts_from_the_time_of_its_request(s3: ObjectPath, server: Server) -> None:
    """Otherwise a holder that is stopped before it reads the reply would believe in its lock for two intervals more."""
    asked: list[float] = []

    def slowly(request: str) -> None:
        asked.append(time.monotonic())
        time.sleep(0.2)

    with lock(s3 / ".lock") as held:
        server.refuse = slowly
        held._renew()
        server.refuse = lambda request: None
        assert held._renewed <= asked[-1]
        held.check()


def test_a_holder_that_does_not_renew_is_replaced_and_notices(s3: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "STALE", 0.2)
    first, second = ObjectLock(s3 / ".lock"), ObjectLock(s3 / ".lock")
    with monkeypatch.context() as patch:
        patch.setattr(locks, "identity", lambda: ELSEWHERE)
        first.__enter__()  # renews every 10 s
    first.check()
    with second:
        first._renewed -= 1000  # as if it had been stopped
        with pytest.raises(RuntimeError, match="another process took over this lock"):
            first.check()
        first.__exit__()
        second.check()
        assert holder(s3) == second._me  # the first did not release the lock of the second
    assert holder(s3) is None


def test_a_holder_that_renews_keeps_the_lock(s3: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = ObjectLock(s3 / ".lock"), ObjectLock(s3 / ".lock")
    with monkeypatch.context() as patch:
        patch.setattr(locks, "identity", lambda: ELSEWHERE)
        first.__enter__()
    seconds, polls = 0.0, 0

    def sleep(_: float) -> None:
        """Between two polls of the second holder time passes, and the first renews the lock five times."""
        nonlocal seconds, polls
        seconds += 0.6 * locks.STALE
        polls += 1
        if polls <= 5:
            assert holder(s3) == first._me
            first._renew()

    monkeypatch.setattr(locks, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: seconds))
    with second:
        assert polls == 7  # at 60 % of the time after the last renewal it waits, at 120 % it takes the lock
        first._renew()
        with pytest.raises(RuntimeError, match="another process took over this lock"):
            first.check()
        first.__exit__()


def test_a_lost_reply_does_not_lock_the_holder_out(s3: ObjectPath, server: Server) -> None:
    """The client repeats a PUT that succeeded but whose reply was lost, and the repetition is refused."""
    lost: list[str] = []

    def first_put(request: str) -> bool:
        if request.startswith("PUT") and not lost:
            lost.append(request)
            return True
        return False

    for step in ("take", "renew", "give back"):
        mine = ObjectLock(s3 / f".{step}")
        lost.clear()
        if step == "take":
            server.lose = first_put
        with mine:
            if step == "renew":
                server.lose = first_put
                mine._renew()
            mine.check()
            if step == "give back":
                server.lose = first_put
        server.lose = lambda request: False
        assert lost
        assert holder(s3, f".{step}") is None


def test_an_unavailable_store_is_not_reported_as_a_lost_lock(s3: ObjectPath, server: Server) -> None:
    with ObjectLock(s3 / ".lock") as mine:
        server.refuse = lambda request: "403 Forbidden"
        mine._renewed -= 1000
        with pytest.raises(PlaceError):
            mine.check()
        server.refuse = lambda request: None
        mine.check()
