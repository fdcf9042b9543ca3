"""Where things lie: a folder of this machine, or a prefix of an object store (`s3://bucket/prefix`, `gs://…`, `az://…`).

An object is written by one request and appears whole or not at all, as a renamed file does. What has to be files on
this machine (a model that is loaded or trained, Dagster's instance, the ledger's parts that were read once) lies in a
local copy of the tree, under $COS_LOCAL; see docs/object_stores.md.
"""

from __future__ import annotations

import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from polars.exceptions import PolarsError

SCHEMES = ("s3", "gs", "az")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_SETTINGS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY",
}
_PIECE = 64 << 20  # bytes asked for at once
_AT_ONCE = 8


class PlaceError(OSError):
    """A place cannot be used; the message is one line and says what to set or install."""


@dataclass(frozen=True, order=True)
class ObjectPath:
    """The name of an object or of a prefix, in as many of pathlib's words as are used here.

    Methods raise FileNotFoundError where there is no such object, and PlaceError where the store refuses.
    """

    bucket: str
    """With its scheme: `s3://name`."""
    key: str

    def __truediv__(self, part: str | Path) -> ObjectPath:
        return ObjectPath(self.bucket, f"{self.key}/{part}".strip("/"))

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}".rstrip("/")

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def scheme(self) -> str:
        return self.bucket.partition(":")[0]

    def read_bytes(self) -> bytes:
        with open_store(self) as store:
            return store.get(self.key).bytes().to_bytes()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def is_file(self) -> bool:
        try:
            with open_store(self) as store:
                store.head(self.key)
        except FileNotFoundError:
            return False
        return True

    def put(self, content: bytes | Path) -> None:
        """Write the object; a large file goes in several requests, of which the last makes it appear."""
        with open_store(self) as store:
            store.put(self.key, content)

    def rename(self, name: str) -> None:
        """Give the object another name under the same prefix."""
        with open_store(self) as store:
            store.rename(self.key, f"{self.key.rpartition('/')[0]}/{name}".lstrip("/"))

    def unlink(self) -> None:
        """Remove the object; one that is not there is no mistake."""
        with suppress(FileNotFoundError), open_store(self) as store:
            store.delete(self.key)

    def objects(self) -> dict[str, int]:
        """What lies under this prefix: name, less the prefix -> size in bytes, in the order of names."""
        with open_store(self) as store:
            found = [entry for entries in store.list(self.key) for entry in entries]
        start = len(self.key) + 1 if self.key else 0
        return dict(sorted((entry["path"][start:], entry["size"]) for entry in found))


Place = Path | ObjectPath


def place(where: str | Place, name: str = "COS_HOME") -> Place:
    """The folder or prefix that a text means. Raises PlaceError, naming the setting `name`, for one that means none."""
    if not isinstance(where, str):
        return where.absolute() if isinstance(where, Path) else where
    url = re.match(r"([A-Za-z][\w+.-]+):/", where)
    if url is None:
        return Path(where).expanduser().absolute()
    scheme, _, rest = where.partition("://")
    bucket, _, key = rest.partition("/")
    parts = [part for part in key.split("/") if part]
    if scheme not in SCHEMES or not bucket or {".", ".."} & set(parts) or set("?#*[]'\"") & set(rest):
        allowed = ", ".join(f"{s}://bucket/prefix" for s in SCHEMES)
        raise PlaceError(f"{name}: {where!r}; allowed: a folder, or {allowed}")
    return ObjectPath(f"{scheme}://{bucket}", "/".join(parts))


def folders(where: Place) -> list[str]:
    """The names of the folders (or prefixes) right under a place, in order; none where it is not there."""
    if isinstance(where, Path):
        return sorted(path.name for path in where.iterdir() if path.is_dir()) if where.is_dir() else []
    with open_store(where) as store:
        found = store.list_with_delimiter(where.key or None)["common_prefixes"]
    return sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in found)


def local(where: Place) -> Path:
    """What stands for a place on this machine: a folder itself; for a prefix its copy under $COS_LOCAL, by default
    `cos-assets` in $XDG_CACHE_HOME or `~/.cache`."""
    if isinstance(where, Path):
        return where
    base = os.environ.get("COS_LOCAL") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "cos-assets")
    # Buckets of one name on two servers are two places.
    server = urlsplit(endpoint()).netloc.replace(":", "-") if where.scheme == "s3" else ""
    bucket = where.bucket.partition("://")[2]
    return Path(base).expanduser().absolute() / "-".join(filter(None, [where.scheme, server])) / bucket / where.key


def check(where: Place) -> None:
    """Raise PlaceError in one line, before anything is bought, unless a prefix can be written, and conditionally: locks
    need a server that refuses to create an object which is there already."""
    if isinstance(where, Path):
        return
    note = where / ".cos"
    with open_store(note, quickly=True) as store:
        from obstore.exceptions import AlreadyExistsError

        for _ in range(2):
            try:
                store.put(note.key, b"The root of a tree that cos writes.\n", mode="create")
            except AlreadyExistsError:
                return
    raise PlaceError(f"COS_HOME: {where}: this server ignores `If-None-Match: *`, so two buyers cannot be kept apart")


def readable(file: Place) -> Path | BytesIO:
    """What polars reads a file from. An object is fetched by one request: were it read in pieces, some could come from
    the object that replaces it. Raises FileNotFoundError where there is none."""
    if isinstance(file, Path):
        if not file.is_file():
            raise FileNotFoundError(str(file))
        return file
    return BytesIO(file.read_bytes())


def replace(path: Place, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, then put it in the place of `path`: readers see the old one or the new one.

    When this returns, a power cut does not bring the old one back: file and folder have been synced.
    The temporary name has a dot in front and does not end in .parquet: no pattern that reads the tree matches it.
    """
    if isinstance(path, ObjectPath):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, path.name)
            write(file)
            path.put(file)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        try:
            write(temporary)
        except (OSError, PolarsError) as error:
            refused = error if isinstance(error, OSError) else _refused(temporary)
            if refused is None or refused.errno is None or (refused is error and refused.filename):
                raise
            raise OSError(refused.errno, refused.strerror, str(path)) from error
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _refused(file: Path) -> OSError | None:
    """What the system says to one more write. Polars passes on that a write failed, but not always why."""
    try:
        with file.open("ab") as stream:
            stream.write(bytes(2**20))
    except OSError as error:
        return error
    return None


def _sync(folder: Path) -> None:
    """Write a folder's list of names to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def download(folder: ObjectPath, sizes: dict[str, int], to: Path) -> None:
    """Write the objects `sizes` (name -> bytes) under a prefix into a folder, each file whole or not at all.

    The names come from the store. Raises PlaceError, before anything is written, for one that leaves the folder.
    """
    for name in sizes:
        if set(name.split("/")) & {"", ".", ".."} or any(c in name for c in "\\:\0"):
            raise PlaceError(f"{folder}: the name {name!r} is refused; allowed: names of files under this folder")

    def one(name: str) -> None:
        source = folder / name

        def fill(file: Path) -> None:
            with file.open("wb") as stream, open_store(source) as store:
                for start in range(0, sizes[name], _PIECE):
                    stream.write(store.get_range(source.key, start=start, end=min(start + _PIECE, sizes[name])))

        replace(to / name, fill)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(one, sizes))


@contextmanager
def open_store(where: ObjectPath, *, quickly: bool = False) -> Iterator[Any]:
    """The store of an object, for use in the block; what it raises becomes a PlaceError of one line, without what the
    server answered at length (it may hold key ids). FileNotFoundError and failed conditions stay what they are.

    `quickly` gives up after seconds, for a first look; else requests are repeated for some minutes.
    """
    try:
        import obstore.exceptions as raised
    except ModuleNotFoundError:
        raise PlaceError(
            f"COS_HOME: {where.bucket}: object stores need obstore; install it with `pip install 'cos-assets[cloud]'`"
        ) from None
    kept = (raised.AlreadyExistsError, raised.PreconditionError)
    try:
        yield _store(where.bucket, endpoint(), quickly)
    except kept:
        raise
    except (FileNotFoundError, raised.BaseError) as error:
        text = str(error)
        if isinstance(error, FileNotFoundError) and "<Code>NoSuchBucket" not in text:
            raise FileNotFoundError(f"{where}: there is no such object") from None
        found = [re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("Code", "Message")]
        cause = ": ".join(match[1] for match in found if match) or re.split(r" - |\n", text.partition("\n")[0])[-1]
        raise PlaceError(f"COS_HOME: {where}: {cause}; check the bucket, {_SETTINGS[where.scheme]}") from None


@lru_cache
def _store(bucket: str, server: str, quickly: bool) -> Any:
    from obstore.store import from_url

    options: Any = client_options(server)
    retries: Any = None
    if quickly:
        options["timeout"] = timedelta(seconds=10)
        retries = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
    return from_url(bucket, client_options=options, retry_config=retries)


def client_options(server: str | None = None) -> dict[str, Any]:
    """What the client of a store is told besides what it finds in the environment."""
    plain = (endpoint() if server is None else server).startswith("http://")
    return {"timeout": timedelta(minutes=2), **({"allow_http": True} if plain else {})}


def endpoint() -> str:
    """The S3 server that the environment names; empty for Amazon's own. Raises PlaceError for what is no URL."""
    for name in _ENDPOINTS:
        if url := os.environ.get(name):
            if not re.match(r"https?://[^/\s]", url):
                raise PlaceError(f"{name}: {url!r}; allowed: a URL, for example https://host:9000")
            return url
    return ""
