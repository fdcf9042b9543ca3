r"""Extraction of the final answer that a reply states. Only announced answers count; the last number is no fallback.

These forms state an answer, with the usual markup around it and around themselves:

    \boxed{42}              also \fbox{42} and \boxed 42, but not an empty box or `\boxed` in prose
    #### 42                 not a heading: a numbered line (`#### 2. May`), or a longer line above more text
    The answer is 42        also "the final answer is", "the answer would be"; the answer may be on the next line
    Answer: 42              also "Final Answer:", or such a heading; the answer may be on the next line
    A: 42                   for numbers, at the start of a line
    Option B is correct     for choices; also "the correct option is B", or a reply that consists of the letter only

No form takes precedence: of all statements that contain a readable answer of the wanted kind, the last one counts.
The kind decides only which part of a statement is the answer:

    number    the number without its unit and explanation. A statement that starts with a number and gives no single
              one ("5 or 6", "9:30") is the answer as a whole: no part of it is taken for the answer.
    math      the formula, or text up to an explanation. Lists such as `x = 1, y = 2` stay whole.
    text      the words up to an explanation: a reason, an apposition, a relative clause, text in brackets
    choice    the letter. A statement of two letters names none.

A question ("so the final answer is $5$?") is not a statement. Remarks ("the answer is positive" in mathematics, "the
answer is correct") count only if nothing else is stated. The same holds for a number inside a last sentence ("Answer:
She sold 72 clips").

Every function takes time linear in the length of the text.
"""

from __future__ import annotations

import re
from typing import Literal

from cos_assets.grading.markup import FORMULA, inner, plain, unwrapped
from cos_assets.grading.numbers import SCALES, only_number, parse_number, stated_number, without_unit
from cos_assets.grading.numbers import last_number as last_number_anywhere
from cos_assets.grading.statements import LONGEST, Statement, boxed, statements

__all__ = ["Kind", "boxed", "last_number_anywhere", "stated"]

Kind = Literal["number", "math", "text", "choice"]


def stated(text: str, kind: Kind) -> str | None:
    r"""Return the last final answer that a reply states, without the markup around it.

    Parameters
    ----------
    text : str
        A reply without its reasoning (see `reasoning.reply_of`).
    kind : {"number", "math", "text", "choice"}
        Which part of a statement is the answer; the module's docstring gives the rules.

    Returns
    -------
    str or None
        None if the reply states no answer. A number is given in ASCII, a choice as an upper-case letter.

    Examples
    --------
    >>> reply = "So the answer is 5 apples, because 2 + 3 = 5."
    >>> stated(reply, "number"), stated("It is \\boxed{\\frac{1}{2}}.", "math"), stated("Answer: (b)", "choice")
    ('5', '\\frac{1}{2}', 'B')
    """
    read = {"number": _number, "math": _math, "text": _text, "choice": _choice}[kind]
    remark: str | None = None
    for statement in statements(text, kind):
        answer = read(statement)
        if answer is not None and (statement.form == "box" or not _is_remark(answer, kind)):
            return answer or None
        remark = remark or answer or (_told(statement) if kind == "number" else None)
    return _lone_letter(text) if kind == "choice" else remark


def _is_remark(answer: str, kind: Kind) -> bool:
    """Return whether a sentence may be a remark on the answer: "positive" in mathematics, "correct" in text."""
    if kind == "text":
        return _JUDGED.match(answer) is not None
    return kind == "math" and _WORDS.fullmatch(answer) is not None and _WORD.search(answer) is not None


_JUDGED = re.compile(r"(?:correct|right|wrong|incorrect|valid|verified|reasonable|consistent|confirmed|clear)\b")
_WORDS = re.compile(r"[A-Za-z ,'()-]*+")
_WORD = re.compile(r"\b(?!and\b|or\b)[A-Za-z]{3}")


# --- sentences and their markup --------------------------------------------------------------------------------------

_MASK = "\ufffc"
"""Replaces each character of a formula."""
_SENTENCE_END = re.compile(rf"(?<!\w)(\w*+)([.!?])[\"'”’)\]*_`]*(?:\s+(?=[A-Z\"'“(*$\\{_MASK}])|\s*\Z)")
_TITLE = re.compile(r"[A-Z]|Mr|Mrs|Ms|Dr|St|Mt|Jr|Sr|Prof|No|vs")
_KEEPS_STOP = re.compile(r"(?:\\right\.|\.\.|(?<!\w)[A-Za-z]\.[A-Za-z]\.)\Z")
# These words and signs start the explanation of an answer.
_OPENERS = (
    "the|an?|which|who|whom|whose|where|whereas|since|because|as|so|not|but|when|while|although|namely|given|based|due"
    "|being|with|without|in|on|at|for|from|by|it|he|she|they|this|that|these|there|we|thus|hence|therefore|meaning|making"
    "|located|known|called|i\\.e|e\\.g"
)
_EXPLAINS = re.compile(
    rf"[,:]\s+(?:{_OPENERS})\b|;\s+[a-z]|\s(?:because|since)\b|(?<={_MASK})\s+(?:where|which|as|so)\b"
    r"|(?<!\s)\s+(?:-{1,3}|[–—])\s+(?=[A-Za-z]{2})|—|\s\((?!mod\b)(?=[^()]*[A-Za-z]{3})"
)
_EMPHASIS = re.compile(r"(?<![\w*])\*\*|\*\*(?![\w*])|(?<!\w)__|__(?!\w)|`")
# `**Paris** because ...`, but not `**Romeo** and **Juliet**`.
_EMPHASISED = re.compile(
    r"(\*\*|__|[*_`\"“])(?=\S)(.+?)(?<=\S)(?:\1|”)(?=\s*(?:\Z|[,.;:!(–—-])|\s+(?!and\b|or\b)[a-z])", re.DOTALL
)
_NUMBERED = re.compile(r"[(*_]*\d{1,2}[.):]\s+\S")


def _sentence(text: str, titles: bool = False) -> str | None:
    """Return the first sentence with its final punctuation; None if it is a question.

    With `titles`, initials and titles such as "J. K." do not end a sentence.
    """
    for end in _SENTENCE_END.finditer(text):
        if end[2] == "?":
            return None
        if not (titles and end[2] == "." and end.end() < len(text) and _TITLE.fullmatch(end[1])):
            return text[: end.end(2)]
    return text


def _head(text: str, titles: bool = False) -> str | None:
    """Return the first sentence without its explanation and full stop; None if it is a question."""
    sentence = _sentence(FORMULA.sub(lambda found: _MASK * len(found[0]), text), titles)
    if sentence is None:
        return None
    end = cut.start() if (cut := _EXPLAINS.search(sentence)) else len(sentence)
    head = text[:end].strip().lstrip("*` ")
    if _KEEPS_STOP.search(head):
        return head
    bare = head.rstrip(" .,;:*`!" if sentence.endswith("!") else " .,;:*`")
    return f"{bare}*" if bare.endswith("^") else bare


# --- the part of a statement that is the answer ----------------------------------------------------------------------

_DIGIT = re.compile(r"[\d¼-¾⅐-⅞]")
_NUMERIC = re.compile(r"[\s(\[{+\-±$€£¥₹.]*(?:[0-9]|\\(?:frac|sqrt|pi|pm)\b)")
_UNIT = re.compile(r"(?!or\b|and\b|to\b)[A-Za-z][A-Za-z /-]*(?:\^\{?[23]\}?)?")
_RELATION = re.compile(r"[=+*/^<>≤≥-]|\\[a-z]")


def _is_heading(statement: Statement, bare: bool) -> bool:
    """Return whether a line of its own is a heading or starts a list.

    It is one if it is numbered, or if it is a `####` line above more text that is not the `bare` answer.
    """
    if not statement.own_line:
        return False
    numbered = _NUMBERED.match(statement.text) is not None
    if statement.form == "hash":
        return numbered or not (bare or statement.last)
    return numbered and not statement.last


def _number(statement: Statement) -> str | None:
    text = statement.text
    if statement.form == "box":
        return stated_number(text) or only_number(text) or _shown(text)
    sentence = _sentence(text) if _DIGIT.search(text) else None
    if sentence is None or _is_heading(statement, parse_number(text) is not None):
        return None
    if "=" in text and statement.own_line and not statement.last:  # the first line of a solution
        return None
    if (number := stated_number(sentence.rstrip("!"))) is not None:
        return number
    return _shown(sentence) if _NUMERIC.match(plain(sentence[:LONGEST])) else None


def _told(statement: Statement) -> str | None:
    """Return the number of a last sentence such as "Answer: She sold 72 clips."; None if other text follows."""
    sentence = _sentence(statement.text) if statement.last else None
    return only_number(sentence) if sentence is not None and len(sentence) == len(statement.text) else None


def _shown(text: str) -> str:
    return (plain(text) if len(text) <= LONGEST else text).rstrip(" .,;:")


def _math(statement: Statement) -> str | None:
    text = statement.text
    if statement.form == "box":
        whole = FORMULA.fullmatch(text)
        return inner(whole).strip() if whole else text
    head = _head(_EMPHASIS.sub("", text))
    if not head or _is_heading(statement, not re.search(r"(?<!\\)\b[A-Za-z]{3}", head)):
        return None
    formula = FORMULA.match(head)
    rest = FORMULA.sub(inner, head[formula.end() :]).strip() if formula else ""
    if formula and not rest:
        return inner(formula).strip()
    if not formula and parse_number(head) is not None:
        return head
    if (number := without_unit(head)) is not None:
        return number
    if _RELATION.match(rest) or re.search(r"=\s*[$\\]", head):
        return FORMULA.sub(inner, head)
    if formula and _UNIT.fullmatch(rest) and SCALES.keys().isdisjoint(rest.split()):
        return inner(formula).strip()
    return head


def _text(statement: Statement) -> str | None:
    words = unwrapped(statement.text)
    words = " ".join(re.sub(r"\\([&%$#_])", r"\1", re.sub(r"\\[ ,;]|~", " ", words)).split())
    if statement.form == "box":
        return _EMPHASIS.sub("", words)
    if _is_heading(statement, False):
        return None
    words = re.sub(r"\A[*_`]+\s+", "", words)
    emphasised = _EMPHASISED.match(words)
    if emphasised and emphasised[1] in '"“':
        return emphasised[2]
    head = _head(emphasised[2] if emphasised else words, titles=True)
    return _EMPHASIS.sub("", head).strip("*_ ") or None if head else None


_LETTER = re.compile(
    r"""
    [\s*"'“(\[{$]* (?:(?:the\s+)?(?:option|choice|letter|answer|alternative)\b(?:\s+is\b)?[\s:]*)* [*"'“(\[{$]*
    (?: (?P<upper>(?-i:[A-Z]))(?!\w|['’]\w) | (?P<lower>(?-i:[a-z]))(?=[)\].:*}$"'”]|\s*$) )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SECOND = re.compile(
    r"[)\].:*\"'”\s}]*(?:,|/|&|\+|and\b|or\b)\s*(?:(?:option|choice)\s+)?[(\[*]*(?!I\s+[a-z])[A-Z](?!\w|['’]\w)"
)
_FORMULA_GOES_ON = re.compile(r"\(|\s*(?:[=+*/^_<>≤≥≠×·\\]|-(?!\s+[A-Za-z(]{2}))")
# "A prime number" and "I think" do not name a letter, "A because" does.
_WORD_GOES_ON = re.compile(
    r"\s+(?!(?:because|since|as|is|was|which|for|due|with|based|given|from|by|when|if|so|would|and|but|not|rather)\b)"
    r"[a-z]"
)
_ALONE = re.compile(r"[\s(\[*\"']*([A-Za-z])[\s)\]*.:\"']*")
# "(B) Paris", but not "B. is wrong".
_LABELLED = re.compile(r"(?:\([A-Z]\)|[A-Z][).:])\s+(?!(?:is|are|was|and|or|has|does)\b).*")


def _choice(statement: Statement) -> str | None:
    """Return the letter; "" if the statement names two letters; None if it names none."""
    if len(statement.text) > LONGEST or _sentence(statement.text) is None:
        return None
    text = plain(statement.text)
    found = _LETTER.match(text)
    if found is None or _is_heading(statement, _ALONE.fullmatch(text) is not None):
        return None
    letter, rest = (found["upper"] or found["lower"]).upper(), text[found.end() :]
    if _SECOND.match(rest):
        return ""
    if rest.startswith((")", "]")):
        return letter
    return None if _FORMULA_GOES_ON.match(rest) or (letter in "AI" and _WORD_GOES_ON.match(rest)) else letter


def _lone_letter(text: str) -> str | None:
    """Return the letter of a reply that consists of a letter or an option only, in one line."""
    reply = plain(text) if len(text) <= LONGEST else ""
    if not (_ALONE.fullmatch(reply) or _LABELLED.fullmatch(reply)):
        return None
    return _choice(Statement(reply, "box", False, True)) or None
