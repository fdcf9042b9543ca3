r"""Formulas in LaTeX: found in a text, split into sides, and computed."""

from __future__ import annotations

import pytest

from cos_assets.grading import formulas
from cos_assets.grading.steps import check_equations, equations

# text, canonical equations
TRUE = [
    ("$2^3 + 1 = 9$", ["2^{3}+1=9"]),
    (r"\(3^2 + 4^2 = 5^2\)", ["3^{2}+4^{2}=5^{2}"]),
    ("$3{,}000 + 500 = 3{,}500$", ["3000+500=3500"]),
    (r"\[5! = 120\]", ["5!=120"]),
    (r"$\frac{8!}{3!5!} = 56$", [r"\frac{8!}{3!\cdot5!}=56"]),
    (r"$\binom{5}{2} = 10$", [r"\binom{5}{2}=10"]),
    (r"$1\frac12 + 1\frac12 = 3$", [r"1\frac{1}{2}+1\frac{1}{2}=3"]),
    ("$2(3)(4) = 24$", ["2*3*4=24"]),
    (r"$2\sqrt{9} = 6$", [r"2\cdot\sqrt{9}=6"]),
    (r"$\sqrt[3]{27} + 1 = 4$", [r"\sqrt[3]{27}+1=4"]),
    (r"$\sqrt2 \approx 1.41$", [r"\sqrt{2}≈1.41"]),
    (r"$\pi \cdot 5^2 = 25\pi \approx 78.5$", [r"\pi\cdot5^{2}=25\cdot\pi", r"25\cdot\pi≈78.5"]),
    (r"$\frac{3}{4} = 75\%$", [r"\frac{3}{4}=75%"]),
    ("$-2^2 = -4$ and $(-2)^2 = 4$", ["-2^{2}=-4", "(-2)^{2}=4"]),
    ("$10^{-3} = 0.001$", ["10^{-3}=0.001"]),
    (r"$3 \text{ cm} \cdot 4 \text{ cm} = 12 \text{ cm}^2$", ["3*4=12"]),
    (r"$\$5 + \$3 = \boxed{\$8}$", ["3+5=8"]),
    (r"$90^\circ + 45^\circ = 135^\circ$", ["45+90=135"]),
    (r"\begin{align*} x &= 2 + 3 \\ &= 5 \end{align*}", ["2+3=5"]),
    (r"\[\begin{aligned} x &= \frac{8}{2} \\[2pt] &= 4, \quad 2 + 2 = 4 \end{aligned}\]", [r"\frac{8}{2}=4", "2+2=4"]),
    ("$5$ + $3$ = $8$", ["3+5=8"]),
    ("She pays $5 + $3 = $8.", ["3+5=8"]),
    ("$101_2 = 4 + 1 = 5$", ["1+4=5"]),
    ("$9 > 2 + 3 = 5$", ["2+3=5"]),
]
FALSE = [
    "$2^3 = 6$",
    r"$\frac12 + \frac13 = \frac25$",
    r"$\sqrt{16} = 5$",
    r"\(3 \cdot 4 = 13\)",
    r"\[ \frac{10}{4} = 2.6 \]",
    r"$x = 2 \cdot 3 = 7$",
    "$3{,}000 + 500 = 3{,}600$",
    r"$\binom{5}{2} = 20$",
    "$5! = 100$",
    "$2(3)(4) = 25$",
    r"\begin{align*} x &= 2 + 3 \\ &= 6 \end{align*}",
    r"$3 + 4 = \boxed{8}$",
    r"$\sqrt2 \approx 1.6$",
    "$2x = 10$, and $10 / 2 = 6$",
]
UNREADABLE = [
    "$x^2 + 5 = 9$",
    "$2x - 3 = 7$, so $2x = 10$",
    r"$\sin 30^\circ + 1 = \frac32$",
    "$|{-3}| + 2 = 5$",
    r"$\lfloor 7/2 \rfloor = 3$",
    r"$\log_2 8 + 1 = 4$",
    "$101_2 + 1 = 6$",
    r"$7 + 8 \equiv 3 \pmod{12}$",
    r"$7 + 8 = 3 \pmod{12}$",
    r"in base $7$, we have $44 \times 55 = 3506$",
    r"The inverse of 50 modulo 1199 exists, as they have no common factor. "
    + "It is found in steps. " * 9
    + "$50^{-1} = 24$",
    r"In $\mathbb{Z}_7$ we have $3 + 5 = 1$",
    r"$1 + 2 + \cdots + 10 = 55$",
    r"$0.\overline{3} + 0.\overline{6} = 1$",
    "$2 + 3i + 1 = 3 + 3i$",
    "$(2, 3) + (1, 1) = (3, 4)$",
    r"$17 \div 5 = 3$ remainder $2$",
    r"$17 \div 5 = 3 \text{ R } 2$",
    r"$2 \text{ hours} + 30 \text{ minutes} = 150 \text{ minutes}$",
    r"$\frac12\text{ hour} = 30\text{ minutes}$",
    r"$10\,000 - 1 = 9\,999$",
    "$3 * 4 = 19$",
    r"$3 \star 4 = 19$",
    "$6/2(3) = 1$",
    "$2^10 = 1024$",
    r"$5 \pm 2 = 7$",
    r"$\frac{\pi}{3} = 60^\circ$",
    r"$50 - 20\% = 40$",
    r"$2 + 3 \ne 6$",
    "$2 + 3 < 6$",
    r"$1000 \cdot 1.01875^8 = 1160$, to the nearest dollar",
    r"$\begin{pmatrix} 1 + 1 = 3 \end{pmatrix}$",
    r"$$1 + 2 \\ + 4 = 5$$",
    r"$$1 + 2 + \\ 4 = 5$$",
    "$9^{9^{9}} = 1$",
]


@pytest.mark.parametrize(("text", "found"), TRUE)
def test_true_formulas_are_right(text: str, found: list[str]) -> None:
    assert equations(text) == tuple(found)
    assert check_equations(text).label == "right"


@pytest.mark.parametrize("text", FALSE)
def test_false_formulas_are_wrong(text: str) -> None:
    assert check_equations(text).label == "wrong"


@pytest.mark.parametrize("text", UNREADABLE)
def test_unreadable_formulas_are_skipped(text: str) -> None:
    assert check_equations(text).label == "unreadable"
    assert check_equations(f"{text} So $3 + 4 = 7$.").label == "right"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It costs $5, so $x = 3$ and $10 is left.", ["x = 3"]),
        ("$5 + $3 = $8", []),
        (r"a $$x = 1$$ b \(y\) c \[z\] d", ["x = 1", "y", "z"]),
        (r"\begin{align*} a &= b \end{align*}", [" a &= b "]),
        ("$ a = b $ and $c$", [" a = b ", "c"]),
        ("costs $5\n\nand $x$", ["x"]),
        (r"\$5 and \$6", []),
        ("$12$ and $3,000$", []),
    ],
)
def test_formulas_are_separated_from_the_text_at_their_positions(text: str, found: list[str]) -> None:
    plain, latex = formulas.split(text)
    assert [formula for _, formula in latex] == found
    assert len(plain) == len(text)
    assert all(text[at : at + len(formula)] == formula for at, formula in latex)


@pytest.mark.parametrize(
    "text",
    [
        r"$9^{9^{9^9}} = 1$",
        r"$9^{99999999} = 1$",
        r"$99999999! = 1$",
        r"$((9^{999})^{999})^{999} = 1$",
        r"$\frac{9^{9^9} - 1}{3! + 2} = 1$",
        r"$\sqrt[9]{9^{9^9}} = 1$",
        r"$\binom{9^{99}}{5} = 1$",
        r"$(9!)^{9999} = 1$",
        "$" + r"\sqrt{" * 100 + "3" + "}" * 100 + " = 1$",
        "$" + "(" * 100 + r"\frac{1}{2}" + ")" * 100 + " = 1$",
        "$" + "1+" * 10_000 + r"\sqrt{2} = 1$",
    ],
)
def test_huge_numbers_and_deep_formulas_are_unreadable(text: str) -> None:
    assert check_equations(text).label == "unreadable"


@pytest.mark.parametrize(
    "piece", ["$", "$a", "$ ", r"\(", r"\[", r"\begin{align}", r"\boxed{", r"\text{", r"\quad ", "&", r"\\"]
)
def test_long_unclosed_formulas_are_read_in_linear_time(piece: str) -> None:
    """The text is read in time proportional to its length: a quadratic reader would take hours."""
    assert check_equations(piece * 20_000 + " = 3").label == "unreadable"
    assert check_equations("$" + piece * 20_000 + " = 3$").label == "unreadable"
