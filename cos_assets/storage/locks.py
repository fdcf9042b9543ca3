"""One holder at a time, on one machine or on many: a locked file, or an object that is only written conditionally."""

from __future__ import annotations

import json
import threading
import time
import uuid
from contextlib import AbstractContextManager, suppress
from typing import Any, Literal

from cos_assets.storage.paths import ObjectPath, Place, PlaceError, open_store
from cos_assets.storage.processes import gone, identity

BEAT = 10.0
"""Seconds between two renewals of a lock that is held."""
STALE = 60.0
"""Seconds without a renewal after which another takes a lock over."""
POLL = 0.5


def lock(path: Place) -> AbstractContextManager[Any]:
    """A lock named by a file or an object; who comes second waits. The file or object stays when nobody holds it."""
    if isinstance(path, ObjectPath):
        return ObjectLock(path)
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


class ObjectLock:
    """A lock that holds across machines, without their clocks.

    The object says who holds it, and is replaced only in the version that was read (If-None-Match, If-Match): of two
    that want it, one gets it. The holder renews it every `BEAT` seconds. Who waits takes it over when it has not
    changed for `STALE` seconds by his own watch, or at once when the holder was a process of this machine that is gone.
    A holder who was away so long learns of it by `check`.
    """

    def __init__(self, path: ObjectPath) -> None:
        self.path = path
        self._me = uuid.uuid4().hex
        self._version: dict[str, str] = {}
        self._renewed = 0.0
        self._lost = False
        self._end = threading.Event()
        self._writing = threading.Lock()
        self._beats: threading.Thread | None = None

    def __enter__(self) -> ObjectLock:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        seen, since = None, time.monotonic()
        while True:
            try:
                facts, version = self._read()
                if version != seen:
                    seen, since = version, time.monotonic()
                stale = time.monotonic() - since > STALE
                # A request that got through without its answer was made again, and then finds this one's own name.
                if facts.get("holder") in (None, self._me) or stale or gone(facts.get("process")):
                    self._write(version, holder=self._me)
                    break
            except FileNotFoundError:
                with suppress(AlreadyExistsError):
                    self._write("create", holder=self._me)
                    break
            except PreconditionError:
                pass  # somebody else was faster
            time.sleep(POLL)
        self._lost = False
        self._end.clear()
        self._beats = threading.Thread(target=self._beat, name=f"lock {self.path}", daemon=True)
        self._beats.start()
        return self

    def __exit__(self, *_: object) -> None:
        from obstore.exceptions import PreconditionError

        assert self._beats is not None
        self._end.set()
        self._beats.join()
        # Its end must not hide why the work under it ended; what is not given back here is taken over.
        with suppress(PreconditionError, PlaceError), self._writing:
            if not self._lost:
                self._write(self._version, holder=None, quickly=True)
        self._version = {}

    def check(self) -> None:
        """Raise RuntimeError if somebody else has taken over the lock that is held here."""
        # Perhaps the beats did not get through, or all of this process was stopped for a while.
        if self._version and time.monotonic() - self._renewed > 2 * BEAT:
            self._renew()
        if self._lost:
            raise RuntimeError(
                f"{self.path}: another process took this lock over after {STALE:g} s without a sign of life from this"
                " one. What was bought is kept; run again to go on"
            )

    def _read(self) -> tuple[dict[str, Any], dict[str, str]]:
        with open_store(self.path) as store:
            got = store.get(self.path.key)
            return json.loads(got.bytes().to_bytes()), _version(got.meta)

    def _write(self, version: dict[str, str] | Literal["create"], holder: str | None, quickly: bool = False) -> None:
        """Replace a version of the object, or create it."""
        facts = {"holder": holder, "process": identity(), "host": _host(), "written": uuid.uuid4().hex}
        content, begun = json.dumps(facts).encode(), time.monotonic()
        with open_store(self.path, quickly=quickly) as store:
            self._version = _version(store.put(self.path.key, content, mode=version))
        # Not when the answer was read: this process may have been stopped between the two.
        self._renewed = begun

    def _beat(self) -> None:
        while not self._end.wait(BEAT) and not self._lost:
            with suppress(PlaceError):  # the store is away: try again; `check` knows how long it has been
                self._renew()

    def _renew(self) -> None:
        from obstore.exceptions import PreconditionError

        with self._writing:
            begun = time.monotonic()
            try:
                self._write(self._version, holder=self._me, quickly=True)
            except (PreconditionError, FileNotFoundError):
                with suppress(FileNotFoundError):
                    facts, version = self._read()
                    if facts.get("holder") == self._me:  # it got through without its answer
                        self._version, self._renewed = version, begun
                        return
                self._lost = True


def _version(meta: Any) -> dict[str, str]:
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name)}


def _host() -> str:
    import platform

    return platform.node()
