"""Arithmetic with written numbers: tokens, a parser for + - * / and brackets, exact values, and a canonical form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

# An expression is a number as written, or (operator, left, right). The left of a unary minus is "".
Tree = str | tuple[str, Any, Any]


class Token(NamedTuple):
    kind: str  # number | op | eq | word | end | unknown
    text: str
    at: int  # start and end in the text
    end: int


_LETTER = r"[^\W\d_¹²³⁰-⁹₀-₉¼-¾⅐-⅞]"
_TOKEN = re.compile(
    # The marker of a list item at the start of a line.
    r"(?P<list>(?:\n|\A)[^\S\n]{0,8}(?:[*•]|\d{1,3}[.)]|\(?[a-z]\))(?=\s))"
    # Skipped: space, the end of a line before an equals sign, degrees, the marks of bold text.
    r"|(?P<skip>[^\S\n]+|\n(?=[^\S\n]{0,40}[=≈])|°"
    r"|(?<![\d)])\*\*(?!\s)|(?<!\s)\*\*(?![\d(-]))"
    # Powers, remainders, clock times, decimal commas, factorials, inches and the like are not supported.
    r"|(?P<unknown>\*\*|//|<<|>>|(?<=\d)[,:](?=[\d\\])|(?<=[\d)])(?:[!?|'\"′″…]|\.\.)|(?<![\d.,])0\d+)"
    r"|(?P<number>(?:\\?[$€£¥₹][^\S\n]?)?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:\s?\\?%)?)"
    # What separates phrases.
    r"|(?P<end>\n|[.,:;?!|<>≤≥≠→⇒∴#—…\"'“”‘’`。，；：、])"
    # An x is a multiplication sign only before a number; elsewhere it is a variable.
    r"|(?P<op>[-+*/()\[\]×÷·−–]|\\(?:times|cdot|div)(?![A-Za-z])|(?<![^\W\d_])(?:[xX](?=[^\S\n]*[$€£¥₹]?[\d.]|[^\S\n]+\()|of\b))"
    r"|(?P<eq>==?|≈)"
    r"|(?P<money>\\?[$€£¥₹])"
    rf"|(?P<word>{_LETTER}+(?:['’-]{_LETTER}+)*)(?:(?<={_LETTER}{{2}})(?:[²³]|\^[23](?![\d.])))?"  # "cm^2"
    r"|(?P<other>\\[A-Za-z]+|\S)"
)
_SAME = {"×": "*", "·": "*", "x": "*", "X": "*", "of": "*", "\\times": "*", "\\cdot": "*", "[": "(", "]": ")"}
_KIND = {"list": "end", "money": "word", "other": "unknown"}
_SAME |= {"÷": "/", "\\div": "/", "−": "-", "–": "-", "==": "="}

_MOST_TOKENS, _MOST_DIGITS = 64, 40  # limits of an expression and of a number; longer ones come from broken text
_RANK = {"+": 1, "-": 1, "*": 2, "/": 2}


def tokens(text: str, start: int = 0, stop: int | None = None) -> list[Token]:
    """Return the tokens of a text, or of its part from `start` to `stop`.

    Degrees and the marks of bold text are skipped. A currency sign becomes a word behind its number. What is not
    understood has the kind `unknown`.
    """
    found: list[Token] = []
    for match in _TOKEN.finditer(text, start, len(text) if stop is None else stop):
        kind = str(match.lastgroup)
        word, (at, end) = match[kind], match.span()
        # "50% of 20" and "1/2 of 20" are products, "a total of 20" is not.
        if word == "of" and not (found and (found[-1].text.endswith("%") or [t.text for t in found[-2:-1]] == ["/"])):
            kind = "word"
        if kind == "number":
            found.append(Token("number", re.sub(r"[^\d.%]", "", word), at, end))
            kind, at = "skip" if word[0].isdigit() or word[0] == "." else "money", end
        if kind != "skip":
            word = {"money": "dollars"}.get(kind, _SAME.get(word, word) if kind in ("op", "eq") else word)
            found.append(Token(_KIND.get(kind, kind), word, at, end))
    return found


def parse(tokens: Sequence[Token]) -> Tree | None:
    """Return the tree of + - * / and brackets over numbers (and `2(3 + 4)`); None if it is not one expression."""
    if len(tokens) > _MOST_TOKENS or any(len(t.text) > _MOST_DIGITS for t in tokens):
        return None
    at = 0

    def peek() -> str:
        return tokens[at].text if at < len(tokens) else ""

    def atom() -> Tree | None:
        nonlocal at
        if at >= len(tokens):
            return None
        token = tokens[at]
        at += 1
        if token.kind == "number":
            return token.text.replace(",", "")
        if token.text == "-":
            inner = atom()
            return None if inner is None else ("-", "", inner)
        if token.text == "(":
            inner = chain(1)
            at += 1
            return inner if at <= len(tokens) and tokens[at - 1].text == ")" else None
        return None

    def chain(rank: int) -> Tree | None:
        nonlocal at
        tree = atom() if rank > 2 else chain(rank + 1)
        while tree is not None and rank <= 2:
            op = "*" if rank == 2 and peek() == "(" else peek()
            if _RANK.get(op) != rank:
                break
            at += peek() != "("
            right = atom() if rank == 2 else chain(rank + 1)
            tree = None if right is None else (op, tree, right)
        return tree

    tree = chain(1)
    return tree if at == len(tokens) else None


def value(tree: Tree, percent: int = 100) -> Fraction | None:
    """Return the exact value; None for a division by zero. % divides by `percent`, where 1 makes it only a unit."""
    if tree == "":
        return Fraction(0)
    if isinstance(tree, str):
        return Fraction(tree[:-1]) / percent if tree.endswith("%") else Fraction(tree)
    op, a, b = tree[0], value(tree[1], percent), value(tree[2], percent)
    if a is None or b is None or (op == "/" and b == 0):
        return None
    return a + b if op == "+" else a - b if op == "-" else a * b if op == "*" else a / b


def canonical(tree: Tree) -> str:
    """Return the expression without spaces, with the operands of + and of * sorted."""
    if isinstance(tree, str):
        return tree
    op, left, right = tree
    if op == "-" and left == "":
        return f"-{_bracketed(right, 2)}"
    if op in "+*":
        return op.join(sorted(_bracketed(t, _RANK[op]) for t in _operands(tree, op)))
    return f"{_bracketed(left, _RANK[op])}{op}{_bracketed(right, _RANK[op] + 1)}"


def _operands(tree: Tree, op: str) -> list[Tree]:
    return [*_operands(tree[1], op), *_operands(tree[2], op)] if tree[0] == op and len(tree) == 3 else [tree]


def _bracketed(tree: Tree, rank: int) -> str:
    text = canonical(tree)
    return text if isinstance(tree, str) or _RANK[tree[0]] >= rank else f"({text})"
