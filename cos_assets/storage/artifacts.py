"""Whole folders on an object store, and their copies on this machine.

A folder is complete once its list of files, `FILES.json`, exists. The list is written last, so an interrupted upload
is never taken for a complete folder. On disk nothing is copied: a folder is its own copy.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from cos_assets.storage.locks import lock
from cos_assets.storage.paths import ObjectPath, Place, PlaceError, download, local

FILES = "FILES.json"


@contextmanager
def workshop(folder: Place) -> Iterator[Path]:
    """Yield a local folder in which to build `folder`.

    If `folder` is already complete on the object store, the local folder is a copy of it. Otherwise its content is
    uploaded when the block ends. A lock admits one worker at a time across all machines. A worker that was killed
    finds its earlier files when it runs again on the same machine. A folder on disk is yielded as it is, without a
    lock.
    """
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with lock(folder / ".lock") as held:
        try:
            complete = fetch(folder)
        except FileNotFoundError:
            complete = None
        if complete is not None:
            yield complete
            return
        here = local(folder)
        here.mkdir(parents=True, exist_ok=True)
        yield here
        held.check()
        _publish(here, folder)


def fetch(folder: Place) -> Path:
    """Return the local copy of a complete folder.

    Raises FileNotFoundError if the folder is not complete on the store, and PlaceError if its files do not match its
    list.
    """
    if isinstance(folder, Path):
        return folder
    listed = (folder / FILES).read_bytes()
    here = local(folder)
    with lock(here.parent / f".{here.name}.lock"):
        if (here / FILES).is_file() and (here / FILES).read_bytes() == listed:
            return here
        files = _files(folder, listed)
        temporary = here.with_name(f".{here.name}.{uuid.uuid4().hex}.tmp")
        try:
            download(folder, {name: facts["bytes"] for name, facts in files.items()}, temporary)
            for name, facts in files.items():
                if _digest(temporary / name) != facts["sha256"]:
                    raise PlaceError(f"{folder / name}: the file differs from {FILES}; remove {folder} and run again")
            (temporary / FILES).write_bytes(listed)
            shutil.rmtree(here, ignore_errors=True)
            temporary.replace(here)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return here


def _files(folder: Place, listed: bytes) -> dict[str, dict[str, Any]]:
    """Parse a list of files: name -> bytes and sha256. Raises PlaceError for an invalid list."""
    try:
        files = json.loads(listed)
        for facts in files.values():
            if not (isinstance(facts["bytes"], int) and facts["bytes"] >= 0 and isinstance(facts["sha256"], str)):
                raise TypeError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise PlaceError(f"{folder / FILES}: is not a list of files; remove {folder} and run again") from None
    return files


def mirror(folder: Place, pattern: str) -> list[Path]:
    """Return the files under a folder that match a pattern, sorted by name, as local files.

    This is for files that never change: each is copied once.
    """
    if isinstance(folder, Path):
        return sorted(folder.glob(pattern))
    sizes = {name: size for name, size in folder.objects().items() if PurePosixPath(name).match(pattern)}
    here = local(folder)
    download(folder, {name: size for name, size in sizes.items() if not _has(here / name, size)}, here)
    return [here / name for name in sizes]


def _publish(here: Path, folder: ObjectPath) -> None:
    found = sorted(file.relative_to(here) for file in here.rglob("*") if file.is_file())
    names = [file.as_posix() for file in found if file.name != FILES and not any(p.startswith(".") for p in file.parts)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: (folder / name).put(here / name), names))
    facts = {name: {"bytes": (here / name).stat().st_size, "sha256": _digest(here / name)} for name in names}
    listed = json.dumps(facts, indent=1).encode()
    (folder / FILES).put(listed)
    (here / FILES).write_bytes(listed)


def _has(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
