"""Checks of the reasoning in a solution, not only of its answer: arithmetic without a model.

`check_equations` reads any text and checks the arithmetic of each equation that it finds. `check_program` uses the
program behind a problem, and its decision is certain.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from cos_assets.grading.equations import holds, read
from cos_assets.grading.expressions import Tree, parse, tokens, value

# A Mersenne prime. Two different polynomials of degree d agree at a random point with probability at most d / PRIME
# (Schwartz-Zippel). With two points, wrong chains of five steps pass with a probability below 1e-30.
PRIME = 2**61 - 1
POINTS = 2
MAX_READINGS = 4096

Residues = tuple[int, ...]


@dataclass(frozen=True)
class StepCheck:
    """The result of a check.

    Attributes
    ----------
    label : {"right", "wrong", "unreadable"}
        The decision.
    first_wrong_step : int or None
        The number of the equation, from 1; None if no single step is to blame.
    reason : str or None
        Why the label is not "right".

    Examples
    --------
    >>> StepCheck("wrong", 1, "step 1: 2+3=6 is not true").label
    'wrong'
    """

    label: Literal["right", "wrong", "unreadable"]
    first_wrong_step: int | None
    reason: str | None


def equations(text: str) -> tuple[str, ...]:
    """Return every equation of a text in canonical form: no spaces, the operands of + and of * sorted.

    Examples
    --------
    >>> equations("She has 5 + 3 = 8 eggs. 8*2 = <<8*2=16>>16")
    ('3+5=8', '2*8=16')
    """
    return tuple(map(str, read(text)))


def check_equations(text: str) -> StepCheck:
    """Check whether every equation in a text is true.

    The meaning of the numbers is not judged. Plain text may contain calculator marks (`<<16-3-4=9>>9`), currency signs,
    thousands commas, units behind numbers, `x`, `×`, `÷`, "50% of 20 = 10", and chains (`16 - 3 = 13 - 4 = 9`, where
    each result is carried on). Formulas in LaTeX may also contain powers, roots, fractions, factorials, binomials and
    π. A decimal result may be rounded or truncated at its last digit. An equation is skipped if any of its tokens is
    not understood, or if it is false and has another common reading (see `equations`).

    Returns
    -------
    StepCheck
        The label is "unreadable" if no equation can be read.

    Examples
    --------
    >>> check_equations("16 - 3 = 13 - 4 = 9 eggs, and 9 * 2 = $19.")
    StepCheck(label='wrong', first_wrong_step=3, reason='step 3: 2*9=19 is not true')
    """
    told = False
    for number, equation in enumerate(read(text), 1):
        true = holds(equation)
        if true is False:
            return StepCheck("wrong", number, f"step {number}: {equation} is not true")
        told = told or true is not None
    return StepCheck("right", None, None) if told else StepCheck("unreadable", None, "no equation found")


@lru_cache(maxsize=20_000)  # finetuned models often write the same solution
def check_program(truth: str, text: str) -> StepCheck:
    """Check whether a solution computes what the problem asks, by any correct chain of steps.

    A solution is right if each equation is true, each operand is a number of the problem or an earlier result, and the
    stated answer (the last result, if none is stated) equals the result of the gold program for any other numbers too.
    For this, literals are replaced by random residues modulo a large prime, and constants are kept (the polynomial
    identity test of Schwartz and Zippel). This catches 2 + 2 for 2 * 2 and errors that cancel, while reordered and
    equivalent chains pass. If a written number may denote several values (an earlier result equal to a literal), any
    reading that makes the solution right is accepted. The check is deterministic: the residues come from a seed.

    Parameters
    ----------
    truth : str
        JSON: {"literals": [12, 3, 4], "constants": [index, ...], "program": [["*", 1, 2], ["+", 0, 3]]}. Operand i is
        literal i, or the result of step i - len(literals).
    text : str
        The solution, one equation per sentence or line.

    Raises
    ------
    ValueError
        If `truth` does not have this form.

    Examples
    --------
    >>> truth = '{"literals": [2, 2], "constants": [], "program": [["*", 0, 1]]}'
    >>> check_program(truth, "2 * 2 = 4 .").label, check_program(truth, "2 + 2 = 4 .").label
    ('right', 'wrong')
    """
    literals, at_random, gold = _program(truth)
    known: dict[int, set[Residues]] = {}
    for literal, residues in zip(literals, at_random, strict=True):
        known.setdefault(literal, set()).add(residues)
    step, last, stated = 0, None, None
    for sentence in re.split(r"[.\n]", text):
        if not sentence.strip():
            continue
        answer = _ANSWER.fullmatch(sentence)
        if answer:
            stated = int(answer[1])
            continue
        parsed = _sentence(sentence)
        step += 1
        if parsed is None:
            return StepCheck("unreadable", step, f"step {step}: {sentence.strip()[:60]!r} is no equation")
        tree, numbers, last, true = parsed
        if not true:
            return StepCheck("wrong", step, f"step {step}: {sentence.strip()} is not true")
        missing = next((n for n in numbers if n not in known), None)
        if missing is not None:
            return StepCheck("wrong", step, f"step {step}: {missing} is no number of the problem and no earlier result")
        try:
            known[last] = _readings(tree, known) | known.get(last, set())
        except _TooMany:
            return StepCheck("unreadable", step, f"step {step}: more than {MAX_READINGS} readings of equal numbers")
    if last is None:
        return StepCheck("unreadable", None, "no equation found")
    if gold in known.get(last if stated is None else stated, ()):
        return StepCheck("right", None, None)
    return StepCheck("wrong", None, "every step is true, but they do not compute what the problem asks")


_ANSWER = re.compile(r"\s*The answer is (\d{1,40})\s*")
_SENTENCE = re.compile(r"([-+*/() \d]+)=\s*(\d{1,40})\s*")


@lru_cache(maxsize=50_000)
def _sentence(sentence: str) -> tuple[Tree, tuple[int, ...], int, bool] | None:
    """Return the expression of a step, the numbers in it, its result, and whether the equation is true.

    Returns None if the step is not an equation. Results are cached because thousands of solutions share the same
    steps.
    """
    match = _SENTENCE.fullmatch(sentence)
    tree = parse(tokens(match[1])) if match else None
    if match is None or tree is None or isinstance(tree, str):
        return None
    result = int(match[2])
    return tree, tuple(map(int, _numbers(tree))), result, value(tree) == result


@lru_cache(maxsize=4096)
def _program(truth: str) -> tuple[tuple[int, ...], tuple[Residues, ...], Residues]:
    """Return the literals, their residues at each point, and the residues of the gold result."""
    try:
        data = json.loads(truth)
        literals = tuple(int(n) for n in data["literals"])
        rng = random.Random(f"cos_assets steps {truth}")
        at_random = [tuple(rng.randrange(1, PRIME) for _ in range(POINTS)) for _ in literals]
        for i in data["constants"]:
            at_random[i] = (literals[i] % PRIME,) * POINTS
        values = list(at_random)
        for op, left, right in data["program"]:
            values.append(_residues(op, values[left], values[right]))
        if len(values) == len(literals):
            raise IndexError("no step")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        shape = '{"literals": [...], "constants": [...], "program": [[op, i, j], ...]}'
        raise ValueError(f"truth: {str(truth)[:80]!r} ({error}); allowed: {shape}") from None
    return literals, tuple(at_random), values[-1]


def _residues(op: str, left: Residues, right: Residues) -> Residues:
    if op == "+":
        return tuple((a + b) % PRIME for a, b in zip(left, right, strict=True))
    if op == "-":
        return tuple((a - b) % PRIME for a, b in zip(left, right, strict=True))
    if op == "*":
        return tuple(a * b % PRIME for a, b in zip(left, right, strict=True))
    if op == "/":
        return tuple(a * pow(b, PRIME - 2, PRIME) % PRIME for a, b in zip(left, right, strict=True))
    raise ValueError(f"operator {op!r}; allowed: + - * /")


class _TooMany(Exception):
    pass


def _readings(tree: Tree, known: dict[int, set[Residues]]) -> set[Residues]:
    if isinstance(tree, str):
        return known[int(tree)] if tree else {(0,) * POINTS}
    op, left, right = tree
    lefts, rights = _readings(left, known), _readings(right, known)
    if len(lefts) * len(rights) > MAX_READINGS:
        raise _TooMany
    return {_residues(op, a, b) for a, b in itertools.product(lefts, rights)}


def _numbers(tree: Tree) -> list[str]:
    if isinstance(tree, str):
        return [tree] if tree else []
    return [*_numbers(tree[1]), *_numbers(tree[2])]
