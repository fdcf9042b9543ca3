"""Storage locations: a folder of this machine, or an object store's prefix (`s3://bucket/prefix`, `gs://…`,
`az://…`).

Writing an object is atomic, like renaming a file: the object appears whole or not at all. Data that must be in files
on this machine (a model that is loaded or trained, Dagster's instance, parts of the ledger that were read) is kept in
a local copy of the tree, under $COS_LOCAL; see docs/object_stores.md.
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
_PIECE = 64 << 20  # bytes per request
_AT_ONCE = 8


class PlaceError(OSError):
    """A storage location cannot be used. The message is one line and says what to set or install."""


@dataclass(frozen=True, order=True)
class ObjectPath:
    """The name of an object or a prefix, with the part of pathlib's interface that is used here.

    Methods raise FileNotFoundError if the object does not exist, and PlaceError if the store refuses the request.
    """

    bucket: str
    """The bucket with its scheme: `s3://name`."""
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
        """Write the object. A large file is sent in several requests, and the object appears with the last one."""
        with open_store(self) as store:
            store.put(self.key, content)

    def rename(self, name: str) -> None:
        """Rename the object within the same prefix."""
        with open_store(self) as store:
            store.rename(self.key, f"{self.key.rpartition('/')[0]}/{name}".lstrip("/"))

    def unlink(self) -> None:
        """Remove the object if it exists."""
        with suppress(FileNotFoundError), open_store(self) as store:
            store.delete(self.key)

    def objects(self) -> dict[str, int]:
        """Return the objects under this prefix, sorted: name relative to the prefix -> size in bytes."""
        with open_store(self) as store:
            found = [entry for entries in store.list(self.key) for entry in entries]
        start = len(self.key) + 1 if self.key else 0
        return dict(sorted((entry["path"][start:], entry["size"]) for entry in found))


Place = Path | ObjectPath


def place(where: str | Place, name: str = "COS_HOME") -> Place:
    """Return the folder or prefix that `where` names.

    Raises PlaceError, which names the setting `name`, for an invalid location.
    """
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
        raise PlaceError(f"{name}: {where!r} is not allowed; allowed: a folder, or {allowed}")
    return ObjectPath(f"{scheme}://{bucket}", "/".join(parts))


def folders(where: Place) -> list[str]:
    """Return the sorted names of the folders (or prefixes) directly under a location. Empty if it does not exist."""
    if isinstance(where, Path):
        return sorted(path.name for path in where.iterdir() if path.is_dir()) if where.is_dir() else []
    with open_store(where) as store:
        found = store.list_with_delimiter(where.key or None)["common_prefixes"]
    return sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in found)


def local(where: Place) -> Path:
    """Return the local counterpart of a location: a folder itself, or the local copy of a prefix under $COS_LOCAL (by
    default `cos-assets` in $XDG_CACHE_HOME or `~/.cache`)."""
    if isinstance(where, Path):
        return where
    base = os.environ.get("COS_LOCAL") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "cos-assets")
    # Buckets of the same name on two servers need separate copies.
    server = urlsplit(endpoint()).netloc.replace(":", "-") if where.scheme == "s3" else ""
    bucket = where.bucket.partition("://")[2]
    return Path(base).expanduser().absolute() / "-".join(filter(None, [where.scheme, server])) / bucket / where.key


def check(where: Place) -> None:
    """Raise PlaceError unless a prefix is writable and supports conditional writes.

    This runs before anything is bought. Locks need a server that refuses to create an object that already exists.
    Folders are not checked.
    """
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
    raise PlaceError(f"COS_HOME: {where}: the server ignores `If-None-Match: *`, so locks do not work; use another one")


def readable(file: Place) -> Path | BytesIO:
    """Return a source that polars can read: the path of a file, or the content of an object.

    An object is fetched by a single request. Separate requests for its parts could return parts of a newer object
    that replaced it in between. Raises FileNotFoundError if there is no such file or object.
    """
    if isinstance(file, Path):
        if not file.is_file():
            raise FileNotFoundError(str(file))
        return file
    return BytesIO(file.read_bytes())


def replace(path: Place, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, then replace `path` with it: readers see the old file or the new one.

    On disk, file and folder are synced before this returns, so a power failure does not bring the old file back. The
    temporary name starts with a dot and does not end in .parquet, so no pattern that reads the tree matches it.
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
    """Return the system's error for one more write to a file, if any. Polars reports that a write failed, but not
    always why."""
    try:
        with file.open("ab") as stream:
            stream.write(bytes(2**20))
    except OSError as error:
        return error
    return None


def _sync(folder: Path) -> None:
    """Flush the directory entries of a folder to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def download(folder: ObjectPath, sizes: dict[str, int], to: Path) -> None:
    """Download the objects `sizes` (name -> bytes) under a prefix into a folder, each file whole or not at all.

    The names come from the store. Raises PlaceError before anything is written if a name points outside the folder.
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
    """Yield the store of an object, and convert errors in the block to a PlaceError of one line.

    The message leaves out the full response of the server, which may hold key ids. FileNotFoundError for a missing
    object and the errors of failed conditions keep their types.

    With `quickly`, requests fail after seconds, for a first check. Otherwise they are retried for some minutes.
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
    """Return the options for the client of a store, in addition to those that it reads from the environment."""
    plain = (endpoint() if server is None else server).startswith("http://")
    return {"timeout": timedelta(minutes=2), **({"allow_http": True} if plain else {})}


def endpoint() -> str:
    """Return the S3 server that the environment names, or "" for Amazon's own. Raises PlaceError if the value is not
    a URL."""
    for name in _ENDPOINTS:
        if url := os.environ.get(name):
            if not re.match(r"https?://[^/\s]", url):
                raise PlaceError(f"{name}: {url!r} is not allowed; allowed: a URL, for example https://host:9000")
            return url
    return ""
