"""Units of normalized answers: split off the unit at the end or the currency sign at the start, and compare units."""

from __future__ import annotations

import re

_CURRENCY = r"\\?\$|[€£¥₹₩₽]|\b(?:USD|EUR|GBP|JPY|INR|Rs\.?)(?![A-Za-z])"
_NAME = r"(?:\\text\{[^{}0-9]+\}|(?<![\\A-Za-z])[A-Za-zµ]+)(?:\s*\^\{-?[1-3]\})?"
_UNIT = re.compile(
    rf"(?P<value>.*?[^\s\\(\[,=<>+*/^_-])"
    rf"(?P<unit>\s*%|\s*\^\{{\\circ\}}(?:\s*[CFK])?|\s*(?:{_CURRENCY})"
    rf"|\s*{_NAME}(?:(?:\s+|\s*/\s*|\s*\\cdot\s*|(?=\\text)){_NAME})*)"
)
_BEFORE = re.compile(rf"(?P<sign>-?)\s*(?P<unit>{_CURRENCY})\s*(?P<value>-?[\d.\\].*)")
# Full names of abbreviated units. The keys have no plural s.
_SHORT = {
    "mm": "millimeter", "cm": "centimeter", "dm": "decimeter", "m": "meter", "km": "kilometer", "in": "inch",
    "inche": "inch", "ft": "foot", "feet": "foot", "yd": "yard", "mi": "mile", "mg": "milligram", "g": "gram",
    "gm": "gram", "kg": "kilogram", "lb": "pound", "oz": "ounce", "ml": "milliliter", "l": "liter", "s": "second",
    "sec": "second", "min": "minute", "h": "hour", "hr": "hour", "hour": "hour", "day": "day", "week": "week",
    "month": "month", "year": "year", "yr": "year", "mph": "mile hour per", "deg": "degree", "a": "ampere",
    "j": "joule", "n": "newton", "v": "volt", "w": "watt", "c": "celsius", "f": "fahrenheit", "k": "kelvin",
    "$": "dollar", "usd": "dollar", "€": "euro", "eur": "euro", "£": "pound", "gbp": "pound", "¥": "yen", "jpy": "yen",
    "₹": "rupee", "inr": "rupee", "r": "rupee", "¢": "cent", "%": "percent", "°": "degree", "sq": "square",
    "cu": "cubic",
}  # fmt: skip
# Single letters that may be a unit. Any other letter is a variable.
SYMBOLS = frozenset("ghlmsAJLNVW")
_KNOWN = frozenset(_SHORT.values())
# Words that change a number, or show that the number is not the whole answer.
_NO_UNIT = frozenset(
    """hundred thousand million billion trillion lakh crore dozen dozens score half halves third thirds quarter quarters
    fourth fourths fifth fifths sixth sixths seventh sevenths eighth eighths ninth ninths tenth tenths hundredth
    hundredths thousandth thousandths pi and or to by times minus plus over mod remainder squared cubed than least most
    about approximately between if when where is equals of out am pm ago early late less more fewer increase decrease
    not even odd positive negative repeating""".split()  # noqa: SIM905
)


def split(text: str, symbols: bool) -> tuple[str, str]:
    """Split a normalized answer into (value, unit). The unit is "" if there is none.

    Words that change a number ("million", "or more") are not units. A letter beside a number is a variable, unless
    `symbols` is true and the letter is the symbol of a unit ("5 m").
    """
    if found := _BEFORE.fullmatch(text):
        value, unit = split(found["value"], symbols)
        return found["sign"] + value, f"{found['unit']} {unit}".strip()
    found = _UNIT.fullmatch(text)
    if found is None or not _is_unit(found["value"], found["unit"].strip(), symbols):
        return text, ""
    return found["value"].replace(found["unit"], ""), found["unit"].strip()


def _is_unit(value: str, unit: str, symbols: bool) -> bool:
    if unit.startswith("^"):
        return not re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", value)  # keep the degrees of a function's argument
    words = re.findall(r"[A-Za-zµ]+", re.sub(r"\\(?:text|cdot)|\.", "", unit))
    bare = re.findall(r"[A-Za-zµ]+", re.sub(r"\\text\{[^{}]*\}|\\[A-Za-z]+", "", unit))
    if len(words) > 4 or (bare and not re.search(r"\d", value)):
        return False
    products = [run for run in bare if _is_product(run)]
    if products and not (SYMBOLS.issuperset(products) and (symbols or len(products) < len(bare))):
        return False
    return _NO_UNIT.isdisjoint(word.lower() for word in words)


def _is_product(letters: str) -> bool:
    """Return whether letters are a product of variables: `2ab` is 2 times a times b, and "2 cm" is a length.

    A short run of letters is a unit only if it is a known one.
    """
    if len(letters) > 3 or (len(letters) > 1 and _word(letters) in _KNOWN):
        return False
    return len(letters) < 3 or list(letters) == sorted(set(letters)) or not re.search("[aeiouy]", letters)


def same(one: str, other: str) -> bool | None:
    """Return whether two units are the same; None if this cannot be decided. An empty unit ("") equals any unit."""
    left, right = _words(one), _words(other)
    if left == right or not left or not right:
        return True
    return False if set(left + right) <= _KNOWN | {"square", "cubic", "per"} else None


def _words(unit: str) -> list[str]:
    """Return the full words of a unit in alphabetical order: centimeter, square for `cm^2` and "sq. centimetres"."""
    text = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", unit).replace("/", " per ").replace("^{\\circ}", " ° ")
    text = re.sub(r"\^\{2\}", " square ", re.sub(r"\^\{3\}", " cubic ", text)).replace("\\", "").replace(".", "")
    return sorted(" ".join(map(_word, text.split())).split())


def _word(word: str) -> str:
    word = word.lower().replace("metre", "meter").replace("litre", "liter")
    if len(word) > 2:
        word = word.removesuffix("s")
    return _SHORT.get(word, word)
