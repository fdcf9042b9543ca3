"""Network faults as raised by the installed clients, with failing servers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
import pytest

from cos_assets.orchestration import transient


@contextmanager
def server(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """The address of a server that handles each connection by `answer` and closes it."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)

        def serve() -> None:
            while not ended.is_set():
                try:
                    connection, _ = listening.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(5)
                    connection.recv(65536)
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


def says(reply: bytes) -> Callable[[socket.socket], object]:
    return lambda connection: connection.sendall(reply)


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def sleeps(connection: socket.socket) -> None:
    connection.recv(1)


CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"
FAULTS = {
    "hangs up": says(b""),
    "cuts": says(CUT),
    "no HTTP": says(b"hello\r\n\r\n"),
    "resets": resets,
    "sleeps": sleeps,
}


def raised_by(url: str) -> Exception:
    with pytest.raises(Exception) as caught, httpx2.Client(timeout=0.5, trust_env=False) as client:
        client.get(url).raise_for_status()
    return caught.value


@pytest.mark.parametrize("kind", FAULTS)
def test_a_faulty_server_is_a_transient_fault(kind: str) -> None:
    with server(FAULTS[kind]) as url:
        error = raised_by(url)
    assert isinstance(error, httpx2.TransportError)
    assert transient.is_fault(error)


def test_a_refused_connection_is_a_transient_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert transient.is_fault(raised_by(f"http://127.0.0.1:{port}"))


def test_a_reply_with_status_404_is_not_a_transient_fault() -> None:
    with server(says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")) as url:
        assert not transient.is_fault(raised_by(url))


def test_a_failing_hub_is_a_transient_fault_and_a_missing_model_is_not() -> None:
    code = (
        "from cos_assets.orchestration import transient\n"
        "from cos_assets.generation.model import resolve\n"
        "try: resolve('some/model', engine='vllm')\n"
        "except ValueError as error: print(transient.is_fault(error), error)\n"
    )
    missing = b"HTTP/1.1 404 Not Found\r\nX-Error-Code: RepoNotFound\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    for answer, fault in ((resets, "True"), (says(missing), "False")):
        with server(answer) as url:
            surroundings = os.environ | {"HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
            done = subprocess.run([sys.executable, "-c", code], env=surroundings, capture_output=True, text=True)
        assert done.stdout.startswith(f"{fault} model: 'some/model' is not a folder"), done.stdout + done.stderr
