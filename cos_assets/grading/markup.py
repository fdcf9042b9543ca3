r"""The markup around a stated answer: formulas, LaTeX wrappers, Markdown, and characters with an ASCII counterpart."""

from __future__ import annotations

import re

from cos_assets.grading.notation import characters

# No alternative runs past the sign that may close it. A dollar sign is a currency where a digit follows the sign that
# would close the formula, or where only one of both has a space inside.
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
WRAPPER = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|up)?|math(?:rm|bf|it|sf|tt|normal)|[mhf]box|boxed|bm|boldsymbol|emph|underline)"
    r"(?![A-Za-z])\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_NESTED = 5
_LATEX = [
    (re.compile(pattern), by)
    for pattern, by in (
        (r"\{,\}|,\\!", ","),
        (r"\\(?:left|right|displaystyle|textstyle|bf|rm)(?![A-Za-z])", ""),
        (r"\\[!](?![A-Za-z])", ""),
        (r"\\(?:[,;:> ]|q?quad(?![A-Za-z]))|~", " "),
        (r"\\([$%&#_])", r"\1"),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\frac\s*([0-9])\s*(?=[0-9{])", r"\\frac{\1}"),
        (r"(\\frac\s*\{[^{}]*\})\s*([0-9])", r"\1{\2}"),
        (r"\\frac\s*\{([^{}]*)\}\s*\{", r"\\frac{\1}{"),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))", "°"),
        (r"\\(?:approx|simeq)(?![A-Za-z])", "≈"),
        (r"(?<![\w*])\*\*|\*\*(?![\w*])|(?<!\w)__|__(?!\w)|`", ""),
        (r"(?<![\w*)])([*_])(?=[^\s*_])([^*_\n]*[^\s*_])\1(?![\w*(])", r"\2"),
        (r"(?<=\w)[*]\s*\Z", ""),
        (r"[ \t]+", " "),
    )
]
_PLAIN = re.compile(r"(?:[A-Za-z0-9.,:;/()+-]|[ ](?![ ]))*+")


def inner(formula: re.Match[str]) -> str:
    """What stands between the delimiters of a match of `FORMULA`."""
    return next(formula[name] for name in ("display", "inline", "round", "square") if formula[name] is not None)


def unwrapped(text: str) -> str:
    r"""The text without `\text{...}`, `\mathbf{...}` and the like around parts of it."""
    for _ in range(_NESTED):
        text, count = WRAPPER.subn(r"\1", text)
        if not count:
            break
    return text


def plain(text: str) -> str:
    """The text in ASCII without delimiters of formulas, LaTeX spacing and wrappers, and Markdown emphasis.

    The time is bounded by the square of the length: it is meant for answers, not for whole solutions.
    """
    if _PLAIN.fullmatch(text):
        return text.strip()
    text = unwrapped(FORMULA.sub(inner, characters(text)))
    for pattern, by in _LATEX:
        text = pattern.sub(by, text)
    return text.strip()
