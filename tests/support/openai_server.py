"""An OpenAI-compatible HTTP server on loopback, and ready-made replies.

Each route has a reply function, which gets a `Received` request and returns JSON, bytes or a `Fault`:

    with Server(reply=script(error(503, "busy", retry_after=1), CUT, then=echo)) as server:
        server.routes["GET /v1/models"] = lambda request: error(404, "not found")

`reply` answers completions, chat completions and the requests of a batch. `completion` builds the JSON of an answer, in
the form of the API that was asked. Reply functions run one at a time and need no locks; `Fault.delay` makes one request
wait. An exception in a reply function gives HTTP 500, and is raised again at the end of the `with` block.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.message import Message
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import polars as pl

from cos_assets.grading.steps import check_program

COMPLETIONS, CHAT = "POST /v1/completions", "POST /v1/chat/completions"


@dataclass
class Received:
    """A request that came over HTTP or in a batch."""

    method: str
    target: str
    body: dict[str, Any]
    """The JSON that was sent; empty without one."""
    content: bytes = b""
    headers: Mapping[str, str] | Message = field(default_factory=dict)
    batch: int | None = None
    """The number of the batch that contains the request."""
    custom_id: str = ""
    time: float = field(default_factory=time.monotonic)
    route: str = ""
    """The route that replied; empty if there is none."""
    delivered: bool = False
    """Whether the whole reply has been written."""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))

    @property
    def chat(self) -> bool:
        return self.path.endswith("/chat/completions")

    @property
    def prompt(self) -> str:
        return self.body["messages"][-1]["content"] if self.chat else self.body["prompt"]


@dataclass(frozen=True)
class Fault:
    """A reply that is not simply JSON with status 200."""

    status: int = 200
    content: Any = None
    """JSON, or bytes that are sent as they are."""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before the reply is sent."""
    part: float = 1.0
    """The share of the content that is sent before the connection is cut; 0 sends no headers either. In a batch it is
    the share of the line, and 2 writes the line twice."""


Reply = Callable[[Received], Any]

CUT = Fault(part=0)
HTML = Fault(content=b"<html>\nit works!</html>", headers={"content-type": "text/html"})
EXPIRED = Fault(408)
"""In a batch: the request was not run in time."""


def error(status: int, message: str, code: str | None = None, retry_after: float | None = None) -> Fault:
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return Fault(status, {"error": {"message": message, "type": "some_error", "code": code}}, headers)


def as_fault(reply: Any) -> Fault:
    return reply if isinstance(reply, Fault) else Fault(content=reply)


def usage(prompt: int = 100, completion: int = 7, cached: int | None = 64) -> dict[str, Any]:
    details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **details}


def completion(
    request: Received, *contents: Any, finish: Any = "stop", counts: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """Return the JSON of an answer in the form of the API that was asked, with one choice for each of `contents`.

    `fields` are added to each message of a chat, and to each choice of a plain completion.
    """
    choices: list[dict[str, Any]] = []
    for index, content in enumerate(contents):
        choice = {"index": index, "finish_reason": finish}
        if request.chat:
            choices.append({**choice, "message": {"role": "assistant", "content": content, **fields}})
        else:
            choices.append({**choice, "text": content, **fields})
    counts = counts or usage(completion=7 * len(contents))
    return {"id": "1", "object": "x", "created": 1, "model": request.body["model"], "choices": choices, "usage": counts}


def answer(prompt: str, seed: int | None, index: int = 0) -> str:
    """Return a text of `echo`. It ends with a line separator, which does not end a line of a JSON Lines file."""
    return f"answer to {prompt}, seed {seed}, {index} \u2028"


def echo(request: Received, **options: Any) -> dict[str, Any]:
    """Answer with texts that depend on the prompt and the seed. `options` are those of `completion`."""
    texts = [answer(request.prompt, request.body.get("seed"), index) for index in range(request.body.get("n", 1))]
    return completion(request, *texts, **options)


def script(*steps: Any, then: Reply = echo) -> Reply:
    """Reply with each step once, in the order of the requests, and to all later requests by `then`.

    A step is a reply or a reply function.
    """
    left = iter(steps)

    def reply(request: Received) -> Any:
        step = next(left, then)
        return step(request) if callable(step) else step

    return reply


def when(condition: Callable[[Received], bool], reply: Any, otherwise: Reply = echo) -> Reply:
    """Give `reply`, as a step of `script`, to requests that meet the condition, and reply by `otherwise` to others."""
    return lambda request: script(reply)(request) if condition(request) else otherwise(request)


def slow(seconds: float, reply: Reply = echo) -> Reply:
    """Reply by `reply`, `seconds` later."""

    def late(request: Received) -> Fault:
        made = as_fault(reply(request))
        return replace(made, delay=made.delay + seconds)

    return late


def draw(*what: Any) -> float:
    """Return a number in [0, 1) that depends on `what` alone."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, what)).encode()).digest()[:6]) / 2**48


_ASKED = re.compile(r"\nProblem:\n(.*?)\n\n(?:Reference answer:\n(.*?)\n\n)?Solution:\n(.*?)\n\nAnswer with", re.DOTALL)
_NO_JUDGEMENT = (
    ("I'm sorry, but I can't help with that.", "stop"),
    ('{"reason": "First we look at', "length"),
    ("It all seems fine to me.", "stop"),
)


def judgements(problems: pl.DataFrame, odd: float = 0.0, sensitivity: float = 0.8, specificity: float = 0.9) -> Reply:
    """Judge solutions of the built-in task with known error rates.

    The step checker gives the truth; a draw that depends on the prompt decides whether the verdict is wrong. `odd` is
    the share of replies that are not judgements: refusals, truncated ones and prose in equal parts.
    """
    truths = dict(problems.select("question", "truth").iter_rows())

    def reply(request: Received) -> Any:
        found = _ASKED.search(request.prompt)
        assert found, f"not the judge's prompt: {request.prompt}"
        question, _, steps = found.groups()
        kind = draw("odd", request.prompt)
        if kind < odd:
            text, finish = _NO_JUDGEMENT[int(3 * kind / odd)]
            return completion(request, text, finish=finish, counts=usage(200, 40, None))
        text = " ".join(re.sub(r"^\[\d+\] ", "", line) for line in steps.splitlines())
        wrong = check_program(truths[question], text).label == "wrong"
        seen = draw("error", request.prompt) < (sensitivity if wrong else specificity)
        right = seen != wrong
        verdict = {"reason": "so it is", "first_wrong_step": None if right else 1, "reasoning_correct": right}
        text = json.dumps(verdict)
        if draw("fence", request.prompt) < 0.3:
            text = f"Let me see.\n```json\n{text}\n```"
        return completion(request, text, counts=usage(200, 40, None))

    return reply


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and content in one packet
    disable_nagle_algorithm = True
    server: _Listener

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def handle_request(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        empty = int(self.headers.get("content-length") or 0) == 0  # not: cut off before its content
        body = {} if empty or self.headers["content-type"] != "application/json" else json.loads(content)
        request = Received(self.command, self.path, body, content, self.headers)
        with self.server.app.replying(request) as reply:
            self._send(reply)
            request.delivered = reply.part == 1

    do_GET = do_POST = handle_request

    def _send(self, reply: Fault) -> None:
        time.sleep(reply.delay)
        content = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
        if reply.part:
            self.send_response(reply.status)
            headers = {"content-type": "application/json", "content-length": str(len(content)), **reply.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: int(reply.part * len(content))])
            self.wfile.flush()
        if reply.part < 1:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def log_message(self, *_: Any) -> None: ...


class _Listener(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True

    def __init__(self, app: Server, port: int) -> None:
        self.app = app
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, *where: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client may leave at any time
            super().handle_error(*where)


class Server:
    """A server without a Batch API; `BatchServer` has one."""

    def __init__(self, reply: Reply = echo, models: Sequence[str] = ("org/model",), port: int = 0) -> None:
        self._lock = threading.Lock()
        self._errors: list[Exception] = []
        self._listener = _Listener(self, port)
        self.running = self.most = 0
        """Requests that have no reply yet: now, and at most so far."""
        self.url = f"http://127.0.0.1:{self._listener.server_port}/v1"
        self.reset(reply, models)
        threading.Thread(target=self._listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def reset(self, reply: Reply = echo, models: Sequence[str] = ("org/model",)) -> None:
        """Restore the routes and forget the requests, between tests that share a server."""
        self.reply = reply
        self.requests: list[Received] = []
        listed = {"object": "list", "data": [{"id": model, "object": "model"} for model in models]}
        self.routes: dict[str, Reply] = {
            COMPLETIONS: lambda request: self.reply(request),
            CHAT: lambda request: self.reply(request),
            "GET /v1/models": lambda request: listed,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: Any, *_: Any) -> None:
        self.close()
        if self._errors and not failed:
            raise self._errors[0]

    def close(self) -> None:
        """Stop listening, and cut every connection."""
        self._listener.shutdown()
        self._listener.server_close()
        for connection in list(self._listener.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The bodies of all requests for completions, in the order of their arrival."""
        return [request.body for request in self.requests if request.route in (COMPLETIONS, CHAT)]

    @property
    def calls(self) -> Counter[str]:
        """The number of requests to each route."""
        return Counter(request.route for request in self.requests)

    @property
    def keys(self) -> set[str | None]:
        return {request.headers.get("authorization") for request in self.requests}

    @contextmanager
    def replying(self, request: Received) -> Iterator[Fault]:
        with self._lock:
            self.requests.append(request)
            self.running += 1
            self.most = max(self.most, self.running)
            reply = self._reply_to(request)
        try:
            yield reply
        finally:
            with self._lock:
                self.running -= 1

    def _reply_to(self, request: Received) -> Fault:
        called = f"{request.method} {request.path}"
        request.route = next((route for route in self.routes if fnmatchcase(called, route)), "")
        if not request.route:
            return error(404, f"no route for {called}")
        try:
            return as_fault(self.routes[request.route](request))
        except Exception as problem:
            self._errors.append(problem)
            return error(500, f"the reply function failed: {problem!r}")


def form(request: Received) -> dict[Any, bytes]:
    """Return the fields of an upload."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    parts: Any = message_from_bytes(head + request.content).get_payload()
    return {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in parts}


def page(items: Sequence[dict[str, Any]], request: Received, size: int = 2) -> dict[str, Any]:
    """Return a page of a list, newest first."""
    newest = list(items)[::-1]
    at = [item["id"] for item in newest].index(request.query["after"]) + 1 if "after" in request.query else 0
    return {"object": "list", "data": newest[at : at + size], "has_more": at + size < len(newest)}


class BatchServer(Server):
    """A server with a Batch API. Each status request moves a batch to its next state.

    `ends` gives the last state of a batch by its number, from 0: a state, or ("failed", an error code). `sent` holds
    the requests of each batch, and `billed` counts the requests that were answered, by custom_id.
    """

    states = ("validating", "in_progress", "finalizing")

    def reset(self, reply: Reply = echo, models: Sequence[str] = ("org/model",)) -> None:
        super().reset(reply, models)
        self.ends: Callable[[int], Any] = lambda number: "completed"
        self.files: dict[str, bytes] = {}
        self.batches: list[dict[str, Any]] = []
        self.sent: list[list[Received]] = []
        self.billed: Counter[str] = Counter()
        self.routes |= {
            "POST /v1/files": self._upload,
            "GET /v1/files/*/content": lambda request: self.files[request.path.split("/")[-2]],
            "POST /v1/batches": self._create,
            "GET /v1/batches": self._list,
            "GET /v1/batches/*": lambda request: self._look(int(request.path.rpartition("-")[2])),
        }

    def finish(self) -> Counter[str]:
        """Complete all batches, and return how often each request was billed."""
        for number, batch in enumerate(self.batches):
            while batch["status"] in self.states:
                self._look(number)
        return self.billed

    def _upload(self, request: Received) -> dict[str, Any]:
        fields = form(request)
        assert fields["purpose"] == b"batch"
        name = f"file-{len(self.files)}"
        self.files[name] = fields["file"]
        return {"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "x", "purpose": "batch"}

    def _create(self, request: Received) -> dict[str, Any]:
        asked, number = request.body, len(self.batches)
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        assert {(line["method"], line["url"]) for line in lines} == {("POST", asked["endpoint"])}
        assert len({line["custom_id"] for line in lines}) == len(lines)
        self.sent.append(
            [Received("POST", line["url"], line["body"], batch=number, custom_id=line["custom_id"]) for line in lines]
        )
        batch = {"id": f"batch-{number}", "object": "batch", "created_at": 1, "status": self.states[0], **asked}
        self.batches.append(batch)
        return batch

    def _list(self, request: Received) -> dict[str, Any]:
        return page(self.batches, request)

    def _look(self, number: int) -> dict[str, Any]:
        batch = self.batches[number]
        if batch["status"] == self.states[-1]:
            self._end(batch, number)
        elif batch["status"] in self.states:
            batch["status"] = self.states[self.states.index(batch["status"]) + 1]
        return batch

    def _end(self, batch: dict[str, Any], number: int) -> None:
        end = self.ends(number)
        if isinstance(end, tuple):
            batch["status"], code = end
            batch["errors"] = {"object": "list", "data": [{"code": code, "message": f"why: {code}"}]}
            return
        batch["status"] = end
        lines: dict[str, bytes] = {"output_file_id": b"", "error_file_id": b""}
        for request in reversed(self.sent[number]):  # not in the order of the requests
            reply = as_fault(self.reply(request))
            line: dict[str, Any] = {"id": "x", "custom_id": request.custom_id, "response": None, "error": None}
            if reply is EXPIRED:
                line["error"] = {"code": "batch_expired", "message": "could not be run in time"}
            else:
                line["response"] = {"status_code": reply.status, "body": reply.content}
            text = json.dumps(line, ensure_ascii=False).encode() + b"\n"
            if reply.status == 200:
                if reply.part:
                    self.billed[request.custom_id] += 1
                part = text[: int(reply.part * len(text))] + b"\n"
                text = part if 0 < reply.part < 1 else text * int(reply.part)
            lines["output_file_id" if reply.status == 200 else "error_file_id"] += text
        for kind, content in lines.items():
            if content:
                batch[kind] = f"file-{len(self.files)}"
                self.files[batch[kind]] = content
