r"""Exact parsing of numbers as people and models write them. A text is read completely or not at all.

    1,200   10{,}000   10 000   12,00,000   -5   .5   2.5e6   5 \times 10^3   5 × 10³   0.\overline{3}
    3/4   \frac34   2 1/2   2\frac{1}{2}   2½   5 million   2 dozen   $18   18 €   USD 18   10%   \text{72}   ４２

Percent and currency signs are markup, not factors: `10%` is the number 10. Nothing is rounded: 16.5 is not 16, and
0.333 is not 1/3. Any other text is not a number: a decimal comma (`1,22`), because it may also be a list, two
alternatives, a clock time, an expression, and numbers in words.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from cos_assets.grading.markup import plain

# Nobody states longer numbers. The limit also keeps int() below Python's own limit on digits.
MAX_CHARACTERS = 1000
SCALES = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "quadrillion": 10**15,
    "dozen": 12,
    "lakh": 10**5,
    "crore": 10**7,
}
"""Words that multiply the number before them."""

# Atomic, so that a part of a number does not match as the number: `1,2345` starts with 1, not with 1,234.
_INTEGER = r"""(?>
    [0-9]{1,3}(?:,[0-9]{3})++(?![0-9]) | [0-9]{1,2}(?:,[0-9]{2}(?=,))++,[0-9]{3}(?![0-9])
  | [0-9]{1,3}(?:[ '][0-9]{3})++(?![0-9]) | [0-9]++
)"""
_CURRENCY = r"(?: (?:US|AU?|CA?|HK)?\$ | [€£¥₹] | Rs\.? | (?:USD|EUR|GBP|CAD|AUD|INR|JPY|CNY|RMB)(?![A-Z]) )"
_EXPONENT = r"[+-]?[0-9]{1,3}"
_POWER = rf"10[ ]?\^[ ]?(?: \{{[ ]?{_EXPONENT}[ ]?\}} | {_EXPONENT}(?![0-9]) )"
_NUMBER = re.compile(
    rf"""
    (?P<sign> [+-]|(?:minus|negative)(?=[ ]) )? [ ]? {_CURRENCY}? [ ]? (?P<inner>[+-])? [ ]?
    (?>
        (?:(?P<whole>{_INTEGER})[ ])? (?P<over>{_INTEGER}) [ ]?/[ ]? (?P<under>{_INTEGER})
      | (?P<texwhole>{_INTEGER})? [ ]? \\frac \{{[ ]?(?P<above>-?{_INTEGER})[ ]?\}} \{{[ ]?(?P<below>{_INTEGER})[ ]?\}}
      | (?P<before>[0-9]*+) \. (?P<once>[0-9]*+) \\overline[ ]?\{{ (?P<again>[0-9]++) \}}
      | (?P<power> {_POWER} )
      | (?P<decimal> (?: {_INTEGER}(?:\.[0-9]++)? | \.[0-9]++ ) (?:e{_EXPONENT}(?![0-9.]))? )
        (?: [ ]? (?:[×*·x]|\\times|\\cdot) [ ]? (?P<times>{_POWER}) )?
    )
    (?P<scales> (?: [ -]?(?:{"|".join(SCALES)})s?(?![A-Z]) )*+ )
    (?: [ ]? (?: [$€£¥₹%] | (?:percent|per[ ]cent)(?![A-Z]) ) )?
    """,
    re.VERBOSE | re.IGNORECASE,
)


def parse_number(text: str) -> Fraction | None:
    r"""Return the exact value of a text that is one number and nothing else; None for any other text.

    Examples
    --------
    >>> parse_number("$1,200"), parse_number("2\\frac{1}{2}"), parse_number("5 million"), parse_number("5 or 6")
    (Fraction(1200, 1), Fraction(5, 2), Fraction(5000000, 1), None)
    """
    if len(text) > MAX_CHARACTERS:
        return None
    found = _NUMBER.fullmatch(_shown(text).removesuffix(".").rstrip())
    return None if found is None else _value(found)


def _value(found: re.Match[str]) -> Fraction | None:
    sign, part = found["sign"] or found["inner"] or "+", found.groupdict()
    if found["sign"] and found["inner"]:
        return None
    value: Fraction | None
    if part["decimal"] is not None:
        value = Fraction(Decimal(_digits(part["decimal"]))) * _power(part["times"])
    elif part["power"] is not None:
        value = _power(part["power"])
    elif part["again"] is not None:
        repeated = Fraction(int(part["again"]), 10 ** len(part["again"]) - 1) / 10 ** len(part["once"])
        value = Fraction(Decimal(f"{part['before'] or 0}.{part['once']}")) + repeated
    else:
        over, under = part["over"] or part["above"], part["under"] or part["below"]
        value = _fraction(part["whole"] or part["texwhole"], over, under)
    for scale in re.findall(r"[A-Za-z]+", part["scales"]):
        value = None if value is None else value * SCALES[scale.lower().removesuffix("s")]
    return value if value is None or sign == "+" else -value


def _fraction(whole: str | None, over: str, under: str) -> Fraction | None:
    bottom = int(_digits(under))
    if bottom == 0:
        return None
    value = Fraction(int(_digits(over)), bottom)
    if whole is None:
        return value
    # `11 7/6` is not a mixed number. It has two possible readings, so it has no value.
    return int(_digits(whole)) + value if 0 <= value < 1 else None


def _power(text: str | None) -> Fraction:
    """Return the value of `10^{3}`; 1 for None."""
    return Fraction(1) if text is None else Fraction(10) ** int(text.partition("^")[2].strip("{} "))


def _digits(text: str) -> str:
    return re.sub(r"[, ']", "", text)


# --- numbers in statements -------------------------------------------------------------------------------------------

_FILLER = re.compile(
    r"(?:(?:about|approximately|approx\.|around|roughly|exactly|only|just|simply|an? total of|equal to|≈)\s*)*",
    re.IGNORECASE,
)
_NAME = re.compile(r"\A[A-Za-z][A-Za-z ]{1,60}:\s+")
_SYMBOLS = frozenset("ghlmsAJLNVW")  # units; other single letters are variables
_CHANGES = frozenset(  # words that turn the number before them into another number, or into none
    """half halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths seventh sevenths eighth
    eighths ninth ninths tenth tenths eleventh elevenths twelfth twelfths sixteenth sixteenths twentieth twentieths
    hundredth hundredths thousandth thousandths score bn mn mln mil mio pi sqrt sin cos tan log ln exp plus minus over
    out divided multiplied squared cubed factorial mod modulo remainder choose st nd rd th""".split()  # noqa: SIM905
)
_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|sixty|hundred"
    "|half|quarter|third|more|less|fewer|so|above|up"
)
# What may follow a complete number: the end of the text or of a sentence, or a sign that starts an explanation.
_END = re.compile(
    r"\s*[.,;:]?\s*\Z|\s*\.\s|\s*;\s+(?![$€£¥₹+-]?(?:\.?[0-9]|\\))|\s*≈|\s+-{1,3}\s+(?=[A-Za-z]{2})|\s*[–—]\s*(?=[A-Za-z]{2})"
    r"|\s*[,:]\s+(?![$€£¥₹+-]?(?:\.?[0-9]|\\))(?!(?:or|and|to)\b[^.]*[0-9])(?!\w+\s*=)|\s+[(\[](?!\s*(?:or|and|mod)\b)"
)
_AROUND = re.compile(r"[(\[\"']([^()\[\]\"',]*)[)\]\"']\.?")
_UNIT = re.compile(r"\s*[-/]?\s*(°|[ap]\.\s?m\b|(?:\\mu ?)?[A-Za-z]+)(?!_)")
# `_CLAUSE` ends the part of a statement in which another number would belong to the answer. `_ASIDE` matches the
# numbers in this part that do not belong to it.
_CLAUSE = re.compile(
    r"[;(]|,(?!\s*(?:and\s|or\s)?[$€£]?[0-9])|[.!](?=\s|\Z)|\s-{1,3}\s|[–—]|\b(?:because|since|as|so|which|that)\b"
)
_ASIDE = re.compile(
    r"(?<=[A-Za-z] )(?:in|of|for|per|over|after|at|with|within|on|by|from|every|each|during)\s+"
    r"(?:(?:the|all|those|these|every|each)\s+)?[$€£]?[0-9][0-9.,/]*+"
)
_ANOTHER = re.compile(
    rf"(?<![A-Za-z0-9^{{])(?<![\^{{]-)[0-9]|\b(?:and|or|to|times|by)\s+(?:(?:an?|another)\s+)?(?:{_WORDS})\b",
    re.IGNORECASE,
)
_SEVERAL = re.compile(r"[,;:<>≤≥≠]|[<>!]\s*$|\b(?:and|or|because|since|when|if)\b")
_CALLED = r"\\?[A-Za-z][A-Za-z ]*+(?:_\{?\w+\}?)?\s?(?:\([^()]*\))?"
_CALLED_SO = re.compile(rf"\s*{_CALLED}(?:\s*[-+*/]\s*{_CALLED})?\s*")
_WORD = re.compile(r"\\[A-Za-z]+|[A-Za-z]{2,}")
# A number inside a text that is not part of a word, a list, a clock time or a longer number.
_INSIDE = re.compile(rf"(?<![\w.,:/^])(?P<all>{_NUMBER.pattern})(?![:.,/]?[0-9]|\^)", _NUMBER.flags)
_BOUND = re.compile(
    r"(?:\b(?:at (?:least|most)|than|up to|over|under|below|above|not|nearly|almost|between|from|of|and|or|by|to|plus"
    r"|minus|times|step|part|problem|case|equation|no)|[-+*/^=<>]|\\[A-Za-z]+\{?)\s*\Z",
    re.IGNORECASE,
)
_LONGEST_SCALE = 40


def without_unit(text: str) -> str | None:
    """Return the number at the start of a text if only its unit or an explanation follows it; None otherwise.

    Examples
    --------
    >>> without_unit("18 apples"), without_unit("$18 a day"), without_unit("18, because 9 * 2 = 18")
    ('18', '$18', '18')
    >>> print(without_unit("18 or 19"), without_unit("18x"), without_unit("18 and a half"))
    None None None
    """
    return _first(_shown(text))


def stated_number(text: str) -> str | None:
    """Return the only number of a statement as it is written: that of `without_unit`, or a side of an equation.

    Examples
    --------
    >>> stated_number("x = 5"), stated_number("3 + 4 = 7"), stated_number("Total: 72 clips")
    ('5', '7', '72')
    >>> print(stated_number("x = 1, y = 2"))
    None
    """
    shown = _NAME.sub("", _shown(text))
    if (number := _first(shown)) is not None:
        return number
    *before, last = shown.split("=")
    if not all(map(_is_side, before)):
        return None
    sides = [last, *reversed(last.split("≈")[1:]), *reversed(before)]
    return next((number for side in sides if (number := _first(side.strip())) is not None), None)


def only_number(text: str) -> str | None:
    """Return the only number of a sentence as it is written.

    Returns
    -------
    str or None
        None if the sentence has no number or several, or if the number is a bound ("at least 5").

    Examples
    --------
    >>> only_number("She sold 72 clips"), only_number("She sold at least 72 clips")
    ('72', None)
    """
    shown = _shown(text)
    found = next(_INSIDE.finditer(shown), None)
    if found is None or re.search(r"[0-9]", shown[: found.start()] + shown[found.end() :]):
        return None
    whole = not _BOUND.search(shown[: found.start()]) and _is_whole(shown[found.end() :])
    return found["all"].strip() if whole else None


def last_number(text: str) -> str | None:
    """Return the last number of a text, read completely; None if the text contains no number.

    Examples
    --------
    >>> last_number("From 48 to 1,200 clips")
    '1,200'
    """
    end = next((place for place in range(len(text), 0, -1) if text[place - 1].isdecimal()), 0)
    found = list(_INSIDE.finditer(plain(text[max(0, end - MAX_CHARACTERS) : end + _LONGEST_SCALE])))
    return re.sub(r"\A[+-] ", "", found[-1]["all"].strip()) if found else None


def _shown(text: str) -> str:
    """Return the start of a text without its markup. A cut text ends in an ellipsis, so no number ends at the cut."""
    if len(text) > MAX_CHARACTERS:
        return f"{plain(text[:MAX_CHARACTERS])}…"
    shown = plain(text)
    whole = _AROUND.fullmatch(shown)
    return whole[1].strip() if whole else shown


def _first(shown: str) -> str | None:
    filler = _FILLER.match(shown)
    found = _NUMBER.match(shown, filler.end() if filler else 0)
    return found[0].strip() if found and _is_whole(shown[found.end() :]) else None


def _is_side(text: str) -> bool:
    """Return whether a side of an equation leaves the result to the other side.

    It does if it is a name (`x`, `f(2)`, `a + b`, "Total clips") or a computation with numbers, with or without
    units. A formula in variables (`4x - 5y`) does not.
    """
    if _CALLED_SO.fullmatch(text):
        return not re.search(r"\b(?:and|or|because|since|when|if)\b", text)
    return not _SEVERAL.search(text) and not re.search(r"[A-Za-z]", _WORD.sub("", text))


def _is_whole(rest: str) -> bool:
    """Return whether a number is all that is stated. It may be followed by nothing, its unit or an explanation."""
    if _END.match(rest):
        return True
    unit = _UNIT.match(rest)
    if unit is None:
        return False
    word = unit[1]
    variable = len(word) == 1 and word.isalpha() and word not in _SYMBOLS and not (word == "a" and rest[0] == " ")
    if variable or word.lower() in _CHANGES:
        return False
    clause = _CLAUSE.split(rest, maxsplit=1)[0]
    return not _ANOTHER.search(_ASIDE.sub("", clause))
