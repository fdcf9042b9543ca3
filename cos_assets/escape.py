"""Escaping of untrusted text (from models and files) for a terminal, a spreadsheet or Markdown."""

from __future__ import annotations

import re

import polars as pl

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_FORMULA = r"^[=+\-@\t\r]"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def for_terminal(text: str) -> str:
    r"""Escape control characters other than tab and line feed, and directional marks, in the form `\x1b`."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def for_spreadsheet(frame: pl.DataFrame) -> pl.DataFrame:
    """Prefix an apostrophe to every text that a spreadsheet would read as a formula. Numbers are left as they are."""
    text = pl.col(pl.String)
    formula = text.str.contains(_FORMULA) & ~text.str.contains(_NUMBER)
    return frame.with_columns(pl.when(formula).then("'" + text).otherwise(text).name.keep())


def markdown_block(text: str) -> str:
    """Return a Markdown code block whose fence the text cannot close."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
