"""Equations in free text: finding, reading and checking them one by one, without knowing what their numbers mean.

An equation is read only if each of its tokens is understood. `^` and `√` in plain text, variables, functions,
indices, remainders, mixed numbers, clock times and the like make it unreadable. Some equations that are read have
another common reading (`6 / 2(3)`, `50 - 20%`, 2 hours + 30 minutes, a result that the words call rounded). They may
be judged right, but never wrong.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from cos_assets.grading import formulas
from cos_assets.grading.expressions import Token, Tree, canonical, parse, tokens, value
from cos_assets.grading.formulas import Formula

Side = Tree | Formula


class Equation(NamedTuple):
    """One equation of a text. Its string is the canonical form."""

    left: Side
    right: Side
    sign: str  # = or ≈
    at: int  # start in the text
    bullet: bool  # the left side may begin with a list's dash instead of a minus
    sure: bool  # False if there is another common reading
    cut: bool  # whether the words around it say that a result is rounded

    def __str__(self) -> str:
        return f"{_canonical(self.left)}{self.sign}{_canonical(self.right)}"


class _Phrase(NamedTuple):
    """Tokens without the units behind numbers and brackets, and the units of each token."""

    tokens: Sequence[Token]
    units: Sequence[tuple[str, ...]]

    def cut(self, start: int, end: int | None = None) -> _Phrase:
        return _Phrase(self.tokens[start:end], self.units[start:end])


class _Read(NamedTuple):
    """One side of an equation."""

    side: Side
    phrase: _Phrase
    sure: bool
    bullet: bool = False


class _Words(NamedTuple):
    """Properties of an equation that the words around it imply."""

    whole: bool  # a result is rounded to a whole number
    otherwise: bool  # numbers have another base, or the text does not claim the equation

    @classmethod
    def of(cls, text: str) -> _Words:
        return cls(_WHOLE.search(text) is not None, _OTHERWISE.search(text) is not None)


_MARK = re.compile(r"<<([^<>]*)>>")
_MOST_TOKENS, _MOST_WORDS = 64, 4  # of an expression and of a unit
_NEAR_BY = 100  # characters
_ARTICLES, _UNIT_LETTERS = frozenset("aAI"), frozenset("gmlLhs")  # any other single letter is a variable
_LINKS = frozenset(  # words that end a unit
    """is are was were and or so then than of if because since equals gives makes
    plus minus times over by""".split()  # noqa: SIM905
)
_BEFORE = frozenset(  # words that change the number after them
    """twice double triple thrice half quadruple third thirds quarter quarters
    fourth fourths fifth fifths tenth negative minus plus times by than off square
    squared cube cubed root sqrt abs log ln exp sin cos tan max min gcd lcm floor
    ceil ceiling round mod modulo choose power factorial step case part problem
    question exercise""".split()  # noqa: SIM905
)
_AFTER = frozenset(  # words that change the number before them
    """remainder remainders rem r mod modulo squared cubed factorial choose times plus minus point pi am pm noon
    th st nd rd tens hundred hundreds thousand thousands million millions billion trillion pair pairs couple
    dozen dozens score half halves third thirds fourth fourths quarter fifth fifths sixth sixths eighth eighths
    tenth tenths hundredth hundredths thousandth""".split()  # noqa: SIM905
)
_BETWEEN = frozenset(["to", "by", "over"])  # words that join two numbers into one
_KINDS = {
    unit: kind
    for kind, units in {
        "time": "second sec minute min hour hr h day week wk month year yr decade century centurie",
        "length": "mm millimeter cm centimeter dm m meter metre km kilometer inch inche in foot feet ft yard yd mile",
        "mass": "mg g gram kg kilogram kilo ounce oz pound lb ton tonne",
        "volume": "ml milliliter l liter litre cup pint pt quart qt gallon gal tablespoon tbsp teaspoon tsp",
        "money": "dollar cent penny pennie nickel dime quarter",
    }.items()
    for unit in units.split()
}
_SIGN = re.compile("[=≈]")
_WHOLE = re.compile(
    r"\b(?:r\.?\s?\d|remain|left|round|near|full|whole|complete|integer|floor|truncat|about|approx)", re.I
)
_OTHERWISE = re.compile(
    r"\bbase[\s-]*(?:[\d\ufffc$({\\]|two|three|five|eight)|\b(?:clock|contradict|impossible|incorrect|wrong|false|untrue|mistake"
    r"|not (?:true|equal|correct|possible))",
    re.I,
)
# Marks of texts about other arithmetic, to which any of their equations may belong.
_OTHER_ARITHMETIC = re.compile(
    r"\\[bp]?mod(?![A-Za-z])|\\equiv(?![A-Za-z])|\\mathbb\s*\{?Z\}?_|≡|\bmod(?:ulo|ular)?\b|\bcongruen"
    r"|\b(?:in|to|from) base\b|\b(?:binary|octal|hexadecimal)\b",
    re.I,
)


def read(text: str) -> list[Equation]:
    """Return the equations of a text, in order. An equation beside its calculator mark counts once.

    `steps.check_equations` lists what is understood.

    Examples
    --------
    >>> [(str(equation), equation.at) for equation in read("She has 5 + 3 = 8 eggs. 8*2 = <<8*2=16>>16")]
    [('3+5=8', 8), ('2*8=16', 30)]
    """
    if "=" not in text and "≈" not in text and "\\approx" not in text:
        return []
    marked = [e._replace(at=mark.start()) for mark in _MARK.finditer(text) for e in _in_text(mark[1])]
    beside = set(map(str, marked))
    plain, latex = formulas.split(_MARK.sub(lambda mark: " " * len(mark[0]), text))
    found = [e for e in _in_text(plain) if str(e) not in beside]
    found += [e for at, formula in latex for e in _in_formula(at, formula, plain)]
    if _OTHER_ARITHMETIC.search(text):
        found = [e._replace(sure=False) for e in found]
    return sorted([*found, *marked], key=lambda e: e.at)


def holds(equation: Equation) -> bool | None:
    """Return whether an equation is true, to the digits it gives.

    It is true if it holds in one of the ways in which people write percentages.

    Returns
    -------
    bool or None
        None if this cannot be decided: it is not true as read, but it has another common reading, a value that is
        unknown, or a result that the words call rounded.

    Examples
    --------
    >>> [holds(equation) for equation in read("25 / 100 = 25%. 2 / 3 = 0.67. 2 + 3 = 6.")]
    [True, True, False]
    """
    # All of "25 / 100 = 25%", "5 + 20 = 25%" and "5 / 20 * 100 = 25%" are common.
    if any(_equal(equation, p, q) for p, q in ((100, 100), (1, 1), (100, 1))):
        return True
    positive = _without_minus(equation.left) if equation.bullet else None
    if positive is not None and holds(equation._replace(left=positive, bullet=False)):
        return True
    unknown = any(isinstance(side, Formula) and _value(side) is None for side in (equation.left, equation.right))
    return False if equation.sure and not unknown and not _rounded(equation) else None


def _in_text(text: str) -> Iterator[Equation]:
    """Yield the equations of plain text: in each part, the longest expressions next to the equals signs."""
    broken = False  # whether the text before ends in an operator
    for line in itertools.chain.from_iterable(_split(tokens(text, *lines), "end") for lines in _lines(text)):
        phrases = [_phrase(part) for part in _split(line, "eq")]
        signs = [token.text for token in line if token.kind == "eq"]
        for i, sign in enumerate(signs):
            opening = i == 0 and text[max(0, line[0].at - 20) : line[0].at].rpartition("\n")[2].strip(" \t*>")
            left = _left(phrases[i], i == 0, broken, bool(opening))
            right = _right(phrases[i + 1], i + 1 == len(signs))
            if left and right and _computes(left, right, i == 0):
                begin, end = left.phrase.tokens[0].at, right.phrase.tokens[-1].end
                before = text[max(0, begin - _NEAR_BY) : begin].rpartition("\n")[2]
                words = _Words.of(f"{before} {text[end : end + _NEAR_BY].partition(chr(10))[0]}")
                yield _equation(left, right, sign, begin, words)
        broken = bool(line) and line[-1].kind == "op" and line[-1].text != ")"


def _in_formula(at: int, formula: str, plain: str) -> Iterator[Equation]:
    """Yield the equations of a formula in LaTeX, whose sides are read as a whole. `plain` is the text around it."""
    end = at + len(formula)
    words = _Words.of(f"{plain[max(0, at - _NEAR_BY) : at]} {formula} {plain[end : end + _NEAR_BY]}")
    for chain in formulas.chains(formula):
        sides = [None if side is None else _whole(side) for side in chain.sides]
        for i, sign in enumerate(chain.signs):
            left, right = sides[i : i + 2]
            if left and right and sign and _computes(left, right, i == 0):
                yield _equation(left, right, sign, at, words)


def _lines(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each line with an equals sign, including the line before it if that has none."""
    done = 0
    while sign := _SIGN.search(text, done):
        start = text.rfind("\n", done, sign.start()) + 1
        before = text.rfind("\n", done, start - 1) + 1 if start else 0
        end = text.find("\n", sign.start())
        yield max(before, done), len(text) if end < 0 else end
        if end < 0:
            break
        done = end + 1


def _computes(left: _Read, right: _Read, first: bool) -> bool:
    """Return whether an equation computes something. In "Day 2 = 5 + 3", the lone number at the start is a name."""
    return not isinstance(left.side, str) or not (first or isinstance(right.side, str))


def _equation(left: _Read, right: _Read, sign: str, at: int, words: _Words) -> Equation:
    side = right.side
    # "16 - 3 = 13 - 4 = 9": the result is only the first operand of the next expression.
    if not isinstance(side, str | Formula) and not isinstance(left.side, Formula):
        start = _first(side)
        if value(left.side) != value(side) and value(left.side) == value(start):
            side = start
    about = sign == "≈" and not isinstance(side, str)  # equal to an expression, by any amount
    sure = left.sure and right.sure and not about and not _mixed(left, right) and not words.otherwise
    return Equation(left.side, side, sign, at, left.bullet, sure, words.whole)


def _split(tokens: Sequence[Token], kind: str) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.kind == kind:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _phrase(part: Sequence[Token]) -> _Phrase:
    """Separate the units from a part: words behind a number or a bracket, as in `5 red apples + 3` or `$2/pound`."""
    bare: list[Token] = []
    units: list[tuple[str, ...]] = []
    words = 0  # of the unit so far
    for token, after in itertools.zip_longest(part, part[1:]):
        behind = bool(bare) and (bare[-1].kind == "number" or bare[-1].text == ")") and words < _MOST_WORDS
        behind = behind and not (token.at == bare[-1].end and _is_product(token.text))
        per = token.text == "/" and after is not None and _is_unit(after, 1) and after.at == token.end
        if behind and (per or _is_unit(token, words)):
            units[-1] += (token.text.lower().rstrip("s"),)
            words += not per
        else:
            bare.append(token)
            units.append(())
            words = 0 if token.kind in ("number", "op") else _MOST_WORDS
    return _Phrase(bare, units)


def _is_unit(token: Token, words: int) -> bool:
    if token.kind != "word" or token.text.lower() in _LINKS | _AFTER:
        return False
    return len(token.text) > 1 or token.text in _UNIT_LETTERS or (words > 0 and token.text == "a")


def _is_product(text: str) -> bool:
    """Return whether letters attached to a number are a product of variables (`2xy`), not an abbreviation (`2kg`)."""
    return 1 < len(text) <= 3 and text.isalpha() and text.lower().rstrip("s") not in _KINDS


def _is_plain(token: Token) -> bool:
    """Return whether a token is a word and not a variable."""
    return token.kind == "word" and (len(token.text) > 1 or token.text in _ARTICLES)


def _left(phrase: _Phrase, first: bool, broken: bool, inside: bool) -> _Read | None:
    """Return the longest expression at the end of a phrase; None if something unknown precedes it.

    `first`: no equals sign precedes it. `broken`: the text before its phrase ends in an operator. `inside`: the
    phrase does not begin a line.
    """
    bare = phrase.tokens
    start = next((i for i in range(len(bare), 0, -1) if bare[i - 1].kind not in ("number", "op")), 0)
    for i in range(max(start, len(bare) - _MOST_TOKENS), len(bare)):
        tree = parse(bare[i:])
        if tree is None:
            continue
        begin = i - (i > 0 and bare[i - 1].text == "(")  # a bracket around a remark that contains the equation
        before, minus = bare[max(0, begin - 3) : begin], bare[i].text == "-"
        loose = minus and bare[i].end != bare[i + 1].at  # perhaps a subtraction from what precedes it
        if not before:
            return None if broken and first else _checked(tree, phrase.cut(i), not (loose and inside), minus)
        if not _is_plain(before[-1]) or before[-1].end == bare[begin].at:
            return None
        units = phrase.units[max(0, begin - 3) : begin]
        words = [word for token, unit in zip(before, units, strict=True) for word in (token.text.lower(), *unit)]
        # "twice 5", "half of the 20", "the product of 3 and 4"
        changed = words[-1] in _BEFORE or ("of" in words and not _BEFORE.isdisjoint(words))
        pair = first and words[-1] == "and" and before[-2:][0].kind == "number"
        return _checked(tree, phrase.cut(i), not (loose or changed or pair))
    return None


def _right(phrase: _Phrase, last: bool) -> _Read | None:
    """Return the longest expression at the start of a phrase; None if something unknown follows it."""
    bare = phrase.tokens
    end = next((i for i, token in enumerate(bare) if token.kind not in ("number", "op")), len(bare))
    for i in range(min(end, _MOST_TOKENS), 0, -1):
        tree = parse(bare[:i])
        if tree is None:
            continue
        # The bracket of a remark that contains the equation or follows it.
        bracket = i < len(bare) and bare[i].text in ("(", ")")
        behind, sure = bare[i + bracket : i + bracket + 2], True
        if not behind and bracket and bare[i].text == "(":
            return None
        # "3 hours 20" is one duration, in "8 eggs in the 2" something else follows.
        if behind and not (behind[0].kind == "number" and len(phrase.units[i - 1]) > 1):
            if not _is_plain(behind[0]) or behind[0].at == bare[i - 1].end:
                return None
            word, more = behind[0].text.lower(), behind[1:]
            number = bool(more) and (more[0].kind == "number" or more[0].text in ("(", "a", "one", "half"))
            # "3 to 1", "5 feet and 3 inches", "1 and a half"; but "8 and 4 + 3 = 7"
            joined = number and (word in _BETWEEN or (word == "and" and (last or more[0].kind == "word")))
            sure = word not in _AFTER and not joined
        return _checked(tree, phrase.cut(0, i), sure)
    return None


def _whole(latex: str) -> _Read | None:
    """Return a whole side of a formula, read as plain arithmetic or as a `Formula` with a unit behind it."""
    found = tokens(latex)
    phrase = _phrase(found)
    tree = parse(phrase.tokens)
    if tree is not None:
        return _checked(tree, phrase, "*" not in latex)  # the problem may define its own operation *
    end = next((i for i in range(len(found), 0, -1) if found[i - 1].kind != "word"), 0)
    unit = tuple(token.text.lower().rstrip("s") for token in found[end:])
    formula = formulas.formula(latex[: found[end - 1].end]) if end else None
    if formula is None or not _AFTER.isdisjoint(unit):
        return None
    return _Read(formula, _Phrase([], [unit]), formula.sure)


def _checked(tree: Tree, phrase: _Phrase, sure: bool, bullet: bool = False) -> _Read:
    """Return the expression with `sure` set to False if it has another common reading."""
    marks = [token.text for token in phrase.tokens]
    for i, (one, two) in enumerate(itertools.pairwise(phrase.tokens)):
        product = two.text == "(" and (one.kind == "number" or one.text == ")")
        if product and ("/" in marks or one.end != two.at):
            sure = False  # `6 / 2(3)`, `5 cents (.05)`
        if one.kind == "number" and marks[i + 1 : i + 4 : 2] == ["-", "/"] and one.end == two.at:
            sure = False  # `3-1/2` for three and a half
    return _Read(tree, phrase, sure and not _ambiguous(tree), bullet)


def _ambiguous(tree: Tree) -> bool:
    """Return whether a tree is ambiguous: `28 / 1/5` is often meant as 28 / (1/5), and `50 - 20%` as 40."""
    if isinstance(tree, str):
        return False
    op, left, right = tree
    percents = [isinstance(side, str) and side.endswith("%") for side in (left, right)]
    if (op == "/" and left[0] == "/") or (op in "+-" and left != "" and percents == [False, True]):
        return True
    return _ambiguous(left) or _ambiguous(right)


def _mixed(left: _Read, right: _Read) -> bool:
    """Return whether units may change the arithmetic.

    They do if there are several sizes of one kind, such as hours and minutes, or a letter that may be a variable.
    """
    units = [[unit for unit in read.phrase.units if unit] for read in (left, right)]
    sizes = {word for unit in [*units[0], *units[1]] if (word := next((w for w in unit if w in _KINDS), None))}
    letters = [{unit[0] for unit in side if len(unit[0]) == 1} for side in units]
    return letters[0] != letters[1] or len(sizes) > len({_KINDS[size] for size in sizes})


def _equal(equation: Equation, left_percent: int, right_percent: int) -> bool:
    left, right = _value(equation.left, left_percent), _value(equation.right, right_percent)
    if left is None or right is None:
        return False
    slack = _slack(equation.left, left_percent, equation.sign) + _slack(equation.right, right_percent, equation.sign)
    slack += max(Fraction(1), abs(left)) * (_irrational(equation.left) + _irrational(equation.right))
    return left == right or abs(left - right) < slack


def _slack(side: Side, percent: int, sign: str) -> Fraction:
    """Return one unit of the last digit of a decimal number, which may be rounded or truncated.

    Behind "≈", whole numbers have slack too, and their final zeros do not count as digits.
    """
    if isinstance(side, tuple) and side[1] == "":
        side = side[2]
    if not isinstance(side, str):
        return Fraction(0)
    whole, _, decimals = side.rstrip("%").partition(".")
    unit = Fraction(0)
    if decimals:
        unit = Fraction(1, 10 ** len(decimals))
    elif sign == "≈":
        unit = Fraction(10 ** (len(whole) - len(whole.rstrip("0"))))
    return unit / percent if side.endswith("%") else unit


def _irrational(side: Side) -> Fraction:
    return side.error if isinstance(side, Formula) else Fraction(0)


def _rounded(equation: Equation) -> bool:
    """Return whether rounding alone may explain the difference of the sides.

    Either the words around the equation say that the result is rounded to a whole number, or a number in it was
    rounded.
    """
    left, right = _value(equation.left), _value(equation.right)
    if left is None or right is None:
        return False
    apart, whole = abs(left - right), isinstance(equation.right, str) and equation.right.isdigit()
    if whole and apart < 1 and equation.cut:
        return True
    used = [_canonical(side) for side in (equation.left, equation.right) if not isinstance(side, str)]
    # Numbers of one decimal are taken as exact; others are off by one unit of the last digit at most.
    decimals = [number for side in used for number in re.findall(r"\d*\.\d\d+", side)]
    error = sum((Fraction(1, int(number.replace(".", "")) or 1) for number in decimals), Fraction(0))
    return apart <= abs(left) * error and not (whole and apart > Fraction(1, 2))


def _value(side: Side, percent: int = 100) -> Fraction | None:
    return formulas.value(side.latex) if isinstance(side, Formula) else value(side, percent)


def _canonical(side: Side) -> str:
    return "".join(side.latex.split()) if isinstance(side, Formula) else canonical(side)


def _first(tree: Tree) -> Tree:
    return tree if isinstance(tree, str) or tree[1] == "" else _first(tree[1])


def _without_minus(side: Side) -> Tree | None:
    """Return the tree without its leading minus, which is read as a list's dash: 3 + 4 for `- 3 + 4`."""
    if not isinstance(side, tuple):
        return None
    op, left, right = side
    if op == "-" and left == "":
        return right
    inner = _without_minus(left)
    return None if inner is None else (op, inner, right)
