r"""Identity of solutions: two are the same if they have the same equations in the same order, or the same text.

A solution without readable equations is identified by its text alone. Two texts are the same if they differ only in
case, white space or markup (`$`, `\left`, `**`, `#`, `\text{…}`, typographic quotes and dashes).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_CHARACTERS = str.maketrans("−–—‐‑‘’“”·×÷", "-----''\"\"*" + "*/")
_COMMANDS = re.compile(
    r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|q?quad|text(?:bf|it|rm|tt)?|math(?:rm|bf|it|sf)|mbox|boxed|fbox"
    r"|begin\{[^{}]*\}|end\{[^{}]*\})(?![A-Za-z])"
)
_SPELLING = [(r"\dfrac", r"\frac"), (r"\tfrac", r"\frac"), (r"\cdot", "*"), (r"\times", "*"), (r"\div", "/")]
_MARKUP = re.compile(r"\\[()\[\],;:!> \\]|[\s$*_`#~{}]")


def identity(text: str, equations: Sequence[str]) -> str:
    """Return a key that is equal for solutions that count as one.

    Parameters
    ----------
    text : str
        The reply.
    equations : sequence of str
        Its canonical equations (see `steps.equations`). Without any, the key is the normalized text.

    Examples
    --------
    >>> identity("First 2 + 3 = 5.", ["2+3=5"]), identity("It is **Paris**.", [])
    ('2+3=5', 'itisparis.')
    """
    return "\n".join(equations) or normalized(text)


def normalized(text: str) -> str:
    r"""Return the text in lower case, without white space and markup.

    Examples
    --------
    >>> normalized("It is $\\dfrac{1}{2}$ – **half**.")
    'itis\\frac12-half.'
    """
    plain = unicodedata.normalize("NFKC", text).translate(_CHARACTERS)
    for spelling, same in _SPELLING:
        plain = plain.replace(spelling, same)
    return _MARKUP.sub("", _COMMANDS.sub("", plain)).casefold()
