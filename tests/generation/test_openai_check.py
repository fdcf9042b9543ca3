"""Engine openai's look at its servers before anything is bought."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cos_assets.generation.generate import preflight
from cos_assets.generation.types import Model

KEY = "sk-very-secret-0123456789"
LIST = {"object": "list", "data": [{"id": "org/model"}, {"id": "other"}]}
HTML = b"<html>\nit works!</html>"


class Server:
    """Says what stands under a path, (status, content), and 404 elsewhere. Whoever posts here has bought something."""

    def __init__(self) -> None:
        self.paths: dict[str, tuple[int, Any]] = {"/v1/models": (200, LIST)}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(f"{self.command} {self.path.split('?')[0]}")
                status, content = outer.paths.get(self.path.split("?")[0], (404, {"detail": "Not Found"}))
                text = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-type", "text/html" if content is HTML else "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("SOME_KEY", KEY)
    made = Server()
    yield made
    made.close()
    assert not [path for path in made.asked if not path.startswith("GET ")], "it costs nothing"


@pytest.fixture
def nobody() -> str:
    """The URL of a port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


def look(server: Server, name: str = "org/model", **options: Any) -> None:
    preflight(Model(name, "m", "openai", engine_options={"base_url": server.url, "api_key_env": "SOME_KEY", **options}))


def error(message: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "code": code}}


@pytest.mark.parametrize(
    "models",
    [
        (200, LIST),
        (200, LIST["data"]),  # as Together AI has it
        (200, {"data": [{"id": "org/*"}]}),  # a proxy's
        (404, {"detail": "Not Found"}),  # a server that lists no models
        (405, b""),
        (501, b""),
        (429, error("slow down")),  # it is there
        (403, error("You have insufficient permissions. Missing scopes: api.model.read")),
    ],
    ids=["list", "bare", "any", "404", "405", "501", "429", "scopes"],
)
def test_a_server_that_is_well_is_not_refused(server: Server, models: tuple[int, Any]) -> None:
    server.paths["/v1/models"] = models
    look(server)
    assert server.asked[0] == "GET /v1/models"


def test_a_model_that_is_not_listed_may_still_be_served(server: Server) -> None:
    server.paths["/v1/models/alias"] = (200, {"id": "org/model"})
    look(server, "alias")
    server.paths["/v1/models"] = (200, {"data": [{"id": f"m{i}"} for i in range(10)]})
    with pytest.raises(ValueError, match=r"^model: 'mine' is not served by .*; it serves m0, .*, m7 and 2 others$"):
        look(server, "mine")
    server.paths["/v1/models"] = (200, {"data": None})  # ollama, before anything was pulled
    with pytest.raises(ValueError, match=r"^model: 'mine' is not served by .*; it serves no model now$"):
        look(server, "mine")


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ((401, error(f"no, {KEY}")), "does not accept the key in the environment variable SOME_KEY"),
        ((403, error(f"no, {KEY}")), "does not accept the key in the environment variable SOME_KEY"),
        ((429, error("no", "insufficient_quota")), "HTTP 429: no; check model:, engine_options.base_url"),
        (
            (200, HTML),
            r"engine_options.base_url: .*/v1/models is not a list of models, but text/html: '<html> it",
        ),
        ((200, {"status": "ok"}), r"engine_options.base_url: .*/v1/models is not a list of models"),
        ((200, {"data": ["m"]}), r"engine_options.base_url: .* expected the URL of an OpenAI-compatible API"),
        ((200, b'{"data": [{"id'), r"engine_options.base_url: .*/v1/models is not a list of models"),
        ((400, error(f"who are you, {KEY}?")), r"engine_options.base_url: .* HTTP 400: who are you, \*\*\*\?"),
    ],
    ids=["401", "403", "quota", "html", "other-json", "odd-list", "cut", "400"],
)
def test_what_must_be_mended_is_named(server: Server, models: tuple[int, Any], words: str) -> None:
    server.paths["/v1/models"] = models
    with pytest.raises(ValueError, match=words) as raised:
        look(server)
    assert KEY not in str(raised.value) and "\n" not in str(raised.value)


def test_one_replica_that_answers_will_do(server: Server, nobody: str) -> None:
    look(server, base_url=[nobody, server.url])
    with pytest.raises(ConnectionError, match=rf"no server answers: {nobody}: connection.*base_url") as raised:
        look(server, base_url=nobody)
    assert "\n" not in str(raised.value)
    server.paths["/v1/models"] = (503, error("loading"))
    with pytest.raises(ConnectionError, match=f"no server answers: {server.url}: HTTP 503: loading; check that"):
        look(server)


def test_a_server_without_batches_is_told_before_anything_is_sent(server: Server) -> None:
    with pytest.raises(ValueError, match=r"engine_options.batch: .* has no Batch API \(HTTP 404\); leave it out"):
        look(server, batch=True)
    server.paths["/v1/batches"] = (200, {"object": "list", "data": [], "has_more": False})
    look(server, batch=True)


def test_a_key_that_is_not_set_is_named_without_asking_anyone(server: Server) -> None:
    with pytest.raises(ValueError, match="the environment variable NOT_SET_HERE is not set"):
        look(server, api_key_env="NOT_SET_HERE")
    assert not server.asked


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": True, "concurrency": 3}, "engine_options: .*concurrency: allowed only without batch: true"),
        ({"poll_seconds": 3}, "engine_options: .*poll_seconds: allowed only with batch: true"),
        ({"batch": True, "base_url": ["http://a/v1", "http://b/v1"]}, "batch: batch: true works with one server only"),
        ({"batch": True, "batch_size": 50_001}, "engine_options.batch_size: .*less than or equal to 50000"),
        ({"batch": True, "batch_megabytes": 0}, "engine_options.batch_megabytes: .*greater than 0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(server: Server, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        look(server, **options)
