"""Text that models and files wrote, made safe for a terminal, a spreadsheet or Markdown."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote

import polars as pl

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_PART = 12
_URL_SAFE = str.maketrans("+/", "-_")
_FORMULA = r"^[=+\-@\t\r]"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def visible(text: str) -> str:
    r"""For a terminal: control characters other than tab and line feed, and marks of direction, as `\x1b`."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def without(text: str, secret: str) -> str:
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


def cells(frame: pl.DataFrame) -> pl.DataFrame:
    """For a spreadsheet: a text that it would take for a formula gets an apostrophe in front. Numbers do not."""
    text = pl.col(pl.String)
    formula = text.str.contains(_FORMULA) & ~text.str.contains(_NUMBER)
    return frame.with_columns(pl.when(formula).then("'" + text).otherwise(text).name.keep())


def fenced(text: str) -> str:
    """For Markdown: a block of code that the text cannot end."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
