"""An object store for every test: an empty bucket of `s3_server`, and an empty local cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.s3_server import Server

from cos_assets.storage.paths import ObjectPath, place

BUCKET = "bucket"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    for package in ("obstore", "moto"):
        if find_spec(package) is None:
            if os.environ.get("CI"):
                pytest.fail(f"{package} is not installed: in CI these tests must run")
            pytest.skip(f"{package} is not installed")
    server = Server()
    yield server
    server.close()


@pytest.fixture
def s3(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectPath]:
    """A root in an empty bucket with its own local copy; environment variables point to both."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "COS_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    settings = {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "COS_LOCAL": str(tmp_path / "local"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    server.empty(BUCKET)
    server.requests.clear()
    root = place(f"s3://{BUCKET}/some/prefix")
    assert isinstance(root, ObjectPath)
    monkeypatch.setenv("COS_HOME", str(root))
    yield root
    server.refuse, server.lose = lambda request: None, lambda request: False
    server.conditions, server.more = True, ""
