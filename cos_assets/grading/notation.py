r"""Normalization of final answers, as people and models write them, to one LaTeX notation.

`normalise` returns the LaTeX that the parser of `math_equality` reads: `½` and `\dfrac12` become `\frac{1}{2}`, and
"5 and 6" becomes `5, 6`. It rewrites known forms and leaves the rest unchanged. Only markup is removed: spaces,
fonts, sizes and delimiters. The parser has to refuse what it does not understand, and it cannot refuse text that was
removed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from cos_assets.grading.characters import characters
from cos_assets.grading.markup import FONT, SIZE, unwrapped
from cos_assets.grading.units import SYMBOLS

# --- markup ----------------------------------------------------------------------------------------------------------

_FONTS = re.compile(FONT + r"\s*\{([^{}]*)\}")
_AROUND = (
    ("**", "**"), ("*", "*"), ("`", "`"), ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("\\boxed{", "}"),
    ("{", "}"), ('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"),
)  # fmt: skip


def bare(text: str) -> str:
    """Return an answer without the markup around all of it (bold, code, dollar signs, a box) and its full stop."""
    for _ in range(8):  # deeper nesting does not occur in practice
        before = text
        text = text.strip()
        if text.endswith(".") and not text.endswith(("\\right.", "..")):
            text = text[:-1].rstrip()
        for start, end in _AROUND:
            if text.startswith(start) and text.endswith(end) and _alone(text, start, end):
                text = text[len(start) : -len(end)]
        if found := _FONTS.fullmatch(text):
            text = found[1]
        if text == before:
            break
    return text


def words(text: str) -> str:
    """Return the words of an answer in text, without markup, LaTeX spaces and LaTeX escapes."""
    text = re.sub(r"\\[,;: ]|~|\\q?quad(?![A-Za-z])", " ", unwrapped(bare(text)))
    return re.sub(r"\\([%&#$_])", r"\1", text)


def _alone(text: str, start: str, end: str) -> bool:
    """Return whether the marks at the two ends of a text belong together. In `$5$ or $6$` they do not."""
    inside = text[len(start) : -len(end)]
    if start[-1] == "{":  # braces around a list denote a set
        is_list = start == "{" and (not inside.strip() or "," in re.sub(r"[(\[{].*[)\]}]", "", inside))
        return _group(text, len(start) - 1) == len(text) and not is_list
    return bool(inside) and end[-1] not in inside.replace("\\" + end[-1], "")


def _group(text: str, at: int) -> int:
    """Return the position behind the bracket that closes the one at `at`; -1 if it is not closed."""
    opening, closing = text[at], {"{": "}", "(": ")", "[": "]"}[text[at]]
    depth = 0
    for i in range(at, len(text)):
        if text[i] in (opening, closing) and text[i - 1 : i] != "\\":
            depth += 1 if text[i] == opening else -1
            if depth == 0:
                return i + 1
    return -1


def _boxes(text: str) -> str:
    """Return the content of the last box and of the boxes close before it; the text itself if it has no box."""
    boxes: list[str] = []
    at = len(text)
    while (start := max(text.rfind("\\boxed", 0, at), text.rfind("\\fbox", 0, at))) >= 0:
        opening = text.find("{", start)
        if opening < 0 or text[start:opening].strip() not in ("\\boxed", "\\fbox"):
            return text
        end = _group(text, opening)
        between = text[end if end > 0 else at : at]
        if boxes and not (len(between) < 10 or (len(between) < 70 and re.search(r"[,;]|\b(?:and|or)\b", between))):
            break
        box = text[opening + 1 : end - 1 if end > 0 else at].strip()
        if box not in boxes[-1:]:
            boxes.append(box)
        at = start
    return ", ".join(reversed(boxes)) if boxes else text


def _in_font(font: re.Match[str]) -> str:
    """Return the content of a font command. Only words, units and vectors keep a font command."""
    inside = " ".join(font[1].split())
    if not inside or re.fullmatch(rf",?\s*(?:and|or)|[,;]|%|(?:{_PERCENT})\.?|\(?mod|{_FUNCTIONS}", inside):
        return f" {inside} "
    if re.match(r"\\(?:mathbf|b)", font[0]) and inside in ("i", "j", "k"):
        return f"\\mathbf{{{inside}}}"  # a unit vector
    unit = inside in SYMBOLS and re.search(r"[\d})]\s*\Z", font.string[max(0, font.start() - 9) : font.start()])
    return f"\\text{{{inside}}}" if unit or re.search(r"[A-Za-z]{2}|[A-Za-z]\.", inside) else f" {inside} "


# --- one notation ----------------------------------------------------------------------------------------------------

_FUNCTIONS = "sqrt|a(?:rc)?(?:sin|cos|tan)h?|(?:sin|cos|tan)h?|cot|csc|log|ln|gcd|lcm|pi|theta"  # not units
_TAKES_BRACKETS = "exp|max|min|sec"
_PERCENT = "percent(?:age)?|pct"
_MACRO, _BARE = r"\\(?:{})(?![A-Za-z])", r"(?<![\\A-Za-z])(?:{})(?![A-Za-z])"
_SAME = {
    "[dtc]frac": r"\frac ", "[dt]binom": r"\binom ", "leq(?:slant)?": r"\le ", "geq(?:slant)?": r"\ge ",
    "neq": r"\ne ", "lt": "<", "gt": ">", "varnothing": r"\emptyset ", "lbrace": r"\{", "rbrace": r"\}",
    "lbrack": "[", "rbrack": "]", "langle": "(", "rangle": ")", "[lr]?vert|mid": "|", "[lr]Vert": r"\|",
    "c?dots[cb]?": r"\ldots ", "colon": ":", "ast": "*", "vee": r"\lor ", "textdollar": r"\$",
    "R": r"\mathbb{R}", "Z": r"\mathbb{Z}", "imath": "i", "infin": r"\infty ", "[pb]?mod": r"\mod ",
}  # fmt: skip
_Rules = list[tuple[str, str | Callable[[re.Match[str]], str]]]
_BEFORE_FONTS: _Rules = [
    # Spaces and sizes have no meaning, and `\right.` closes nothing.
    (r"\\\\\s*\[[^\]]*(?:pt|em|ex|mm)\]", r"\\\\"),
    (r"(?<=\d),\s*\\!\s*(?=\d{3})", ""),
    (r"\\!|\\neg(?:thin|med|thick)space(?![A-Za-z])", ""),
    (r"(?<!\\)\\[,;:> \n]|~|\\hspace\*?\{[^{}]*\}|\\phantom\s*(?:\{[^{}]*\}|.)", " "),
    (_MACRO.format("q?quad|(?:thin|en|med|thick)space|scriptstyle|(?:no)?limits|it"), " "),
    (r"\\m?(?:left|right)\s*\.|\\(?:mleft|mright|middle|[bB]igg?[lrm]?)(?![A-Za-z])", ""),
    (SIZE.pattern, ""),
    (r"(?<!\\)\$|(?<!\\)\\[()\[\]]", " "),
    *((_MACRO.format(name), same.replace("\\", r"\\")) for name, same in _SAME.items()),
    (r"\\([%&#])", r"\1"),
    (r"\\mathbb\s*([A-Z])(?![A-Za-z])", r"\\mathbb{\1}"),
    (r"\*\*", "^"),
    (r"\.\.\.", r"\\ldots "),
    (r'\\?"', ""),
]
_AFTER_FONTS: _Rules = [
    # Plain words that have a mathematical sign.
    (rf"(?<![\\A-Za-z{{])({_FUNCTIONS}|(?:{_TAKES_BRACKETS})(?=\s*\())(?![A-Za-z}}])", r"\\\1 "),
    (_BARE.format("inf(?:inity)?|oo"), r"\\infty "),
    (r"\s*" + _BARE.format(_PERCENT), "%"),
    (r"(?:,\s*)?" + _BARE.format("and"), ", "),
    (r"(?:,\s*)?" + _BARE.format("or"), r" \\lor "),
    (r"\(\s*(?:\\mod|mod)(?![A-Za-z])([^()]*)\)", r"\\mod \1"),
    (r"\\mod\s*\{([^{}]*)\}", r"\\mod \1"),
    # Powers, primes, degrees, the empty set.
    (r"'+", r"^{\\prime}"),
    (r"\^?\s*\\degree(?![A-Za-z])|\^\s*\{?\s*\\circ\s*\}?", r"^{\\circ}"),
    (r"\\\{\s*\\\}", r"\\emptyset "),
    # Numbers. Two numbers on two lines are not one number.
    (r"(?<=\d)\s*\n\s*(?=\d)", ", "),
    (r"(?<=\d)\s*\{\s*,\s*\}\s*(?=\d{3})", ""),
    (r"(?<=\d)[eE]([+-]?\d+)(?![\d.A-Za-z])", r" \\times 10^{\1}"),
    (r"(?<=\d)\s*[xX]\s*10\s*\^", r" \\times 10^"),
    # Several equations are a list.
    (r"\\begin\{(cases|aligned|gathered)\}([^&]*)\\end\{\1\}", lambda rows: rows[2].strip().replace("\\\\", ", ")),
    (r"(?i)^(?:(?:the set of )?all real(?: number)?s|all of \\mathbb\{R\})\.?$", r"\\mathbb{R}"),
    (r"(?i)^no solutions?\.?$", r"\\emptyset"),
    # The relation sign before an answer that is one side of an equation.
    (r"^\s*(?:=|\\approx(?![A-Za-z]))", ""),
]
_REWRITES = [[(re.compile(was), now) for was, now in table] for table in (_BEFORE_FONTS, _AFTER_FONTS)]


def normalise(text: str) -> str:
    """Return the answer in the LaTeX notation of the parser. The result may still be unreadable for the parser."""
    text = characters(text)
    if not re.search(r"matrix|array|cases|align", text):
        text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)  # escaped twice
    text = bare(_boxes(text))
    if len(re.findall(r"(?<!\\)\$", text)) % 2:  # a single dollar sign denotes a price
        text = re.sub(r"(?<!\\)\$", r"\\$", text)
    for was, now in _REWRITES[0]:
        text = was.sub(now, text)
    text = _FONTS.sub(_in_font, text)
    for was, now in _REWRITES[1]:
        text = was.sub(now, text)
    text = _NEEDLESS.sub("", " ".join(_numbers(_arguments(text)).split()))
    return text.rstrip(".,;: ").removesuffix("\\\\")


_NEEDLESS = re.compile(r"(?<=[A-Za-z]) (?=[{^_])| (?=[,)\]}])|(?<=[(\[{]) ")
_TAKES = re.compile(r"\\(?:frac|binom)(?![A-Za-z])|\\sqrt(?![A-Za-z])\s*(?:\[[^\]]*\])?|[\^_]")
_TAKEN = re.compile(r"(?:(-?\d+(?:\.\d+)?|-?[A-Za-z](?![A-Za-z]))|(\\[A-Za-z]+|[A-Za-z]))")


def _arguments(text: str) -> str:
    r"""Add braces around the arguments of fractions, roots, powers and indices.

    Examples are `\frac12`, `\sqrt2`, `x^10` and `2^(n+1)`.
    """
    at = 0
    while found := _TAKES.search(text, at):
        start = at = found.end()
        for _ in range(2 if found[0] in ("\\frac", "\\binom") else 1):
            start += len(text[start:]) - len(text[start:].lstrip())
            opening = text[start : start + 1]
            if opening in ("{", "(") and (end := _group(text, start)) > 0:
                inside = text[start + 1 : end - 1].strip()
            elif found[0][0] == "\\" and (one := re.compile(r"\d|[A-Za-z]|\\[A-Za-z]+").match(text, start)):
                inside, end = one[0], one.end()
            elif one := _TAKEN.match(text, start):
                end = one.end()
                while one[2] and text[end : end + 1] == "{" and (close := _group(text, end)) > 0:  # x^\frac{1}{2}
                    end = close
                inside = text[start:end]
            else:
                break
            text = f"{text[:start]}{{{inside}}}{text[end:]}"
            start += len(inside) + 2
    return text


_REPEATING = re.compile(
    r"(?<![\d.])(\d*)\.(\d*)\s*\{?\\(?:overline|bar|dot)\s*\{?(\d+)\}?\}?"
    r"|(?<![\d.])(\d*)\.(\d*)\((\d+)\)$"
    r"|(?<![\d.])(\d*)\.(\d*?)(?:(\d)\9{2,}|(\d\d+?)\10+)\s*(?:\.\.\.|\\ldots)"
)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_SPACED = re.compile(r"(?<![\d.])\d{1,3}(?: \d{3})+(?![\d.])")
_MIXED = re.compile(r"(?<![\d.^_/)])(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}|(?<![\d.^_/)])(\d+) +(\d+)/(\d+)(?![\d.])")


def _numbers(text: str) -> str:
    """Remove thousands separators, and write mixed numbers and repeating decimals as fractions."""
    text = _SPACED.sub(lambda number: number[0].replace(" ", ""), text)
    # In brackets, a comma separates two numbers.
    if not re.search(r"[(\[]|\\\{", text):
        text = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), text)
    return _MIXED.sub(_mixed, _REPEATING.sub(_repeating, text))


def _repeating(number: re.Match[str]) -> str:
    whole, fixed, period = (group for group in number.groups() if group is not None)
    over = int(whole + fixed + period) - int(whole + fixed or 0)
    return rf"\frac{{{over}}}{{{'9' * len(period)}{'0' * len(fixed)}}}"


def _mixed(number: re.Match[str]) -> str:
    whole, over, under = (int(group) for group in number.groups() if group is not None)
    # `11 7/6` is not a mixed number. It has two possible readings, so it is left unchanged.
    return rf"\frac{{{whole * under + over}}}{{{under}}}" if over < under else number[0]


# --- words -----------------------------------------------------------------------------------------------------------


def same_text(one: str, other: str) -> bool:
    """Return whether two normalized answers are the same text, apart from case, white space and fonts of words."""
    return _letters(one) == _letters(other)


def _letters(text: str) -> str:
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text).casefold()
    text = re.sub(r"(?<=\d) +(?=\d)", "_", text)
    text = re.sub(r"\s+|(?<=[^\W\d_])\.", "", text)
    return re.sub(r"^\((\w)\)$", r"\1", text)


def plain(text: str) -> bool:
    """Return whether a normalized answer is plain text (words, numbers and their signs) and contains no formula."""
    return not re.search(r"[\\^_{}]", re.sub(r"\\text\{[^{}]*\}|\\lor(?![a-z])", "", text))


_CONCLUSION = re.compile(
    r".*(?:(?<![\\A-Za-z])(?:is|are|was|equals|est|thus|hence|therefore|so|(?:find|found|get|have|see|follows) that)"
    r"(?![A-Za-z])|\^\{\\prime\}s\b|[A-Za-z]\s*:|^(?:the )?(?:final )?answer\b)[\s:,]*(.+)",
    re.IGNORECASE,
)
_REMARK = re.compile(
    r"\s+is (?:the|our|my) (?:final |correct )?(?:answer|solution)$|[.\s]*I hope (?:it|this) is correct$"
)
_DENIED = re.compile(r"\b(?:false|wrong|incorrect|untrue|not (?:true|correct|right))\b", re.IGNORECASE)


def conclusion(text: str) -> str | None:
    """Return what a normalized sentence concludes; None if it concludes nothing or contains a denial.

    Examples of such sentences are "so the sum is 5" and "therefore x > 5 is the solution".
    """
    found = _CONCLUSION.fullmatch(_REMARK.sub("", re.sub(r"\\text\{([^{}]*)\}", r"\1 ", text)))
    return None if found is None or _DENIED.search(text) else found[1]
