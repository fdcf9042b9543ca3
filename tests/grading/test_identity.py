"""Equality of solutions."""

from __future__ import annotations

import pytest

from cos_assets import tasks
from cos_assets.grading.identity import normalized

TASK = tasks.make({"name": "arithmetic", "train": 1, "validation": 1, "test": 1})

SAME = [
    ("The  interval is\n(-5, 2].", "the interval is (-5,2]."),
    (r"Thus $x$ lies in $\left(-5, 2\right]$.", r"Thus \(x\) lies in \((-5, 2]\)."),
    ("**So** it is `even`.", "So it is even."),
    ("# Solution\nIt is even.", "Solution It is even."),
    (r"\[\dfrac{a}{b}\]", r"$$\frac{a}{b}$$"),
    (r"$a \cdot b$ is \textbf{prime}", "$a * b$ is prime"),
    ("It’s “even” – so", 'It\'s "even" - so'),
    (r"So \boxed{x}", "So x"),
    (r"$a\,b\quad c$", "$a b c$"),
    ("Ｘ is 3", "x is 3"),
]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_solutions_are_equal_despite_case_space_and_markup(one: str, two: str) -> None:
    assert normalized(one) == normalized(two)
    assert TASK.identity(one) == TASK.identity(two)


DIFFERENT = [
    ("The sign changes at the zero.", "Graph the function."),
    ("$x < 3$", "$x > 3$"),
    ("$(-5, 2]$", "$(-5, 2)$"),
    (r"$\sin x$", r"$\cos x$"),
    ("$-x$", "$x$"),
    ("$x^2$", "$x^3$"),
    (r"$\frac{a}{b}$", r"$\sqrt{a}{b}$"),
    ("", "x"),
]


@pytest.mark.parametrize(("one", "two"), DIFFERENT)
def test_solutions_with_other_words_or_formulas_differ(one: str, two: str) -> None:
    assert TASK.identity(one) != TASK.identity(two)


def test_solutions_are_compared_by_equations_before_words() -> None:
    assert TASK.identity("First 3 + 4 = 7 .") == TASK.identity("Adding up: 4 + 3 = 7 .")
    assert TASK.identity("3 + 4 = 7 .") != TASK.identity("3 + 5 = 8 .")
    assert TASK.identity("3 + 4 = 7 .") != TASK.identity("Three and four make seven.")


def test_solutions_are_compared_without_their_reasoning() -> None:
    assert TASK.identity("<think>by parity</think>It is even.") == TASK.identity("<think>by sight</think>It is even.")
