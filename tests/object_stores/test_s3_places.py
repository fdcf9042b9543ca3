"""Names, files and whole folders on an object store."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from support.s3_server import Server

from cos_assets.storage import artifacts, paths, tables
from cos_assets.storage.paths import ObjectPath, PlaceError, place

ROOT = Path(__file__).parents[2]
FRAME = pl.DataFrame({"x": [1, 2], "text": ["a", None]})


@pytest.mark.parametrize(
    "url",
    ["ftp://a/b", "s3:/bucket", "s3://", "s3:///prefix", "s3://bucket/../other", "s3://bucket/a*b", "https://x.org/y"],
)
def test_an_invalid_place_is_refused_with_the_allowed_forms(url: str) -> None:
    with pytest.raises(PlaceError) as raised:
        place(url)
    assert str(raised.value) == (
        f"COS_HOME: {url!r} is not allowed; allowed: a folder, or s3://bucket/prefix, gs://bucket/prefix, az://bucket/prefix"
    )


def test_paths_and_urls_are_joined_and_normalized(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert place("a") == tmp_path / "a"
    root = place("s3://bucket//a/b/")
    assert str(root) == "s3://bucket/a/b"
    assert str(root / "c" / "d.parquet") == "s3://bucket/a/b/c/d.parquet"
    assert str(place("gs://bucket") / "c") == "gs://bucket/c"


def test_equal_buckets_on_two_servers_have_separate_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COS_LOCAL", "/copies")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://one:9000")
    one = paths.local(place("s3://bucket/a") / "b")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://two:9000")
    assert one == Path("/copies/s3-one-9000/bucket/a/b") != paths.local(place("s3://bucket/a/b"))
    monkeypatch.delenv("COS_LOCAL")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert paths.local(place("gs://bucket/a")) == Path("/cache/cos-assets/gs/bucket/a")


def test_a_table_is_stored_as_one_object_and_read_back_equal(s3: ObjectPath, server: Server) -> None:
    file = tables.write(s3, "s", "t", {"model": "wc", "budget": "low"}, FRAME, {"facts": {"a": 1}})
    assert str(file) == "s3://bucket/some/prefix/s/t/budget=low/model=wc/data.parquet"
    assert server.requests.count("PUT /bucket/some/prefix/s/t/budget=low/model=wc/data.parquet") == 1
    read = tables.scan(s3, "s", "t", [{"model": "wc", "budget": "low"}]).collect()
    assert read.drop("budget", "model").equals(FRAME)
    lineage = tables.lineage(s3, "s", "t", {"model": "wc", "budget": "low"})
    assert lineage is not None
    assert lineage["facts"] == {"a": 1}
    assert tables.lineage(s3, "s", "other") is None
    assert (paths.folders(s3), paths.folders(s3 / "s"), paths.folders(s3 / "none")) == (["s"], ["t"], [])
    with pytest.raises(FileNotFoundError, match=r"s/t: high\|wc has not been materialized \(no s3://bucket/"):
        tables.scan(s3, "s", "t", [{"model": "wc", "budget": "high"}])


def test_a_large_object_is_stored_completely_or_not_at_all(s3: ObjectPath, server: Server, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(os.urandom(12 << 20))
    parts = 0

    def fails(request: str) -> str | None:
        nonlocal parts
        parts += request == "PUT /bucket/some/prefix/weights"
        return "403 Forbidden" if parts == 3 else None

    server.refuse = fails
    with pytest.raises(PlaceError):
        (s3 / "weights").put(file)
    server.refuse = lambda request: None
    assert not (s3 / "weights").is_file()
    (s3 / "weights").put(file)
    assert (s3 / "weights").read_bytes() == file.read_bytes()


def test_a_complete_folder_is_fetched_once(
    s3: ObjectPath, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with artifacts.workshop(s3 / "f") as here:
        (here / "model").mkdir()
        (here / "model" / "a.bin").write_bytes(b"a" * 1000)
        (here / ".lock").write_text("")
    assert sorted((s3 / "f").objects()) == [".lock", "FILES.json", "model/a.bin"]
    monkeypatch.setenv("COS_LOCAL", str(tmp_path / "another machine"))
    copy = artifacts.fetch(s3 / "f")
    assert (copy / "model" / "a.bin").read_bytes() == b"a" * 1000
    server.requests.clear()
    assert artifacts.fetch(s3 / "f") == copy
    assert server.requests == ["GET /bucket/some/prefix/f/FILES.json"]


def test_an_error_of_the_caller_in_a_folder_is_raised_unchanged(s3: ObjectPath) -> None:
    for _ in range(2):  # first missing, then complete
        with pytest.raises(FileNotFoundError, match="of mine"), artifacts.workshop(s3 / "f"):
            raise FileNotFoundError("a file of mine")
        with artifacts.workshop(s3 / "f") as here:
            (here / "a").write_text("a")


def test_a_partially_uploaded_folder_is_not_taken_as_complete(s3: ObjectPath, server: Server) -> None:
    def make() -> list[str]:
        made = []
        with artifacts.workshop(s3 / "f") as here:
            for name in ("config.json", "model.safetensors"):
                if not (here / name).exists():
                    (here / name).write_text(name)
                    made.append(name)
        return made

    server.refuse = lambda request: "403 Forbidden" if request == "PUT /bucket/some/prefix/f/FILES.json" else None
    with pytest.raises(PlaceError):
        make()
    server.refuse = lambda request: None
    assert "config.json" in (s3 / "f").objects()
    with pytest.raises(FileNotFoundError):
        artifacts.fetch(s3 / "f")
    assert make() == []  # files that this machine made are not made again
    assert (artifacts.fetch(s3 / "f") / "config.json").read_text() == "config.json"


def test_a_file_that_differs_from_the_list_is_refused(
    s3: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with artifacts.workshop(s3 / "f") as here:
        (here / "config.json").write_text("right")
    (s3 / "f" / "config.json").put(b"wrong")
    monkeypatch.setenv("COS_LOCAL", str(tmp_path / "another machine"))
    with pytest.raises(PlaceError, match=r"f/config\.json: the file differs from FILES\.json"):
        artifacts.fetch(s3 / "f")
    assert not paths.local(s3 / "f").exists()


@pytest.mark.parametrize(
    "name", ["/victim", "../victim", "a/../../victim", "..\\victim", "C:\\victim", "c:victim", "a//victim", ".", ""]
)
@pytest.mark.parametrize("text", [b"", b"written by the list"])
def test_a_list_cannot_name_files_outside_its_folder(s3: ObjectPath, tmp_path: Path, name: str, text: bytes) -> None:
    """An empty file needs no request, so the client of the store does not check its name."""
    victim = tmp_path / "victim"
    victim.write_text("kept")
    name = str(victim) if name == "/victim" else name
    facts = {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
    (s3 / "f" / artifacts.FILES).put(json.dumps({name: facts}).encode())
    with pytest.raises(PlaceError, match=r"f: the name .* is refused; allowed: names of files under this folder"):
        artifacts.fetch(s3 / "f")
    assert victim.read_text() == "kept"
    assert [file.name for file in paths.local(s3 / "f").parent.rglob("*") if file.is_file()] == [".f.lock"]


@pytest.mark.parametrize("listed", [b"", b"[]", b'{"a": 1}', b'{"a": {"bytes": -1, "sha256": ""}}', b"[" * 100_000])
def test_an_invalid_list_of_files_is_refused(s3: ObjectPath, listed: bytes) -> None:
    (s3 / "f" / artifacts.FILES).put(listed)
    with pytest.raises(PlaceError, match=r"f/FILES\.json: is not a list of files; remove"):
        artifacts.fetch(s3 / "f")


def cos(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cos_assets.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_an_unusable_store_is_reported_in_one_line_before_the_run(s3: ObjectPath, server: Server) -> None:
    told = refused(cos("run", "demo", "--smoke", COS_HOME="s3://no-such-bucket/a"))
    assert "COS_HOME: s3://no-such-bucket/a/.cos: NoSuchBucket" in told
    assert "AWS_ENDPOINT_URL" in told
    told = refused(cos("run", "demo", "--smoke", AWS_ENDPOINT_URL="http://127.0.0.1:9"))
    assert "COS_HOME: s3://bucket/some/prefix/.cos: " in told
    told = refused(cos("run", "demo", "--smoke", AWS_ENDPOINT_URL="host:9000"))
    assert "AWS_ENDPOINT_URL: 'host:9000' is not allowed; allowed: a URL, for example https://host:9000" in told
    told = refused(cos("--home", "ftp://bucket", "run", "demo", "--smoke"))
    assert "--home: 'ftp://bucket' is not allowed; allowed: a folder, or s3://bucket/prefix" in told
    server.refuse = lambda request: "403 Forbidden" if request.startswith("PUT") else None
    told = refused(cos("run", "demo", "--smoke"))
    assert "Forbidden: So the test has it" in told
    server.refuse, server.conditions = lambda request: None, False
    told = refused(cos("run", "demo", "--smoke"))
    assert "the server ignores `If-None-Match: *`, so locks do not work" in told
    assert list(s3.objects()) == [".cos"]


def test_a_missing_package_is_reported_with_the_extra_to_install(s3: ObjectPath) -> None:
    code = "import sys; sys.modules['obstore'] = None; from cos_assets.cli import main; main()"
    command = [sys.executable, "-c", code, "run", "demo", "--smoke"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "object stores need obstore; install it with `pip install 'cos-assets[cloud]'`" in refused(done)


def test_secrets_in_the_reply_of_the_server_are_not_repeated(s3: ObjectPath, server: Server) -> None:
    secret = "AKIAEXAMPLE"
    server.more = f"<StringToSign>{secret}</StringToSign><AWSAccessKeyId>{secret}</AWSAccessKeyId>"
    server.refuse = lambda request: "403 Signature Does Not Match"
    with pytest.raises(PlaceError) as raised:
        (s3 / "x").read_bytes()
    assert "SignatureDoesNotMatch: So the test has it" in str(raised.value)
    assert secret not in str(raised.value)
    assert raised.value.__suppress_context__
