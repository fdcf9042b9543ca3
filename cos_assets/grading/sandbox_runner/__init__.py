"""The code that runs inside the sandbox, as one Python text. A program there cannot import this package."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_FILES = ("values.py", "reasons.py", "proxies.py", "peer.py", "main.py")
_LEFT_OUT = ("from cos_assets.", "from __future__ ")


@cache
def text() -> str:
    """Return the concatenated files, without their imports from each other."""
    here = Path(__file__).parent
    lines = [line for name in _FILES for line in (here / name).read_text(encoding="utf-8").splitlines()]
    return "\n".join(line for line in lines if not line.startswith(_LEFT_OUT)) + "\n"
