"""Engine openai checks its servers before a purchase."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.openai_server import HTML, Fault, Server, error

from cos_assets.generation.generate import preflight
from cos_assets.generation.types import Model

KEY = "sk-very-secret-0123456789"
LIST = {"object": "list", "data": [{"id": "org/model"}, {"id": "other"}]}


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def server(shared: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("SOME_KEY", KEY)
    shared.reset()
    yield shared
    assert {request.method for request in shared.requests} <= {"GET"}, "the check costs nothing"


def replies(server: Server, reply: Any, route: str = "GET /v1/models") -> None:
    server.routes[route] = lambda request: reply


@pytest.fixture
def closed_url() -> str:
    """The URL of a closed port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


def look(server: Server, name: str = "org/model", **options: Any) -> None:
    preflight(Model(name, "m", "openai", engine_options={"base_url": server.url, "api_key_env": "SOME_KEY", **options}))


@pytest.mark.parametrize(
    "models",
    [
        LIST,
        LIST["data"],  # the form of Together AI
        {"data": [{"id": "org/*"}]},  # a proxy's
        Fault(404, {"detail": "Not Found"}),  # a server that lists no models
        Fault(405, b""),
        Fault(501, b""),
        error(429, "slow down"),  # the model is listed
        error(403, "You have insufficient permissions. Missing scopes: api.model.read"),
    ],
    ids=["list", "bare", "any", "404", "405", "501", "429", "scopes"],
)
def test_a_server_that_lists_the_model_is_accepted(server: Server, models: Any) -> None:
    replies(server, models)
    look(server)
    assert server.requests[0].route == "GET /v1/models"


def test_a_model_outside_the_list_is_accepted_if_the_server_knows_it(server: Server) -> None:
    replies(server, {"id": "org/model"}, "GET /v1/models/alias")
    look(server, "alias")
    replies(server, {"data": [{"id": f"m{i}"} for i in range(10)]})
    with pytest.raises(ValueError, match=r"^model: 'mine' is not served by .*; it serves m0, .*, m7 and 2 others$"):
        look(server, "mine")
    replies(server, {"data": None})  # ollama without any model
    with pytest.raises(ValueError, match=r"^model: 'mine' is not served by .*; it serves no model now$"):
        look(server, "mine")


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (error(401, f"no, {KEY}"), "does not accept the key in the environment variable SOME_KEY"),
        (error(403, f"no, {KEY}"), "does not accept the key in the environment variable SOME_KEY"),
        (error(429, "no", "insufficient_quota"), "HTTP 429: no; check model:, engine_options.base_url"),
        (HTML, r"engine_options.base_url: .*/v1/models is not a list of models, but text/html: '<html> it"),
        ({"status": "ok"}, r"engine_options.base_url: .*/v1/models is not a list of models"),
        ({"data": ["m"]}, r"engine_options.base_url: .* expected the URL of an OpenAI-compatible API"),
        (b'{"data": [{"id', r"engine_options.base_url: .*/v1/models is not a list of models"),
        (error(400, f"who are you, {KEY}?"), r"engine_options.base_url: .* HTTP 400: who are you, \*\*\*\?"),
    ],
    ids=["401", "403", "quota", "html", "other-json", "odd-list", "cut", "400"],
)
def test_an_unusable_server_is_refused_with_the_option_to_change(server: Server, models: Any, words: str) -> None:
    replies(server, models)
    with pytest.raises(ValueError, match=words) as raised:
        look(server)
    assert KEY not in str(raised.value) and "\n" not in str(raised.value)


def test_one_answering_replica_is_enough(server: Server, closed_url: str) -> None:
    look(server, base_url=[closed_url, server.url])
    with pytest.raises(ConnectionError, match=rf"no server answers: {closed_url}: connection.*base_url") as raised:
        look(server, base_url=closed_url)
    assert "\n" not in str(raised.value)
    replies(server, error(503, "loading"))
    with pytest.raises(ConnectionError, match=f"no server answers: {server.url}: HTTP 503: loading; check that"):
        look(server)


def test_a_server_without_a_batch_api_is_refused_before_a_request(server: Server) -> None:
    with pytest.raises(ValueError, match=r"engine_options.batch: .* has no Batch API \(HTTP 404\); leave it out"):
        look(server, batch=True)
    replies(server, {"object": "list", "data": [], "has_more": False}, "GET /v1/batches")
    look(server, batch=True)


def test_a_missing_key_variable_is_named_without_a_request(server: Server) -> None:
    with pytest.raises(ValueError, match="the environment variable NOT_SET_HERE is not set"):
        look(server, api_key_env="NOT_SET_HERE")
    assert not server.requests


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
def test_incompatible_options_are_refused(server: Server, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        look(server, **options)
