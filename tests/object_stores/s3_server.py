"""A real S3 server (moto's) on loopback, which can be told to be away, to forbid, or to know no conditions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any


class Server:
    """Answers one request at a time, so that its conditional writes are as atomic as those of a real store."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.application = DomainDispatcherApplication(create_backend_app)
        self.turn = threading.Lock()
        self.requests: list[str] = []
        """"METHOD /bucket/key" of all that were answered."""
        self.refuse: Callable[[str], str | None] = lambda request: None
        """Request -> a status such as "503 Service Unavailable", or None to let it pass."""
        self.lose: Callable[[str], bool] = lambda request: False
        """Request -> is it carried out, but its answer lost?"""
        self.conditions = True
        self.http = make_server("127.0.0.1", 0, self, threaded=True)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        with self.turn:
            self.requests.append(request)
            status = self.refuse(request)
            if self.lose(request):
                list(self.application(environ, lambda *_: None))
                status = "500 Internal Server Error"
            elif status is not None:
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            if status is not None:
                code = status.partition(" ")[2].replace(" ", "")
                body = f"<Error><Code>{code}</Code><Message>So the test has it</Message></Error>".encode()
                start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
                return [body]
            if not self.conditions:
                environ.pop("HTTP_IF_NONE_MATCH", None)
            return list(self.application(environ, start_response))
