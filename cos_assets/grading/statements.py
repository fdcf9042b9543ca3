r"""Statements of an answer in a reply: its boxes, and the sentences and lines that announce an answer.

Every function takes time linear in the length of the text, because a completion may be megabytes of one mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from cos_assets.grading.markup import FORMULA

# The end of a formula is searched within this many characters; no formula of an answer is longer.
LONGEST = 2000

_BOX = re.compile(r"\\{1,3}+(?:boxed|fbox)(?:\s*(\{)|[ ]*([-+]?[0-9][0-9.,/]*))|\\.|[{}]", re.DOTALL)
_PLACEHOLDER = re.compile(
    r"(?:\\text\{)?\s*(?:\.{2,}|…|\\[lc]?dots|(?:your |the |final )*answer(?: here)?)?\s*\}?", re.IGNORECASE
)
_IS = r"""(?:is|are|was|(?:would|will|should|must|has[ ]to|turns[ ]out[ ]to)[ ]be|equals|comes[ ](?:out[ ])?to)\b
    (?!\s+not\b|n['’]t)"""
_RIGHT = r"is\s+(?:the\s+)?(?:correct|right|best)\b"
_LABEL = r"[(*]*(?-i:[A-Z])[)*]*\s+"
_FORMS = rf"""
    (?P<heading> ^[ \t#*_]*(?:the[ ])?(?:(?:final|correct)[ ])?answers?[ \t*_]*$ )
  | (?P<hash> (?<!\#)\#\#\#\#(?!\#) )
  | (?P<checked> \b(?:check|verify|confirm|test)(?:ing)?\s+(?:\w+\s+){{0,2}}answers? )
  | (?<![A-Za-z]) (?:(?:the|our|my)\s+)? (?:(?:final|correct|right|best)\s+)? answers?[*_]* (?:
        (?P<sentence> (?:[ ]to[ ](?:the|this)[ ][^.:\n]{{1,60}}?)? \s+{_IS} )
      | (?P<colon> (?:[ ]?\([^()\n]{{1,60}}\))? [*_]* [ \t]* [:：=] )
    )
"""
_LINE = r"(?P<line> ^[ \t]*(?-i:A)[ \t]*: )"
_OPTION = rf"""(?P<option> \b(?:option|choice)[*_]* (?:\s+{_IS}|:) | \b(?:option|choice|answer)\s+(?={_LABEL}{_RIGHT})
    | (?<![\w(*])(?={_LABEL}{_RIGHT}\s+(?:answer|option|choice)\b|\([A-Z]\)\s+{_RIGHT}) )"""
_MARKS = {
    kind: re.compile(pattern, re.VERBOSE | re.MULTILINE | re.IGNORECASE)
    for kind, pattern in (
        ("number", f"{_LINE} | {_FORMS}"),
        ("math", _FORMS),
        ("text", _FORMS),
        ("choice", f"{_OPTION} | {_FORMS}"),
    )
}
# What may follow a mark before the answer: emphasis, a colon, words that lead to the answer, and a line break.
_SAME_LINE = re.compile(r"(?:[*_]++(?![^\s:]) | [ \t:：=])*", re.VERBOSE)
_LEADING = re.compile(
    r"(?:,?\s*(?:therefore|thus|hence|then|so|indeed|clearly|actually|obviously|of course|simply|just|for sure|equal to"
    r"|given (?:by|as)|(?:found|calculated|determined|computed) to be|as follows)[,:]?\s+)*",
    re.IGNORECASE,
)
_LATER_LINE = re.compile(r"[ \t]*\n\s*(?:(?:-{3,}|={3,}|[*]{3,})[ \t]*\n\s*)?(?:```\w*\n\s*)?(?:[-•>]\s+)?|\s*")
_BREAK = re.compile(
    rf"\n|\\begin\{{(?P<env>[a-z]+\*?)\}}.*?\\end\{{(?P=env)\}}|{FORMULA.pattern}", re.VERBOSE | re.DOTALL
)
_HOPE = re.compile(r"(?<!\s)\s*\bI hope (?:it|this|the answer) is correct", re.IGNORECASE)
_TAG = re.compile(r"</?(?:b|i|u|em|strong|code|mark|span)>", re.IGNORECASE)
_OR = re.compile(r"\}?[\s$)\\]{0,9}(?:or|and)[\s$(\\]{0,9}")
_MORE = re.compile(r"\s*\S")
# Markdown indents a heading by three spaces at most.
_OWN_LINE = re.compile(r"(?:\A|\n) {0,3}\Z")


class Statement(NamedTuple):
    """An announced answer: the content of a box, or the text behind a mark.

    The text behind a mark extends to the end of its line and of its formula.
    """

    text: str
    form: str
    """`box`, or the form of the announcement: `hash`, `line`, `heading`, `colon`, `sentence` or `option`."""
    own_line: bool
    """Whether no other text precedes it on its line."""
    last: bool
    """Whether no other text follows it."""


class _Place(NamedTuple):
    form: str
    start: int
    inside: int
    end: int  # of a box; -1 for a mark


def boxed(text: str) -> str | None:
    r"""Return the content of the `\boxed{...}` that is opened last of those that are closed; None if there is none.

    Braces are balanced, and `\{` does not count as a brace. `\boxed 5` (a number) and `\fbox{...}` count as boxes, as
    in MATH. An empty box and a placeholder such as `\boxed{...}` do not.

    Examples
    --------
    >>> boxed("First \\boxed{1}, then \\boxed{\\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    boxes = _boxes(text)
    return _inside(text, boxes[-1]) if boxes else None


def statements(text: str, kind: str) -> Iterator[Statement]:
    """Yield the statements of an answer of a kind ("number", "math", "text" or "choice"), the last one first.

    Marks inside a box are part of the box. Two boxes with "or" or "and" between them are one statement, except in
    mathematics, where the last box counts.
    """
    places = _places(text, kind)
    stop = len(text)
    for i in range(len(places) - 1, -1, -1):
        place = places[i]
        if place.form != "box":
            statement = _after(text, place, stop)
            if statement is not None:
                yield statement
        elif kind != "choice" or place.end - place.inside <= LONGEST:
            inside = _inside(text, place)
            if kind != "math" and i and _OR.fullmatch(text, places[i - 1].end, place.start):
                inside = f"{_inside(text, places[i - 1])} or {inside}"
            yield Statement(inside, "box", False, False)
        stop = min(stop, place.start)


def _places(text: str, kind: str) -> list[_Place]:
    marks = (
        _Place(str(found.lastgroup), found.start(), found.end(), -1)
        for found in _MARKS[kind].finditer(text)
        if found.lastgroup != "checked"  # "we may check our answer: ..." does not state an answer
    )
    places: list[_Place] = []
    covered = 0
    for place in sorted([*_boxes(text), *marks], key=lambda place: place.start):
        if place.form == "box" or place.start >= covered:
            places.append(place)
        covered = max(covered, place.end)
    return places


def _boxes(text: str) -> list[_Place]:
    """Return the closed boxes that contain an answer, in the order in which they are opened."""
    start = min((i for i in (text.find("\\boxed"), text.find("\\fbox")) if i >= 0), default=len(text))
    open_braces: list[_Place | None] = []  # for each open brace, the box that it opens
    boxes: list[_Place] = []
    for found in _BOX.finditer(text, start):
        if found[1]:
            open_braces.append(_Place("box", found.start(), found.end(), -1))
        elif found[2]:
            boxes.append(_Place("box", found.start(), found.start(2), found.start(2) + len(found[2].rstrip(".,"))))
        elif found[0] == "{":
            open_braces.append(None)
        elif found[0] == "}" and open_braces and (box := open_braces.pop()):
            boxes.append(box._replace(end=found.start()))
    full = (box for box in boxes if not _PLACEHOLDER.fullmatch(text, box.inside, box.end))
    return sorted(full, key=lambda box: box.start)


def _inside(text: str, box: _Place) -> str:
    return text[box.inside : box.end].strip()


def _after(text: str, mark: _Place, stop: int) -> Statement | None:
    """Return the statement behind a mark, from its line or the next line with text; None if there is none.

    It extends to the end of the line or of a formula.
    """
    begin = _skip(_SAME_LINE, text, mark.inside, stop)
    below = mark.form == "heading"
    if mark.form not in ("hash", "line"):
        same = _skip(_LEADING, text, begin, stop)
        begin = _skip(_LATER_LINE, text, same, stop)
        below = below or "\n" in text[same:begin]
    end = _line_end(text, begin, stop)
    line = _TAG.sub("", _HOPE.split(text[begin:end], maxsplit=1)[0]).strip()
    if not line or line[0] in ",;":
        return None
    own_line = below or (
        mark.form == "hash" and _OWN_LINE.search(text[max(0, mark.start - 4) : mark.start]) is not None
    )
    return Statement(line, mark.form, own_line, _MORE.match(text, end) is None)


def _skip(pattern: re.Pattern[str], text: str, begin: int, stop: int) -> int:
    found = pattern.match(text, begin, stop)
    return found.end() if found else begin


def _line_end(text: str, begin: int, stop: int) -> int:
    """Return the end of the line, or of the line on which a formula that starts in it ends."""
    for found in _BREAK.finditer(text, begin, min(stop, begin + LONGEST)):
        if found[0] == "\n":
            return found.start()
    end = text.find("\n", begin + LONGEST, stop)
    return end if end >= 0 else stop
