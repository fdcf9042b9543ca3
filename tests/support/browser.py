"""A headless Chromium for tests of pages, controlled by the DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


class Page:
    """One page of a browser."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._number = 0

    def send(self, method: str, **parameters: Any) -> Any:
        """Send one command of the protocol, and return its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv(timeout=60))).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def run(self, script: str) -> Any:
        """The value of an expression."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str, seconds: float = 30) -> Any:
        """Wait until an expression is true, and return it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.run(script):
                return value
            time.sleep(0.1)
        raise AssertionError(f"{script}\n\n{self.run('document.body.innerText')[:3000]}")

    def open(self, url: str, ready: str = "true") -> None:
        """Go to an address, and wait until it is loaded and `ready`."""
        self.send("Page.navigate", url=url)
        self.until(f"document.readyState == 'complete' && ({ready})")

    def press(self, *keys: str) -> None:
        for key in keys:
            text = {"text": key} if len(key) == 1 else {}
            self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def says(self, text: str, seconds: float = 30) -> None:
        """Wait until a text is on the page."""
        self.until(f"document.body.innerText.includes({json.dumps(text)})", seconds)

    def click(self, text: str, tag: str = "button, a, [role=menuitem], [role=tab]", seconds: float = 30) -> None:
        """Click the last, innermost element of the kind `tag` that is visible, enabled and has exactly the text
        `text`."""
        self.until(
            f"""(() => {{
                const found = [...document.querySelectorAll({json.dumps(tag)})].filter(element =>
                    (element.innerText || "").trim() == {json.dumps(text)} && element.offsetParent && !element.disabled
                ).pop();
                if (found) found.click();
                return Boolean(found);
            }})()""",
            seconds,
        )

    def shot(self, file: Path) -> None:
        """The page as PNG."""
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def size(self, width: int, height: int, theme: str = "light") -> None:
        """Set the size of the window and the preferred theme."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A browser with one empty page. Without a browser the test is skipped, and fails in CI."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium found: in CI this test must run")
        pytest.skip("no chromium found")
    from websockets.sync.client import connect

    process = subprocess.Popen(
        [program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"], stderr=subprocess.DEVNULL
    )
    try:
        port = profile / "DevToolsActivePort"
        for _ in range(600):
            if port.is_file() and len(port.read_text().splitlines()) == 2:
                break
            assert process.poll() is None, "chromium ended"
            time.sleep(0.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port.read_text().splitlines()[0]}/json") as found:
            target = next(t for t in json.load(found) if t["type"] == "page")["webSocketDebuggerUrl"]
        with connect(target, max_size=None, open_timeout=60) as socket:
            page = Page(socket)
            # A window without focus ignores keys.
            page.send("Emulation.setFocusEmulationEnabled", enabled=True)
            yield page
    finally:
        process.kill()
        process.wait()
