"""Conversion of the digits, letters and signs of all scripts to ASCII and LaTeX."""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_RAISED, _LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ", "₀₁₂₃₄₅₆₇₈₉₊₋₍₎"
_LEVEL = str.maketrans(_RAISED + _LOWERED, "0123456789+-()ni0123456789+-()")
_SIGNS = str.maketrans(
    {
        "−": "-", "‐": "-", "‑": "-", "‒": "-", "⁄": "/", "∕": "/", "∗": "*", "⋆": "*", "′": "'", "’": "'", "″": "''",
        "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "•": r"\cdot ", "÷": r"\div ",
        "±": r"\pm ", "∓": r"\mp ", "≤": r"\le ", "≦": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "≧": r"\ge ", "⩾": r"\ge ",
        "≠": r"\ne ", "≈": r"\approx ", "≅": r"\approx ", "≡": r"\equiv ", "∞": r"\infty ", "∅": r"\emptyset ",
        "Ø": r"\emptyset ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∉": r"\notin ", "∖": r"\setminus ",
        "⊆": r"\subseteq ", "⊂": r"\subset ", "°": r"^\circ ", "º": r"^\circ ", "√": r"\sqrt ", "…": r"\ldots ",
        "⋯": r"\ldots ", "⟨": "(", "⟩": ")", "→": r"\to ", "∠": r"\angle ", "∑": r"\sum ", "∫": r"\int ",
        "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
        "٫": ".", "٬": ",", "٪": "%", "“": '"', "”": '"', "。": ".", "、": ",",
    }
)  # fmt: skip


def _vulgar(fraction: re.Match[str]) -> str:
    over, _, under = unicodedata.normalize("NFKC", fraction[0]).partition("⁄")
    return rf"\frac{{{over}}}{{{under}}}"


_GREEK = re.compile("[Α-ΡΣ-Ωα-ρσ-ωϕ]")


def _greek(found: re.Match[str]) -> str:
    name = unicodedata.name(unicodedata.normalize("NFKC", found[0])).replace("LAMDA", "LAMBDA").split()
    return f"\\{name[-1].lower() if 'SMALL' in name else name[-1].capitalize()} "


def characters(text: str) -> str:
    """Convert digits of all scripts, full-width letters, raised and lowered digits, fractions and signs.

    The result is in ASCII and LaTeX.
    """
    text = _INVISIBLE.sub("", text)
    if text.isascii():
        return text
    text = re.sub(r"(?:\d[\u0305\u0307])+", lambda run: f"\\overline{{{run[0][::2]}}}", text)  # 0.1̅6̅
    text = re.sub(f"[{_RAISED}]+", lambda run: "^{" + run[0].translate(_LEVEL) + "}", text)
    text = re.sub(f"[{_LOWERED}]+", lambda run: "_{" + run[0].translate(_LEVEL) + "}", text)
    text = re.sub("[¼-¾⅐-⅞]", _vulgar, text)
    text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SIGNS)
    text = re.sub(r"[^\x00-\x7f]", lambda one: str(unicodedata.decimal(one[0], one[0])), text)
    # Between two numbers a long dash may be a range; elsewhere it is a minus.
    text = re.sub(r"(?<![\d\s])(\s*)[–—](?=\s*[\d.\\(A-Za-z])", r"\1-", text)
    return _GREEK.sub(_greek, text)
