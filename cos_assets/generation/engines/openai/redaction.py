"""Removal of secrets from texts that a server returns."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote

_PART = 12
_URL_SAFE = str.maketrans("+/", "-_")


def redact(text: str, secret: str) -> str:
    """Replace a secret, and any part of it of 12 or more characters, by `***`.

    Matches regardless of case, and also in hexadecimal, Base64 and URL-quoted form. A secret shorter than 12 characters
    is replaced only as a whole.
    """
    forms = {secret, quote(secret, safe=""), secret.encode().hex()}
    for shift in range(3):  # offset of the secret within a group of three bytes
        coded = base64.b64encode(b"\0" * shift + secret.encode()).decode().rstrip("=")
        forms |= {part := coded[-(-shift * 4 // 3) : -1], part.translate(_URL_SAFE)}
    folded, hidden = text.casefold(), bytearray(len(text))
    if len(folded) != len(text):  # casefold turns some letters into two
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
