r"""Mathematical equality of two answers, in worker processes (see `isolated_workers`): SymPy may never return.

An answer is read as a whole: either latex2sympy2_extended parses all of it as one expression, or it is unreadable.
(The usual function, math-verify's `parse`, takes the first expression that it finds in a text. With it,
`1 - 1/\mathrm{e}` is 1 and `x \equiv 3 \pmod 7` is 7.) Two expressions are compared by math-verify. Its comparison of
numbers, which calls everything below about 1e-17 equal, is replaced by an exact one. An unreadable answer equals only
its own text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from cos_assets.grading import isolated_workers, units
from cos_assets.grading.notation import conclusion, normalise, plain, same_text

# Whether a gold and an answer are equal, or the reason why this could not be decided.
Outcome = bool | str
NAME = "math-verify"
# Largest relative difference at which a decimal number equals an irrational one: 1.41421356 equals \sqrt{2}.
ROUNDING = 5e-7


def equivalent(pairs: Sequence[tuple[str, str]], workers: int, timeout: float) -> list[Outcome]:
    r"""Return for each pair, in order, whether gold and answer are mathematically equal.

    Parameters
    ----------
    pairs : sequence of tuple
        (gold, answer), in LaTeX or as people write mathematics.
    workers : int
        The number of worker processes; fewer are started for few pairs. A worker takes about a second to start.
    timeout : float
        Seconds of processor time per pair.

    Returns
    -------
    list of bool or str
        A str is the reason why equality could not be decided.

    Raises
    ------
    RuntimeError
        If math-verify cannot be loaded.

    Examples
    --------
    >>> equivalent([("\\frac{1}{2} x", "x/2"), ("\\sqrt{2}", "2")], workers=1, timeout=30)
    [True, False]
    """
    items = [{"gold": gold, "answer": answer} for gold, answer in pairs]
    return isolated_workers.ask(__name__, items, workers, timeout, NAME, "math-verify[antlr4_13_2]")


def _compare(item: dict[str, Any]) -> Outcome:
    from sympy.core.random import seed

    seed(0)  # SymPy tests random numbers where it cannot decide otherwise
    gold, answer = normalise(item["gold"]), normalise(item["answer"])
    if same_text(gold, answer):
        return True
    if all(map(_only_words, (gold, answer))):
        return _listed(gold) == _listed(answer)
    if all(map(_CLOCK.fullmatch, (gold, answer))):
        return gold.lstrip("0") == answer.lstrip("0")
    value, unit = units.split(gold, symbols=False)
    other, another = units.split(answer, symbols=not _variables(value))
    if not (_BASE.search(value) and _BASE.search(other)):  # ignore the base if one of them omits it
        value, other = _BASE.sub(r"\1", value), _BASE.sub(r"\1", other)
    imaginary = _imaginary(value) or _imaginary(other)
    want, got = _parsed(value, imaginary), _parsed(other, imaginary)
    if got is None and (end := conclusion(answer)):
        return _compare({"gold": item["gold"], "answer": end})
    if want is None or got is None:
        return _unread(want, got, gold, answer)
    if _divides_by_zero(got) or not _equal(want, got):
        return False
    if (same := units.same(unit, another)) is None:
        return f"cannot tell whether the units {unit[:40]!r} and {another[:40]!r} agree"
    return same


def _unread(want: Any, got: Any, gold: str, answer: str) -> Outcome:
    """Return the outcome for a pair with unreadable text.

    Plain text that differs is a different answer. A formula that cannot be read may still be equal.
    """
    if (want is not None or plain(gold)) and (got is not None or plain(answer)):
        return False
    name, text = ("gold answer", gold) if want is None and not plain(gold) else ("answer", answer)
    return f"the {name} {text[:80]!r} cannot be read as mathematics"


_CLOCK = re.compile(r"(?:[01]?\d|2[0-3]):[0-5]\d")
_LETTERS = re.compile(
    r"\\(?:text|math[a-z]+|begin|end|operatorname|overline|bar|vec|hat)\{[^{}]*\}|\\[A-Za-z]+|([A-Za-z]+)"
)
_INDEX = re.compile(r"_\{[^{}]*i|\bi\s*(?:=|\\in|\\le)|\\sum|\\prod")
_BASE = re.compile(r"(?<![\w.}])([0-9A-Z]*\d[0-9A-Z]*(?:\.\d+)?)\s*_\{(\d+)\}")
_WORDS = re.compile(r"(?:\\text\{[^{}\d]*\}|[A-Za-z\s.,'\"-])+")


def _only_words(text: str) -> bool:
    """Return whether a text consists of words. Read as letters, they would be products, whose order does not matter."""
    return bool(_WORDS.fullmatch(text)) and any(map(_is_word, re.findall("[A-Za-z]+", text.replace("\\text", ""))))


def _listed(words: str) -> list[str]:
    return sorted(re.sub(r"\\text\{([^{}]*)\}", r"\1", words).replace(" ", "").casefold().split(","))


# --- reading ---------------------------------------------------------------------------------------------------------

_SHORT_WORDS = frozenset("of is if to in at by no an on as it be we he us up so do".split())  # noqa: SIM905


def _is_word(run: str) -> bool:
    """Return whether a run of letters is a word.

    Variables appear side by side in pairs or in alphabetical order: `ab`, `xyz`. Other runs of letters are words.
    """
    return run.lower() in _SHORT_WORDS or (len(run) > 2 and list(run) != sorted(set(run)))


def _prose(text: str) -> bool:
    """Return whether words appear beside numbers and variables. Read as letters, the words would be factors."""
    words = re.sub(r"\\text\{[^{}]*\}", " words ", text)
    return any(
        _is_word(run[0])
        and (re.search(r"[\w)}\]]\s+$", words[: run.start()]) or re.match(r"\s+[\w({\\]", words[run.end() :]))
        for run in re.finditer(r"(?<![\\A-Za-z])[A-Za-z]{2,}", words)
    )


def _variables(text: str) -> str:
    """Return all letters that are not part of a command or a word."""
    return "".join(run[1] or "" for run in _LETTERS.finditer(text))


def _imaginary(text: str) -> bool:
    """Return whether i is the imaginary unit and not an index."""
    return "i" in _variables(text) and not _INDEX.search(text)


@lru_cache(maxsize=4096)
def _parsed(text: str, imaginary: bool) -> Any:
    """Return the SymPy expression of the whole text, or None.

    Results are cached because a gold answer is compared with many answers.
    """
    from sympy import Basic, Function, MatrixBase, Mod, Union

    if _prose(text) or not text:
        return None
    text = _BASE.sub(r"\\text{\1base\2}", text)
    # I is reserved for the parser's imaginary unit. Without braces, the parser ignores the exponent of I.
    unit = "{I}" if imaginary else "i"
    text = _LETTERS.sub(lambda run: run[0].replace("I", "\\text{I}").replace("i", unit) if run[1] else run[0], text)
    if not re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):
        text = text.replace("^{\\circ}", "")
    text = re.sub(r"%(?=\s*(?:[,;)\]]|$))", "", text)
    if "matrix" not in text:  # the parser would read it as a transpose, which a number does not have
        text = re.sub(r"\^\{(?:T|\\top)\}", r"^{\\text{T}}", text)
    if re.search(r"\\\{[^{}]*:", text):  # the parser would read the colon of a set as a division
        return None
    if re.search(r"\{[^{}]*\\pm", text) and text.count("\\pm") == 1:  # the parser reads \pm only between terms
        name, is_, value = text.rpartition("=")
        text = name + is_ + ", ".join(value.replace("\\pm", sign) for sign in "+-")
    if not re.search(r"[<>]|\\[lg]e(?![a-z])", text):
        text = re.sub(r"\s*\\lor(?![a-z])", ",", text)
    parser = _parser()(is_real=None if imaginary else True, convert_degrees=True)
    try:
        if congruence := re.fullmatch(r"(?:(.*)(?:\\equiv|=))?(.*)\\mod(.*)", text):
            left, right, modulus = (parser.parse(side or "0") for side in congruence.groups())
            return Function("congruent")(Mod(left - right, modulus), modulus)
        name, _, terms = text.rpartition("=")
        if terms.count(":") > 1 and name.count(":") in (0, terms.count(":")):
            list(map(parser.parse, name.split(":") if name else []))
            first, *others = map(parser.parse, terms.split(":"))
            return Function("ratio")(*(other / first for other in others))
        if "\\lor" in text:  # of inequalities
            return Union(*(parser.parse(part).as_set() for part in text.split("\\lor")))
        found = parser.parse(text)
    except MemoryError:
        raise
    except Exception:  # the parser, SymPy and ANTLR raise many types
        return None
    return found if isinstance(found, Basic | MatrixBase) else None


_SIDE_BY_SIDE = re.compile(r"(?<![_^\d.])[\d.]+ (?:\d|\\frac\{\d+\}\{\d+\}$)")


@cache
def _parser() -> Any:
    from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy
    from sympy import Rational, Symbol

    class Parser(_Latex2Sympy):
        """A parser with exact decimals and products of adjacent factors. What the base class ignores is an error."""

        def parse_number(self, text: str) -> Any:
            return Rational(text.replace(",", ""))

        def convert_atom(self, atom: Any) -> Any:
            if atom.number_subexpr() and atom.number_subexpr().subexpr():
                raise ValueError("a number has no index")
            return super().convert_atom(atom)

        def convert_exp(self, exp: Any) -> Any:
            if exp.subexpr():
                raise ValueError("an index behind a power")
            return super().convert_exp(exp)

        def convert_frac(self, frac: Any) -> Any:
            top, bottom = (part.getText().replace(" ", "") for part in (frac.upper, frac.lower))
            if re.fullmatch(r"d\w d\w", f"{top} {bottom}"):  # the derivative of a function, not of a constant
                return Symbol(f"{top}/{bottom}")
            return super().convert_frac(frac)

        def convert_func(self, func: Any) -> Any:
            if func.subexpr() and not (func.FUNC_INT() or func.getText().startswith("\\log")):
                raise ValueError("a function has no index")
            return super().convert_func(func)

        def convert_postfix_list(self, arr: list[Any], i: int = 0) -> Any:
            first = self.convert_postfix(arr[i])
            if i == len(arr) - 1 and not isinstance(first, list):
                return first
            if isinstance(first, list):  # the operator of a derivative
                return super().convert_postfix_list(arr, i)
            if _SIDE_BY_SIDE.search(f"{arr[i].getText()} {arr[i + 1].getText()}"):
                raise ValueError("two numbers side by side are not one")
            rest = self.convert_postfix_list(arr, i + 1)
            matrix = getattr(first, "is_Matrix", False) or getattr(rest, "is_Matrix", False)
            return (self.mat_mul_flat if matrix else self.mul_flat)(first, rest)

    return Parser


def _divides_by_zero(expression: Any) -> bool:
    """Return whether an expression divides by zero. Simplified in some orders, 0/0 becomes a number."""
    from sympy import Basic, Pow, nan, zoo

    powers = expression.atoms(Pow) if isinstance(expression, Basic) else ()
    return expression.has(nan, zoo) or any(power.base.is_zero and power.exp.is_negative for power in powers)


# --- comparing -------------------------------------------------------------------------------------------------------


@cache
def _verify() -> Any:
    """Return math-verify's `verify` with two of its parts replaced. The package offers no other way to change them."""
    from math_verify import grader
    from sympy import Ne

    solve = grader.sympy_solve_and_compare

    def solved(gold: Any, answer: Any, *precision: int) -> bool:
        # Two equations without a solution would be equal, because both lists of solutions are empty.
        from sympy import solve as solutions

        return bool(solutions(gold, gold.free_symbols)) and solve(gold, answer, *precision)

    grader.INVERSE_RELATIONS[Ne] = Ne
    grader.sympy_numeric_eq = _same_number
    grader.sympy_solve_and_compare = solved
    return grader.verify


def _equal(want: Any, got: Any) -> bool:
    # An interval may be the solution of an inequality.
    return bool(_verify()(want, got, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True))


def _same_number(one: Any, other: Any, *_: int) -> bool:
    """Return whether two numbers, or two matrices of numbers, are equal.

    The comparison is exact; that of a decimal and an irrational number is to six digits. The difference is evaluated
    until its sign is certain, so no number is too small to differ.
    """
    from sympy import Expr, MatrixBase

    one, other = one.doit(), other.doit()
    if isinstance(one, MatrixBase) and isinstance(other, MatrixBase):
        return one.shape == other.shape and all(map(_same_number, one.flat(), other.flat()))
    if not isinstance(one, Expr) or not isinstance(other, Expr):
        return False
    if one == other or (one.is_Rational and other.is_Rational) or one.free_symbols or other.free_symbols:
        return bool(one == other)
    difference = (one - other).evalf(15, maxn=300)
    if not difference.is_number or not difference.is_finite:
        return False
    if all(part.is_zero or getattr(part, "_prec", 0) == 1 for part in difference.as_real_imag()):
        return True
    decimal, exact = (one, other) if one.is_Rational else (other, one)
    if not _is_decimal(decimal):
        return False
    return bool(abs(difference) <= ROUNDING * abs(exact.evalf()))


def _is_decimal(number: Any) -> bool:
    return bool(number.is_Rational and not number.is_Integer and 10 ** int(number.q).bit_length() % int(number.q) == 0)


if __name__ == "__main__":
    isolated_workers.serve(NAME, _compare, {"gold": "$\\frac{1}{2} x$", "answer": "$\\frac{x}{2}$"})
