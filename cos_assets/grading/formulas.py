r"""Formulas in LaTeX: finding them in a text, splitting them into the sides of equations, and evaluating a side.

latex2sympy2_extended parses π and the powers, roots, fractions, factorials and binomials of numbers. That library is
lenient: it ignores indices, reads `3(4)` as a mixed number, and evaluates some powers at once. It therefore gets only
text that consists of known commands and numbers, with every product written out and all sizes bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Formula:
    """A number in the LaTeX that the parser gets. `sure` is False if it has another common reading."""

    latex: str
    sure: bool

    @property
    def error(self) -> Fraction:
        """The relative error of the value, which is 0 for rational numbers."""
        return Fraction(1, 10 ** (DIGITS - 20)) if _IRRATIONAL.search(self.latex) else Fraction(0)


class Chain(NamedTuple):
    """A chain such as `a = b < c`: the sides in LaTeX without layout, and the signs between them.

    A side is None if it contains a letter.
    """

    sides: list[str | None]
    signs: list[str]  # "=", "≈", or "" for other relations


_ALIGNED = r"(?:align|aligned|alignat|equation|eqnarray|flalign|gather|gathered|multline|split|displaymath|math)\*?"
_DELIMITER = re.compile(rf"\\\\|\\\$|\$\$?|\\[()\[\]]|\\(?:begin|end)\{{{_ALIGNED}\}}|\n[^\S\n]{{0,40}}\n")
_CLOSES = {"\\(": "\\)", "\\[": "\\]"}
_NUMBER = re.compile(r"\s*-?(?:\\?\$)?\d[\d,]*(?:\.\d+)?(?:\\?%)?\s*")
OPAQUE = "\ufffc"
"""The character that replaces a formula in the plain text around it."""


def split(text: str) -> tuple[str, list[tuple[int, str]]]:
    r"""Return the text with each formula replaced, and the (start, content) of each formula.

    The replacement is `OPAQUE`, or the formula itself if it is one number, padded so that the length does not change.

    Formulas are delimited by `$…$`, `$$…$$`, `\(…\)`, `\[…\]` and the environments for equations. As in Pandoc, a
    dollar sign is a currency sign if a digit follows the sign that would close the formula.
    """
    plain, formulas, done = [], [], 0
    opened: tuple[str, int, int] | None = None  # the delimiter, its start and its end
    for match in _DELIMITER.finditer(text):
        mark, at, end = match[0], *match.span()
        if mark in ("\\\\", "\\$"):
            continue
        dollars = opened is not None and opened[0].startswith("$")
        if mark[0] == "\n":
            opened = None if dollars else opened
        elif opened is not None and _closes(opened, mark, text, at, end):
            start, inner = opened[1], text[opened[2] : at]
            number = _NUMBER.fullmatch(inner) is not None
            left = " " * (opened[2] - start) + inner if number else OPAQUE
            plain += [text[done:start], left.ljust(end - start)]
            formulas += [] if number else [(opened[2], inner)]
            opened, done = None, end
        elif (opened is None or dollars or opened[0] == mark) and _opens(mark, text, at, end):
            opened = (mark, at, end)
    return "".join([*plain, text[done:]]), formulas


def _opens(mark: str, text: str, at: int, end: int) -> bool:
    if mark[0] == "$":
        return not text[at - 1 : at].isalnum() and end < len(text)
    return mark in _CLOSES or mark.startswith("\\begin")


def _closes(opened: tuple[str, int, int], mark: str, text: str, at: int, end: int) -> bool:
    start, _, begin = opened
    if start.startswith("\\begin"):
        return mark == start.replace("begin", "end")
    if start != mark or start == "$$":
        return mark == _CLOSES.get(start, start)
    spaced = text[begin].isspace()
    behind = text[end : end + 2].lstrip() if spaced else text[end : end + 1]
    return at > begin and spaced == text[at - 1].isspace() and not behind[:1].isdigit()


_BREAK = re.compile(r"\\\\(?:\[[\d.a-z]{1,12}\])?")
_SPELLING = [
    (re.compile(pattern), by)
    for pattern, by in (
        (rf"\\(?:begin|end)\{{{_ALIGNED}\}}", ""),
        (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|nonumber)(?![A-Za-z])", ""),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"(?<=\d)(?:\{,\}|,\\!)(?=\d)", ","),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))", "°"),
        (r"\\(?:boxed|fbox|mathbf|boldsymbol|bm)\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}", r"(\1)"),
        (r"((?:^|[\n&])[^\S\n]{0,40})(?:\\q?quad(?![A-Za-z])\s{0,40}){1,9}", r"\1"),
        (r"\\q?quad(?![A-Za-z])", ";"),
        (r"\\[,;:!> ]|~", " "),
        (r"\\(?:approx|doteq)(?![A-Za-z])", "≈"),
        (r"\\(?:leq?|geq?|neq?|leqslant|geqslant|lt|gt|sim|simeq|in|mid)(?![A-Za-z])", "<"),
        (r"\\(?:implies|iff|to|therefore|[Rr]ightarrow|Longrightarrow|Leftrightarrow)(?![A-Za-z])", ";"),
        # Line breaks and alignment marks beside a relation only continue the chain: `a \\ &= b`.
        (r"[\s&]{1,40}(?=[=≈<>≤≥≠])|(?<=[=≈<>≤≥≠])[\s&]{1,40}", " "),
    )
]
# In formulas with these commands, numbers have another meaning, or lines are not equations.
_FOREIGN = re.compile(r"\\(?:[bp]?mod|pod|equiv|cong)(?![A-Za-z])|\bmod\b|≡|\\begin")
_OPERATOR = r"(?:[-+*/]|\\(?:cdot|times|div|pm)(?![A-Za-z]))"
# A line that begins or ends with an operator is a part of another one, and unreadable.
_PIECE = re.compile(
    rf"(?P<stop>;|,(?!\d)|\n(?![\s&]{{0,40}}{_OPERATOR}))|(?P<sign>[=≈<>≤≥≠])|\\[A-Za-z]+|\\.|.", re.DOTALL
)
_CUT = re.compile(rf"{_OPERATOR}[\s&]*")
_TEXT = re.compile(r"\\(?:text|textrm|textbf|mathrm|mbox)\s*\{([^{}]*)\}(?:\s*\^\s*(?:\{[23]\}|[23]))?")
_COMMAND = re.compile(r"\\[A-Za-z]+")


def chains(formula: str) -> Iterator[Chain]:
    """Yield the chains of equations of a formula: those of its lines, and those that commas and arrows separate."""
    if "=" not in formula and "≈" not in formula and "\\approx" not in formula:
        return
    formula = _BREAK.sub("\n", formula.replace("\n", " "))
    for pattern, by in _SPELLING:
        formula = pattern.sub(by, formula)
    if _FOREIGN.search(formula) or ("°" in formula and "\\pi" in formula):
        return
    chain, depth = Chain([], []), 0
    side: list[str] = []
    for match in _PIECE.finditer(formula + ";"):
        piece, kind = match[0], match.lastgroup if depth == 0 else None
        if kind == "stop" and (piece != "\n" or not _CUT.fullmatch("".join(side[-2:]))):
            yield Chain([*chain.sides, _without_layout("".join(side))], chain.signs)
            chain, side = Chain([], []), []
        elif kind == "sign":
            chain.sides.append(_without_layout("".join(side)))
            chain.signs.append(piece if piece in "=≈" else "")
            side = []
        else:
            side.append(piece)
            depth += (piece in "([{") - (piece in ")]}")


def _without_layout(side: str) -> str | None:
    """Return a side with units outside of their text command; None if it contains a letter, which is a variable."""
    if re.search(r"[^\W\d_]", _COMMAND.sub("", _TEXT.sub("", side))):
        return None
    return _TEXT.sub(r" \1 ", side.replace("\n", OPAQUE)).strip().rstrip(".")


_KNOWN = re.compile(
    r"(?:\d+(?:\.\d+)?|\.\d+|[-+*/(){}^!\s]|\\sqrt\[\d\]|\\(?:frac|sqrt|cdot|times|div|pi|binom)(?![A-Za-z]))+"
)
# Two numbers side by side, a number behind a bracket, a leading zero, `2^10`, `5!!`, `2.5\frac12`, `3 -- 2`.
_UNCLEAR = re.compile(
    r"\d\s+[\d.]|[)}]\s*[\d.]|(?<![\d.])0\d|\^\s*(?:\d\d|[^\d\s{])|(?<!\d)!|!\s*!|\.\d+\s*\\frac|[-+*/]\s*[-+*/]\s*[-+*/]|-\s*-"
)
_ARGUMENTS = [
    (re.compile(pattern), by)
    for pattern, by in (
        (r"(?<=\d),(?=\d{3}(?!\d))", ""),
        (r"\\frac\s*(\d)\s*(\d)(?!\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"\\frac\s*(\{[^{}]*\})\s*(\d)(?!\d)", r"\\frac\1{\2}"),
        (r"\\sqrt\s*(\d)(?!\d)", r"\\sqrt{\1}"),
        (r"\^\s*(\d)(?!\d)", r"^{\1}"),
    )
]
_PRODUCT = re.compile(r"(?<=[\d)}!i])\s*(?=\(|\\(?:sqrt|pi|binom))|(?<=[)}!i])\s*(?=\\frac)|(?<=!)\s*(?=\d)")
_POWER = re.compile(r"\^\{((?:[^{}]|\{[^{}]*\})*)\}|\^|(\d+)!")
_BINOMIAL = re.compile(r"\\binom(?!\{\d{1,3}\}\{\d{1,3}\})")
_LONGEST, _DEEPEST, _MOST_DIGITS = 300, 8, 50_000  # characters, brackets, digits of any intermediate result
DIGITS = 50
"""The number of digits to which irrational numbers are computed."""


_IRRATIONAL = re.compile(r"\\sqrt|\\pi|\^\{[^}]*(?:/|\\frac|\.)")


@lru_cache(20_000)
def formula(side: str) -> Formula | None:
    """Return a side in the form that the parser gets; None if it contains anything but known commands and numbers."""
    for pattern, by in _ARGUMENTS:
        side = pattern.sub(by, side)
    if len(side) > _LONGEST or not _KNOWN.fullmatch(side) or _UNCLEAR.search(side) or _BINOMIAL.search(side):
        return None
    if not _small(side):
        return None
    latex = _PRODUCT.sub(r" \\cdot ", side)
    # `2\frac{1}{2}` may be a product, `6/2(3)` may be 1, and a star may be defined in the problem.
    sure = not re.search(r"\d\s*\\frac|\*", latex) and (latex == side or not re.search(r"/|\\div", side))
    return Formula(latex, sure)


def _small(side: str) -> bool:
    depth = 0
    for mark in side:
        depth += (mark in "({") - (mark in ")}")
        if depth > _DEEPEST:
            return False
    size = sum(map(str.isdigit, side))
    for power in _POWER.finditer(side):
        inside = power[1] if power[2] is None else power[2]
        if inside is None or "^" in inside or "!" in inside:
            return False
        for number in re.findall(r"\d+", inside):
            size *= 1 + int(number[:6])
    return size <= _MOST_DIGITS


@lru_cache(20_000)
def value(latex: str) -> Fraction | None:
    """Return the value of a `Formula`, exact or to `DIGITS` digits; None if it is not a real number."""
    try:
        tree = _parser()().parse(latex)
    except Exception:  # the library raises plain Exceptions
        return None
    return _evaluate(tree)


@lru_cache(1)
def _parser() -> Any:
    """Return the latex2sympy parser with antlr's faster mode, which gives the same result for text that it can read."""
    from antlr4.atn.PredictionMode import PredictionMode
    from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy

    class Parser(_Latex2Sympy):
        def create_parser(self, latex: str) -> Any:
            parser = super().create_parser(latex)
            parser._interp.predictionMode = PredictionMode.SLL
            return parser

    return Parser


def _evaluate(tree: Any) -> Fraction | None:
    from mpmath import mp, mpf

    if tree.is_Rational:
        return Fraction(int(tree.p), int(tree.q)) if tree.q else None
    if tree.is_Float:
        return Fraction(str(tree))
    values = [_evaluate(part) for part in tree.args]
    known = [v for v in values if v is not None]
    name = type(tree).__name__
    if name == "Pi":
        with mp.workdps(DIGITS):
            return _fraction(+mp.pi)
    if len(known) < max(1, len(values)):
        return None
    if name == "Add":
        return sum(known, Fraction(0))
    if name == "Mul":
        return math.prod(known, start=Fraction(1))
    if name == "factorial":
        return Fraction(math.factorial(int(known[0])))
    if name == "Pow":
        base, exponent = known
        if exponent.denominator == 1:
            return None if base == 0 and exponent <= 0 else base ** int(exponent)
        with mp.workdps(DIGITS):
            power = mpf(exponent.numerator) / exponent.denominator
            return _fraction((mpf(base.numerator) / base.denominator) ** power) if base > 0 else None
    return None


def _fraction(number: Any) -> Fraction:
    sign, mantissa, exponent, _ = number._mpf_
    return (-1) ** sign * Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
