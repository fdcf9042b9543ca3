"""The demo: word problems, a corpus with errors, three tiny models, and their trained weights.

All parts of the platform can be tried with it in minutes on a laptop, without any download.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

ROLES = ("student", "wc", "se")
WEIGHTS = Path(__file__).parent / "weights"


def shipped(role: str) -> Path:
    """Return the folder of a shipped checkpoint ("student", "wc", "se") after verifying its files against SHA256SUMS.

    Raises ValueError for an unknown role, and for a file that is missing or differs from the shipped one.
    """
    if role not in ROLES:
        raise ValueError(f"role: {role!r} is not allowed; allowed: {', '.join(ROLES)}")
    sums = WEIGHTS / "SHA256SUMS"
    if not sums.is_file():
        raise ValueError(f"{sums}: is missing; use a checkout that contains the weights")
    lines = sums.read_text(encoding="utf-8").splitlines()
    listed = [
        (digest, name) for digest, name in (line.split(maxsplit=1) for line in lines) if name.startswith(f"{role}/")
    ]
    if not listed:
        raise ValueError(f"{sums}: lists no file of {role!r}; expected at least its config, tokenizer and weights")
    for digest, name in listed:
        file = WEIGHTS / name
        if not file.is_file():
            raise ValueError(f"{file}: is missing, although SHA256SUMS lists it")
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != digest:
            raise ValueError(f"{file}: sha256 {found[:16]}…; expected {digest[:16]}… as listed in SHA256SUMS")
    return WEIGHTS / role
