"""A server on loopback that speaks the Batch API (files, batches) and plain requests, and does what it is told."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Line = dict[str, Any]


def answer(body: Line) -> Line:
    """What a request gets, by itself or in a batch: a function of the prompt and the seed."""
    prompt = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
    choices: list[Line] = []
    for i in range(body.get("n", 1)):
        text = f"answer to {prompt}, seed {body.get('seed')}, {i} \u2028"
        said = {"text": text} if "prompt" in body else {"message": {"role": "assistant", "content": text}}
        choices.append({"index": i, "finish_reason": "length" if "long" in prompt else "stop", **said})
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 7 * len(choices),
        "prompt_tokens_details": {"cached_tokens": 64},
    }
    return {"id": "1", "object": "x", "created": 1, "model": body["model"], "choices": choices, "usage": usage}


class BatchServer:
    """Every look at a batch takes it one state on. `lines(request, number of the batch, from 0)` says what a request
    becomes: None is an answer, else "expired", "lost", "broken", "twice" or an HTTP status and a message or a body.
    `ends(number)` is the batch's last state, or ("failed", code). `http(what, how often)`: None, or a status, or
    "before" and "after", which lose the connection before and after what was asked is done. `event(what)` is called
    when that has been done."""

    def __init__(self) -> None:
        self.lines: Callable[[Line, int], Any] = lambda request, number: None
        self.ends: Callable[[int], Any] = lambda number: "completed"
        self.http: Callable[[str, int], Any] = lambda what, number: None
        self.event: Callable[[str], None] = lambda what: None
        self.states = ("validating", "in_progress", "finalizing")
        self.files: dict[str, bytes] = {}
        self.batches: list[Line] = []
        self.sent: list[list[Line]] = []  # the requests of each batch
        self.billed: Counter[str] = Counter()  # requests answered, by custom_id
        self.calls: Counter[str] = Counter()
        self.keys: set[str | None] = set()
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # headers and text in one packet
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self.do("GET")

            def do_POST(self) -> None:
                self.do("POST")

            def do(self, method: str) -> None:
                content = self.rfile.read(int(self.headers.get("content-length") or 0))
                outer.keys.add(self.headers["authorization"])
                path = urlsplit(self.path).path.removeprefix("/v1")
                what = f"{method} /" + path.split("/")[1] + ("/.." if path.count("/") > 1 else "")
                with outer._lock:
                    outer.calls[what] += 1
                    told = outer.http(what, outer.calls[what])
                    if told == "before":
                        return self.cut()
                    if isinstance(told, int):
                        return self.say(told, {"error": {"message": f"status {told}", "code": None}})
                    if told == "html" and what != "GET /files/..":
                        return self.say(200, b"<html>it works!</html>", kind="text/html")
                    reply = outer.do(what, self.path, content, self.headers["content-type"])
                    outer.event(what)
                    if told == "after":
                        return self.cut()
                    if told == "half" and isinstance(reply, bytes):
                        self.say(200, reply, reply[: len(reply) // 2])
                        return self.cut()
                if reply is None:
                    return self.say(404, {"error": {"message": "there is nothing here", "code": None}})
                return self.say(200, reply)

            def cut(self) -> None:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

            def say(self, status: int, reply: Any, part: bytes | None = None, kind: str = "application/json") -> None:
                text = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
                try:
                    self.send_response(status)
                    self.send_header("content-type", kind)
                    self.send_header("content-length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text if part is None else part)
                except OSError:
                    return

            def log_message(self, *_: Any) -> None: ...

        class Listener(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None: ...

        self._http = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def finish(self) -> Counter[str]:
        """Run what was left behind; how often every request has been billed."""
        for number, batch in enumerate(self.batches):
            while batch["status"] in self.states:
                self._look(number)
        return self.billed

    def do(self, what: str, path: str, content: bytes, kind: str) -> Any:
        name = urlsplit(path).path.split("/")
        match what:
            case "POST /files":
                return self._upload(content, kind)
            case "GET /files/..":
                return self.files.get(name[-2])
            case "POST /batches":
                return self._create(json.loads(content))
            case "GET /batches":
                return self._list({key: value[0] for key, value in parse_qs(urlsplit(path).query).items()})
            case "GET /batches/..":
                return self._look(int(name[-1].removeprefix("batch-")))
            case "POST /completions" | "POST /chat/..":
                return answer(json.loads(content))
            case "GET /models":
                return {"object": "list", "data": [{"id": "org/model", "object": "model"}]}
        return None

    def _upload(self, content: bytes, kind: str) -> Line:
        parts: Any = message_from_bytes(b"content-type: " + kind.encode() + b"\r\n\r\n" + content).get_payload()
        fields = {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in parts}
        assert fields["purpose"] == b"batch"
        name = f"file-{len(self.files)}"
        self.files[name] = fields["file"]
        return {"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "x", "purpose": "batch"}

    def _create(self, asked: Line) -> Line:
        requests = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        assert {request["url"] for request in requests} == {asked["endpoint"]}
        assert {request["method"] for request in requests} == {"POST"}
        assert len({request["custom_id"] for request in requests}) == len(requests)
        self.sent.append(requests)
        batch = {
            "id": f"batch-{len(self.batches)}",
            "object": "batch",
            "created_at": 1,
            "status": self.states[0],
            **asked,
        }
        self.batches.append(batch)
        return batch

    def _list(self, query: dict[str, str]) -> Line:
        """Newest first, two a page."""
        names = [batch["id"] for batch in reversed(self.batches)]
        at = names.index(query["after"]) + 1 if "after" in query else 0
        page = list(reversed(self.batches))[at : at + 2]
        return {"object": "list", "data": page, "has_more": at + 2 < len(names)}

    def _look(self, number: int) -> Line | None:
        batch = self.batches[number]
        if batch["status"] in self.states:
            after = self.states.index(batch["status"]) + 1
            if after < len(self.states):
                batch["status"] = self.states[after]
            else:
                self._end(batch, number)
        return batch

    def _end(self, batch: Line, number: int) -> None:
        end = self.ends(number)
        if isinstance(end, tuple):
            batch["status"], code = end
            batch["errors"] = {"object": "list", "data": [{"code": code, "message": f"why: {code}"}]}
            return
        batch["status"] = end
        good: list[bytes] = []
        bad: list[bytes] = []
        for request in reversed(self.sent[number]):  # not in the order of the requests
            line: Line = {"id": "x", "custom_id": request["custom_id"], "response": None, "error": None}
            told = self.lines(request, number)
            if told == "expired":
                line["error"] = {"code": "batch_expired", "message": "could not be run in time"}
                bad.append(json.dumps(line).encode())
            elif isinstance(told, tuple):
                status, message = told
                body = message if isinstance(message, dict) else {"error": {"message": message}}
                line["response"] = {"status_code": status, "body": body}
                bad.append(json.dumps(line).encode())
            elif told != "lost":
                self.billed[request["custom_id"]] += 1
                line["response"] = {
                    "status_code": 200,
                    "body": told if isinstance(told, dict) else answer(request["body"]),
                }
                text = json.dumps(line, ensure_ascii=False).encode()
                good += [text[: len(text) // 2]] if told == "broken" else [text] * (2 if told == "twice" else 1)
        for kind, lines in (("output_file_id", good), ("error_file_id", bad)):
            if lines:
                batch[kind] = f"file-{len(self.files)}"
                self.files[batch[kind]] = b"\n".join(lines) + b"\n"
