"""Text of models and files has no effect where it is shown."""

from __future__ import annotations

import base64
from urllib.parse import quote

import polars as pl
import pytest

from cos_assets.escape import for_spreadsheet, for_terminal, markdown_block
from cos_assets.generation.engines.openai.redaction import redact
from cos_assets.judging.label_page import rendered


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc é 数", "a\tb\nc é 数"),
        ("\x1b]0;owned\x07\x1b[2Jx", "\\x1b]0;owned\\x07\\x1b[2Jx"),
        ("a\rb\x00\x7f\x9b31m", "a\\rb\\x00\\x7f\\x9b31m"),
        ("abc\u202edef", "abc\\u202edef"),
    ],
)
def test_control_characters_are_escaped_for_the_terminal(text: str, shown: str) -> None:
    assert for_terminal(text) == shown


SECRET = "sk-A/+secret=Key-1234567890"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        SECRET.upper(),
        SECRET.lower(),
        SECRET[:15],
        SECRET[9:],
        quote(SECRET, safe=""),
        SECRET.encode().hex(),
        *(
            base64.b64encode(("user:xyz"[:n] + SECRET).encode()).decode()[4 * (n // 3) + 3 * bool(n % 3) :]
            for n in range(6)
        ),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_secret_is_hidden_in_every_form(form: str) -> None:
    text = redact(f"401: {form} is no key, é", SECRET)
    assert text.startswith("401: ***") and text.endswith(" is no key, é")
    assert not any(form[i : i + 12] in text for i in range(len(form) - 11))


def test_text_without_the_secret_is_shown_unchanged() -> None:
    text = "429: too many requests, İ, sk-A/+sec"
    assert redact(text, SECRET) == text
    assert redact("abc and abcd", "abc") == "*** and ***d"


def test_formulas_are_escaped_for_spreadsheets() -> None:
    texts = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\tx", "\rx", "-5", "+1.5e3", "a=1", "", None]
    frame = for_spreadsheet(pl.DataFrame({"text": texts, "number": range(len(texts))}))
    assert frame["text"].to_list() == [
        *("'=1+1", "'+cmd|' /C calc'!A0", "'-2+3", "'@SUM(A1)", "'\tx", "'\rx", "-5", "+1.5e3", "a=1", "", None)
    ]
    assert frame["number"].to_list() == list(range(len(texts)))
    assert for_spreadsheet(pl.DataFrame({"n": [1]})).to_dicts() == [{"n": 1}]


@pytest.mark.parametrize("text", ["a", "```\n![x](https://example.org/x.png)\n```", "`````", ""])
def test_a_fence_in_a_text_does_not_end_its_code_block(text: str) -> None:
    fence, *inner, end = markdown_block(text).split("\n")
    assert "\n".join(inner) == text
    assert fence == end and set(fence) == {"`"} and len(fence) >= 3
    assert fence not in text


@pytest.mark.timeout(120)
@pytest.mark.parametrize("piece", ["\\[", "$$", "\\(", "$", "$x ", "\\[a\\\\[2pt]", "$$a$", "\\(\\["])
def test_the_label_page_reads_long_texts_in_linear_time(piece: str) -> None:
    """A million characters take seconds; a quadratic expression would take more than ten minutes."""
    assert len(rendered(piece * (1_000_000 // len(piece)))) >= 1_000_000 - len(piece)


def test_the_label_page_renders_every_kind_of_maths() -> None:
    for text in ("$x+1$", "$$x+1$$", "\\(x+1\\)", "\\[x+1\\]", "\\[\\begin{matrix}a\\\\[2pt]b\\end{matrix}\\]"):
        assert str(rendered(f"so {text} holds")).count("<math") == 1, text
    assert "<math" not in rendered("$5 and $6, \\[ open")
