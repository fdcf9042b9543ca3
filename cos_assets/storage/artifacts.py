"""Whole folders on an object store, and their copies on this machine.

A folder counts once its list of files, `FILES.json`, is there, which is written last: what a kill left half uploaded is
never taken for whole. On a disk nothing is copied: a folder is its own copy.
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
    """A folder of this machine in which `folder` is made: what is whole already is there, and what is left in it when
    the block ends is uploaded. One worker at a time, on all machines; a killed one finds what it had on this machine.
    """
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with lock(folder / ".lock") as held:
        try:
            yield fetch(folder)
            return
        except FileNotFoundError:
            here = local(folder)
        here.mkdir(parents=True, exist_ok=True)
        yield here
        held.check()
        _publish(here, folder)


def fetch(folder: Place) -> Path:
    """The copy of a whole folder on this machine. Raises FileNotFoundError where it is not whole on the store, and
    PlaceError where its files are not those that its list names."""
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
                    raise PlaceError(f"{folder / name}: not the file that {FILES} lists; remove {folder} and run again")
            (temporary / FILES).write_bytes(listed)
            shutil.rmtree(here, ignore_errors=True)
            temporary.replace(here)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return here


def _files(folder: Place, listed: bytes) -> dict[str, dict[str, Any]]:
    """Name -> bytes and sha256. Raises PlaceError for what is no list of files."""
    try:
        files = json.loads(listed)
        for facts in files.values():
            if not (isinstance(facts["bytes"], int) and facts["bytes"] >= 0 and isinstance(facts["sha256"], str)):
                raise TypeError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise PlaceError(f"{folder / FILES}: is no list of files; remove {folder} and run again") from None
    return files


def mirror(folder: Place, pattern: str) -> list[Path]:
    """The files under a folder that match, in the order of their names, as files of this machine.

    For files that are never changed: a copy is made once.
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
