"""A real S3 server (moto's, in a separate process) on loopback, behind a proxy that can drop or refuse requests, or
ignore conditional headers.

It is a separate process because vLLM inspects every object of every imported module, which fails with Flask's.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

MOTO = "from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])"


class Server:
    """Answers one request at a time, so that its conditional writes are as atomic as those of a real store."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.requests: list[str] = []
        """"METHOD /bucket/key" of all that were answered."""
        self.refuse: Callable[[str], str | None] = lambda request: None
        """Request -> a status such as "503 Service Unavailable", or None to let it pass."""
        self.lose: Callable[[str], bool] = lambda request: False
        """Request -> is it carried out, but its answer lost?"""
        self.conditions = True
        self.more = ""
        """What a refusal says besides its code and message."""
        self.moto = subprocess.Popen([sys.executable, "-c", MOTO], stderr=subprocess.PIPE, text=True)
        self.port = self._port()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                outer.answer(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

            def log_message(self, *_: Any) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def _port(self) -> int:
        """The port in moto's start message; the rest of its output is read and discarded."""
        assert self.moto.stderr is not None
        for line in self.moto.stderr:
            if "Running on http://127.0.0.1:" in line:
                threading.Thread(target=self.moto.stderr.read, daemon=True).start()
                return int(line.rpartition(":")[2].split()[0].strip("/\x1b[0m"))
        raise RuntimeError(f"moto ended with exit code {self.moto.wait()}")

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(request.path.partition("?")[0])
        name = f"{request.command} {path}"
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        headers = dict(request.headers.items())
        with self.turn:
            self.requests.append(name)
            status = self.refuse(name)
            if self.lose(name):
                self._pass(request, headers, body)
                status = "500 Internal Server Error"
            if status is not None:
                code, _, reason = status.partition(" ")
                said = f"<Error><Code>{reason.replace(' ', '')}</Code><Message>So the test has it</Message>"
                said += f"{self.more}</Error>"
                given: tuple[int, list[tuple[str, str]], bytes] = (
                    int(code),
                    [("Content-Type", "application/xml")],
                    said.encode(),
                )
            else:
                if not self.conditions:
                    headers = {key: value for key, value in headers.items() if key.lower() != "if-none-match"}
                given = self._pass(request, headers, body)
        number, out, content = given
        request.send_response(number)
        for key, value in out:
            request.send_header(key, value)
        if not any(key.lower() == "content-length" for key, _ in out):
            request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)

    def _pass(
        self, request: BaseHTTPRequestHandler, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        there = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            there.request(request.command, request.path, body, headers)
            reply = there.getresponse()
            content = reply.read()
        finally:
            there.close()
        ours = ("connection", "server", "date", "transfer-encoding")
        return reply.status, [(key, value) for key, value in reply.getheaders() if key.lower() not in ours], content

    def empty(self, bucket: str) -> None:
        """Remove everything, and make an empty bucket."""
        for method, path in (("POST", "/moto-api/reset"), ("PUT", f"/{bucket}")):
            there = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            there.request(method, path, headers={"Host": "s3.amazonaws.com"} if method == "PUT" else {})
            assert there.getresponse().status == 200
            there.close()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.moto.terminate()
        self.moto.wait()
