"""What a solution states as its final answer. Only what is announced counts: nothing guesses at the last number.

All of it takes time in proportion to the text, whatever the text is: a completion may be megabytes of one mark.
"""

from __future__ import annotations

import re
from collections import deque

# The number directly after a mark that announces the final answer. An expression ("#### 3 + 4 = 7") states no number,
# and the group is atomic so that its first digits are not taken for one.
_NUMBER = re.compile(
    r"""
    (?: \#\#\#\# | ^[ \t]*A: | the\ (?:final\ )?answer\ is:? ) [ \t]*
    ((?> [-+−]? [ ]? \\?[$€£¥]? [ ]? [-+−]?
         (?: [0-9][0-9,]*(?:\.[0-9]+)? | \.[0-9]+ ) (?: [ ]?/[ ]?[0-9]+ )? (?:\\?%)? ))
    (?! [ \t]* (?: [+*/×^] [ \t]* [\w$(] | [-−x=] [ \t]* [$(]? [0-9] ) )
    """,
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)
_FINAL = re.compile(r"the final answer is:?", re.IGNORECASE)
_MARK = re.compile(r"####|\bthe (?:final )?answer is:?", re.IGNORECASE)
_DISPLAYS = (("\\[", "\\]"), ("$$", "$$"))  # a formula on lines of its own
_HOPE = "i hope it is correct"
_BOX = re.compile(r"\\(?:boxed|fbox)(?:\s*(\{)|[ ]+([^\s$\\{}]+))|\\.|[{}]", re.DOTALL)
_DOLLARS = re.compile(r"(\$\$?)((?:\\.|[^$\\])*)\1", re.DOTALL)
# "The answer is a dog" names no choice: a small letter has to end there. Nor do "A or B" and "I think".
_LETTER = re.compile(
    r"""
    (?: \#\#\#\# | \b(?:correct\ |final\ )?(?:answer|option|choice)(?:\ is|:)+ ) [\s*$(\[\"']*
    (?: \\(?:text|boxed|mathrm|textbf)\{\(? )*
    (?-i: ([A-Z])(?![\w'’]) | ([a-z])(?=[)\].:*}$] | [ \t]*$) )
    (?! [ \t]*(?:,|/|and|or)[ \t]*\(?[A-Z]\b | (?<=I)[ \t]+\w )
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
# No final answer is longer; only a stated line is searched further for how it ends.
_LONGEST = 2000


def last_number(text: str) -> str | None:
    """The number stated last by `#### 42`, a line `A: 42` or "The answer is 42"; None when none is."""
    stated = _NUMBER.findall(text)
    return stated[-1].strip().rstrip(",") if stated else None


def boxed(text: str) -> str | None:
    r"""What stands in the `\boxed{...}` that is opened last of those that are closed; None when there is none.

    Braces are balanced, `\{` is no brace, and `\boxed 5` (one word) and `\fbox{...}` count, as in MATH.
    """
    found = _boxed(text)
    return found[1] or None if found else None


def final_answer(text: str) -> str | None:
    r"""The answer in "Final Answer: The final answer is $...$. I hope it is correct.", else the last `\boxed{...}`.

    The first is the ending of Lewkowycz et al. 2022 (arXiv 2206.14858, appendix D.1); the last one of a text counts.
    """
    return _stated(text, _FINAL) or boxed(text)


def announced(text: str) -> str | None:
    r"""What is stated last by `#### x`, "The answer is x" or `\boxed{x}`, to the end of its line; None for nothing."""
    box = _boxed(text)
    mark = _last(_MARK, text)
    if box is not None and (mark is None or box[0] > mark.start()):
        return box[1] or None
    return _stated(text, _MARK)


def last_letter(text: str) -> str | None:
    r"""The letter stated last by "The answer is (B)", "Answer: B", `#### B` or `\boxed{B}`; a text that is nothing but
    a letter states it too. Upper case; None for nothing."""
    mark, box = _last(_LETTER, text), _boxed(text)
    if box is not None and (mark is None or box[0] > mark.start()):
        text = re.sub(r"\\(?:text|mathrm|textbf)\b|[{}]", "", box[1])
    elif mark is not None:
        return (mark[1] or mark[2]).upper()
    alone = re.fullmatch(r"[\s(\[*$]*([A-Za-z])[\s)\]*$.:]*", text[:_LONGEST])
    return alone[1].upper() if alone and len(text) <= _LONGEST else None


def _stated(text: str, mark: re.Pattern[str]) -> str | None:
    """What follows the last mark: up to "I hope it is correct" (perhaps some lines on), or to the line's end."""
    found = _last(mark, text)
    if found is None:
        return None
    tail = text[found.end() : found.end() + _LONGEST]
    end = tail.casefold().find(_HOPE)
    if end >= 0:
        return _bare(tail[:end]) or None
    rest = text[found.end() :].lstrip("* \t\r\n")
    display = next(((start, close) for start, close in _DISPLAYS if rest.startswith(start)), None)
    if display is not None and (end := rest.find(display[1], 2, _LONGEST)) >= 0:
        return _bare(rest[: end + 2]) or None
    return _bare(rest.split("\n", 1)[0]) or None


def _bare(text: str) -> str:
    """Without the full stop, the emphasis, the dollar signs and the box around it."""
    text = text.strip().strip("*").strip()
    if text.endswith(".") and not text.endswith("\\right."):
        text = text[:-1].rstrip().rstrip("*").rstrip()
    if text[:2] in ("\\(", "\\[") and text[-2:] in ("\\)", "\\]"):
        text = text[2:-2].strip()
    if dollars := _DOLLARS.fullmatch(text):
        text = dollars[2].strip()
    return (boxed(text) or "" if text.startswith("\\boxed") else text).strip()


def _boxed(text: str) -> tuple[int, str] | None:
    """(where it starts, what is in it) of the last closed box."""
    start = min((i for i in (text.find("\\boxed"), text.find("\\fbox")) if i >= 0), default=-1)
    if start < 0:
        return None
    open_braces: list[tuple[int, int] | None] = []  # for each open brace, the box that it opens: (start, inside)
    best: tuple[int, int, int] | None = None
    for found in _BOX.finditer(text, start):
        token = found[0]
        if found[1]:
            open_braces.append((found.start(), found.end()))
        elif found[2]:
            best = max(best or (-1, 0, 0), (found.start(), found.start(2), found.end()))
        elif token == "{":
            open_braces.append(None)
        elif token == "}" and open_braces and (box := open_braces.pop()):
            best = max(best or (-1, 0, 0), (*box, found.start()))
    if best is None:
        return None
    inside = text[best[1] : best[2]].strip()
    return best[0], inside.rstrip(".,") if text[best[1] - 1] == " " else inside


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    last = deque(pattern.finditer(text), maxlen=1)
    return last[0] if last else None


def last_number_anywhere(text: str) -> str | None:
    """The last number in a text, wherever it stands (lm-evaluation-harness calls this filter "flexible-extract")."""
    found = re.findall(r"-?[$]?\d[\d,]*(?:\.\d+)?", text)
    return found[-1].rstrip(",") if found else None
