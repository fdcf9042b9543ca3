"""An OpenAI-compatible server that judges solutions of the built-in task with known errors: it knows the truth, by the
step checker, and errs by a lot drawn from the prompt."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import polars as pl

from cos_assets.grading.steps import check_program

SENSITIVITY, SPECIFICITY = 0.8, 0.9
_ASKED = re.compile(r"\nProblem:\n(.*?)\n\n(?:Reference answer:\n(.*?)\n\n)?Solution:\n(.*?)\n\nAnswer with", re.DOTALL)


def lot(*what: str) -> float:
    """In [0, 1), from `what` alone."""
    return int.from_bytes(hashlib.sha256("/".join(what).encode()).digest()[:6]) / 2**48


class JudgeServer:
    """`odd` is the share of replies that are not judgements: refusals, truncated ones, prose, in equal parts."""

    def __init__(
        self,
        problems: pl.DataFrame,
        odd: float = 0.0,
        sensitivity: float = SENSITIVITY,
        specificity: float = SPECIFICITY,
    ) -> None:
        self.truths = dict(problems.select("question", "truth").iter_rows())
        self.odd, self.sensitivity, self.specificity = odd, sensitivity, specificity
        self.bodies: list[dict[str, Any]] = []
        lock, outer = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    outer.bodies.append(body)
                text, finish = outer.reply(body["messages"][0]["content"])
                self.send(outer.wrapped(body["model"], text, finish))

            def do_GET(self) -> None:
                self.send({"object": "list", "data": [{"id": "judge", "object": "model"}]})

            def send(self, content: dict[str, Any]) -> None:
                said = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: Any) -> None: ...

        class Listener(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

        self._http = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def reply(self, prompt: str) -> tuple[str, str]:
        found = _ASKED.search(prompt)
        assert found, f"not the judge's prompt: {prompt}"
        question, _, steps = found.groups()
        kind = lot("odd", prompt)
        if kind < self.odd:
            return [
                ("I'm sorry, but I can't help with that.", "stop"),
                ('{"reason": "First we look at', "length"),
                ("It all seems fine to me.", "stop"),
            ][int(3 * kind / self.odd)]
        text = " ".join(re.sub(r"^\[\d+\] ", "", line) for line in steps.splitlines())
        wrong = check_program(self.truths[question], text).label == "wrong"
        seen = lot("error", prompt) < (self.sensitivity if wrong else self.specificity)
        right = seen != wrong
        said = {"reason": "so it is", "first_wrong_step": None if right else 1, "reasoning_correct": right}
        around = "Let me see.\n```json\n{}\n```" if lot("fence", prompt) < 0.3 else "{}"
        return around.replace("{}", json.dumps(said)), "stop"

    @staticmethod
    def wrapped(model: str, text: str, finish: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": finish, "message": message}
        usage = {"prompt_tokens": 200, "completion_tokens": 40, "total_tokens": 240}
        return {"id": "1", "object": "x", "created": 1, "model": model, "choices": [choice], "usage": usage}
