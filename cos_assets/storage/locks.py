"""Mutual exclusion on one machine or across machines: a locked file, or an object with conditional writes."""

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
"""Seconds between two renewals of a held lock."""
STALE = 60.0
"""Seconds without a renewal after which another process may take over a lock."""
POLL = 0.5


def lock(path: Place) -> AbstractContextManager[Any]:
    """Return a lock named by a file or an object. Acquiring it waits until it is free. The file or object remains
    after the lock is released."""
    if isinstance(path, ObjectPath):
        return ObjectLock(path)
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


class ObjectLock:
    """A lock that works across machines and does not compare their clocks.

    The object names the holder. It is replaced only if it still has the version that was read (If-None-Match,
    If-Match), so one of two contenders gets the lock. The holder renews it every `BEAT` seconds. A waiting process
    takes it over if it has not changed for `STALE` seconds on the waiting process's own clock, or at once if the
    holder was a process of this machine that has ended. `check` raises in a holder that has lost the lock, for
    example because it was suspended.
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
                # If the response to a write was lost, the retried request finds this lock's own id as the holder.
                if facts.get("holder") in (None, self._me) or stale or gone(facts.get("process")):
                    self._write(version, holder=self._me)
                    break
            except FileNotFoundError:
                with suppress(AlreadyExistsError):
                    self._write("create", holder=self._me)
                    break
            except PreconditionError:
                pass  # another process was faster
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
        # An error here must not hide an error of the block. A lock that is not released is taken over when stale.
        with suppress(PreconditionError, PlaceError), self._writing:
            if not self._lost:
                self._write(self._version, holder=None, quickly=True)
        self._version = {}

    def check(self) -> None:
        """Raise RuntimeError if another process has taken over the lock."""
        # The renewals may have failed, or this process may have been suspended.
        if self._version and time.monotonic() - self._renewed > 2 * BEAT:
            self._renew()
        if self._lost:
            raise RuntimeError(
                f"{self.path}: another process took over this lock, because this process did not renew it for"
                f" {STALE:g} s. All purchases are kept; run again to continue"
            )

    def _read(self) -> tuple[dict[str, Any], dict[str, str]]:
        with open_store(self.path) as store:
            got = store.get(self.path.key)
            return json.loads(got.bytes().to_bytes()), _version(got.meta)

    def _write(self, version: dict[str, str] | Literal["create"], holder: str | None, quickly: bool = False) -> None:
        """Replace the given version of the object, or create the object."""
        facts = {"holder": holder, "process": identity(), "host": _host(), "written": uuid.uuid4().hex}
        content, begun = json.dumps(facts).encode(), time.monotonic()
        with open_store(self.path, quickly=quickly) as store:
            self._version = _version(store.put(self.path.key, content, mode=version))
        # The time of the request, not of the response: this process may have been suspended in between.
        self._renewed = begun

    def _beat(self) -> None:
        while not self._end.wait(BEAT) and not self._lost:
            with suppress(PlaceError):  # the store is unreachable: try again; `check` uses the time of the last renewal
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
                    if facts.get("holder") == self._me:  # the write succeeded, but its response was lost
                        self._version, self._renewed = version, begun
                        return
                self._lost = True


def _version(meta: Any) -> dict[str, str]:
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name)}


def _host() -> str:
    import platform

    return platform.node()
