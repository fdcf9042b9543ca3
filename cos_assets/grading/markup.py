r"""Removal of the markup around a stated answer: delimiters of formulas, LaTeX fonts and spaces, Markdown emphasis.

`notation` converts whole answers to the LaTeX that a parser reads. This module removes markup from parts of
sentences.
"""

from __future__ import annotations

import re

from cos_assets.grading.characters import characters

# No alternative matches beyond the sign that may close it. A dollar sign is a currency sign if a digit follows the sign
# that would close the formula, or if only one of the two has a space on its inner side.
FORMULA = re.compile(
    r"""
    (?<!\\) (?:
        \$\$ (?P<display> (?:[^$\\]|\\.)++ ) \$\$
      | \$ (?P<inline> (?P<space>\s)? (?:(?!\n\n)[^$\\]|\\.)++ (?(space)(?<=\s)|(?<=\S)) ) \$ (?!\d)
      | \\\( (?P<round> (?:[^\\]|\\[^()])*+ ) \\\)
      | \\\[ (?P<square> (?:[^\\]|\\[^\[\]])*+ ) \\\]
    )
    """,
    re.VERBOSE | re.DOTALL,
)
FONT = (
    r"\\(?:text(?:bf|it|rm|sf|sc|sl|tt|normal|up)?|math(?:rm|bf|it|sf|tt|normal)|operatorname\*?|[mhf]box|boxed|bm"
    r"|boldsymbol|emph|underline)(?![A-Za-z])"
)
_FONTS = re.compile(FONT + r"\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
SIZE = re.compile(
    r"\\(?:(?:display|text)style|left|right|bf|rm|[lL]arge|LARGE|[hH]uge)(?![A-Za-z])\s*|\\(?:text)?color\s*\{[^{}]*\}"
)
_DEEPEST = 5  # maximum depth of nested fonts
_LATEX = [
    (re.compile(pattern), by)
    for pattern, by in (
        (r"\{,\}|,\\!", ","),
        (r"\\!", ""),
        (r"\\(?:[,;:> ]|q?quad(?![A-Za-z]))|~", " "),
        (r"\\([$%&#_])", r"\1"),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\frac\s*([0-9])\s*(?=[0-9{])", r"\\frac{\1}"),
        (r"(\\frac\s*\{[^{}]*\})\s*([0-9])", r"\1{\2}"),
        (r"\\frac\s*\{([^{}]*)\}\s*\{", r"\\frac{\1}{"),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))", "°"),
        (r"\\(?:approx|simeq)(?![A-Za-z])", "≈"),
        (r"(?<![A-Za-z}^_\\])\{([^{}\\]*)\}", r"\1"),  # braces that belong to no command
    )
]
_MARKDOWN = [
    (re.compile(pattern), by)
    for pattern, by in (
        (r"(?<![\w*])\*\*|\*\*(?![\w*])|(?<!\w)__|__(?!\w)|`", ""),
        (r"(?<![\w*)])([*_])(?=[^\s*_])([^*_\n]*[^\s*_])\1(?![\w*(])", r"\2"),
        (r"(?<=\w)[*]\s*\Z", ""),
        (r"[\u2190-\u21ff\u2600-\u27bf\ufe0f\U0001f000-\U0001faff]", " "),  # arrows, check marks and emoji
        (r"[ \t]+", " "),
    )
]
_PLAIN = re.compile(r"(?:[A-Za-z0-9.,:;/()+-]|[ ](?![ ]))*+")


def inner(formula: re.Match[str]) -> str:
    """Return the content between the delimiters of a match of `FORMULA`."""
    return next(formula[name] for name in ("display", "inline", "round", "square") if formula[name] is not None)


def unwrapped(text: str) -> str:
    r"""Return the text without delimiters of formulas, `\text{...}`, `\mathbf{...}` and similar font commands."""
    text = SIZE.sub("", FORMULA.sub(inner, text))
    for _ in range(_DEEPEST):
        text, count = _FONTS.subn(r"\1", text)
        if not count:
            break
    return text


def plain(text: str) -> str:
    """Return the text in ASCII without delimiters of formulas, LaTeX spaces and fonts, and Markdown emphasis.

    The worst-case time is quadratic in the length, so use it for answers and not for whole solutions.
    """
    if _PLAIN.fullmatch(text):
        return text.strip()
    text = unwrapped(characters(text))
    for pattern, by in (*_LATEX, *_MARKDOWN):
        text = pattern.sub(by, text)
    return text.strip()
