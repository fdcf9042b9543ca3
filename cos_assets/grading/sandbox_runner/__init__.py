"""What runs inside the sandbox, as one text of Python: a program there sees nothing of this package."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_FILES = ("values.py", "reasons.py", "proxies.py", "peer.py", "main.py")
_LEFT_OUT = ("from cos_assets.", "from __future__ ")


@cache
def text() -> str:
    """The files one after another, without what they import from one another."""
    here = Path(__file__).parent
    lines = [line for name in _FILES for line in (here / name).read_text(encoding="utf-8").splitlines()]
    return "\n".join(line for line in lines if not line.startswith(_LEFT_OUT)) + "\n"
