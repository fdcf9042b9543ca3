"""Secrets removed from texts that a server sends back."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote

_PART = 12
_URL_SAFE = str.maketrans("+/", "-_")


def redact(text: str, secret: str) -> str:
    """A text with `***` in place of a secret, and of parts of it from 12 characters on; also in another case, in
    hexadecimal digits, in Base64, or quoted for a URL. A secret shorter than that is replaced as a whole."""
    forms = {secret, quote(secret, safe=""), secret.encode().hex()}
    for shift in range(3):  # where the secret begins within a group of three bytes
        coded = base64.b64encode(b"\0" * shift + secret.encode()).decode().rstrip("=")
        forms |= {part := coded[-(-shift * 4 // 3) : -1], part.translate(_URL_SAFE)}
    folded, hidden = text.casefold(), bytearray(len(text))
    if len(folded) != len(text):  # some letters fold to two
        folded = text.lower() if len(text.lower()) == len(text) else text
    for form in (form.casefold() for form in forms if form):
        width = min(_PART, len(form))
        for start in range(len(form) - width + 1):
            at = folded.find(form[start : start + width])
            while at >= 0:
                hidden[at : at + width] = b"\1" * width
                at = folded.find(form[start : start + width], at + 1)
    masked = "".join("\0" if hide else char for char, hide in zip(text, hidden, strict=True))
    return re.sub("\0+", "***", masked) if any(hidden) else text
