"""A common notation for the formulas of people and models."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cos_assets.grading.characters import characters
from cos_assets.grading.notation import bare, conclusion, normalise, plain, same_text, words


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("４２", "42"), ("٤٢", "42"), ("۴۲", "42"), ("४२", "42"), ("𝟒𝟐", "42"), ("１，０００", "1,000"), ("٣٫٥", "3.5"),
        ("−5", "-5"), ("－5", "-5"), ("x – 5", "x - 5"), ("3–5", "3–5"),
        ("½", r"\frac{1}{2}"), ("⅔", r"\frac{2}{3}"), ("x²", "x^{2}"), ("10⁻³⁴", "10^{-34}"), ("a₁₂", "a_{12}"),
        ("π", "\\pi "), ("λ", "\\lambda "), ("Ω", "\\Omega "), ("𝜋", "\\pi "), ("0.1̅6̅", r"0.\overline{16}"),
        ("x\u200b+\x001", "x+1"), ("plain", "plain"),
    ],
)  # fmt: skip
def test_characters_are_normalized(written: str, normal: str) -> None:
    assert characters(written) == normal


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        # Markup.
        ("$5$", "5"), (r"\(5\).", "5"), ("**5**", "5"), ("`5`", "5"), (r"\boxed{\text{5}}", "5"), ("{5}", "5"),
        (r"\text{Yes.}", "Yes"), ("${1,3}$", "{1,3}"), ("$5", r"\$5"), (r"\left( 1, 2 \right]", "(1, 2]"),
        (r"5\,x\;y\quad z", "5 x y z"), (r"\boxed{1} and \boxed{2}", "1, 2"), (r"so $x = \boxed{5}$ holds", "5"),
        (r"\\frac{1}{2}", r"\frac{1}{2}"), (r"\begin{pmatrix}a\\b\end{pmatrix}", r"\begin{pmatrix}a\\b\end{pmatrix}"),
        # Arguments.
        (r"\dfrac12", r"\frac{1}{2}"), (r"\frac\pi2", r"\frac{\pi}{2}"), (r"\sqrt2x", r"\sqrt{2}x"),
        (r"\sqrt[3]2", r"\sqrt[3]{2}"), ("√(x+1)", r"\sqrt{x+1}"), ("x^10", "x^{10}"), ("e^-x", "e^{-x}"),
        ("2^(n+1)", "2^{n+1}"), ("x**2", "x^{2}"), (r"\frac{\frac12}3", r"\frac{\frac{1}{2}}{3}"),
        # Numbers.
        ("1,234,567", "1234567"), ("(1,234)", "(1,234)"), ("10{,}000", "10000"), (r"12,\!345", "12345"),
        ("10 000", "10000"), ("4 4/9", r"\frac{40}{9}"), (r"-2\frac12", r"-\frac{5}{2}"), ("11 7/6", "11 7/6"),
        (r"0.1\overline{6}", r"\frac{15}{90}"), (r"0.\bar3", r"\frac{3}{9}"), ("0.333...", r"\frac{3}{9}"),
        ("0.(3)", r"\frac{3}{9}"), ("3.14159...", r"3.14159\ldots"), ("2.5e6", r"2.5 \times 10^{6}"),
        ("6.02 x 10^23", r"6.02 \times 10^{23}"), ("11\n5/6", "11, 5/6"),
        # Words.
        (r"5 \text{ or } 6", r"5 \lor 6"), ("5 and 6", "5, 6"), ("28 percent", "28%"), ("(-inf, 2)", r"(-\infty, 2)"),
        ("sin x", r"\sin x"), (r"\mathrm{e}", "e"), (r"5\text{ cm}", r"5\text{cm}"), (r"\mathbf{i}+1", r"\mathbf{i}+1"),
        ("x ≡ 3 (mod 7)", r"x \equiv 3 \mod 7"), (r"x \equiv 3 \pmod{7}", r"x \equiv 3 \mod 7"),
        ("f'(x)", r"f^{\prime}(x)"), ("90°", r"90^{\circ}"), (r"90^\circ", r"90^{\circ}"), (r"\{\}", r"\emptyset"),
        (r"\varnothing", r"\emptyset"), ("= 5", "5"),
        # Unknown commands are kept, and the parser refuses them.
        (r"\foo{5}", r"\foo{5}"), (r"1, 2, \dots", r"1, 2, \ldots"),
    ],
)  # fmt: skip
def test_notation_is_normalized_and_normalizing_is_idempotent(written: str, normal: str) -> None:
    assert normalise(written) == normal
    assert normalise(normalise(written)) == normalise(written)


@given(st.text(alphabet="\\{}$^_()[]|frac sqrtextboxed0123.,!'π²½x ", max_size=60))
def test_any_text_can_be_normalized(text: str) -> None:
    normal = normalise(text)
    assert same_text(normal, normal)
    assert isinstance(plain(normal), bool)
    assert conclusion(normal) is None or conclusion(normal)


@pytest.mark.parametrize(
    "sign", ["{", "}", "$", "\\text{", "^", "\\frac", "\\boxed{", "*", "(", "is ", "1", "1 ", "\\", "'"]
)
def test_long_texts_of_one_sign_are_normalized_in_linear_time(sign: str) -> None:
    """The texts have the maximum length of formulas."""
    normalise(sign * (2000 // len(sign)))
    bare(sign * 100_000)
    words(sign * 100_000)


def test_texts_in_another_notation_are_equal() -> None:
    same = [
        ("x^2 + 1", "$x^{2}+1$"),
        (r"9:30 \text{ a.m.}", "9:30 AM"),
        (r"\text{(C)}", "C"),
        (r"\dfrac12", "½"),
        ("A", "a"),
    ]
    other = [("12", "1 2"), ("9:30 a.m.", "9:30 p.m."), ("x^{12}", "x^{1}2"), ("2 of 3", "3 of 2")]
    assert [same_text(normalise(one), normalise(two)) for one, two in same] == [True] * len(same)
    assert [same_text(normalise(one), normalise(two)) for one, two in other] == [False] * len(other)


@pytest.mark.parametrize(
    ("sentence", "end"),
    [
        ("The answer is 5", "5"), ("so the sum is x + 1", "x + 1"), ("Therefore x > 5 is the solution", "x > 5"),
        ("We find that x < 3", "x < 3"), ("Final Answer: 7", "7"), ("The answer is 5. I hope it is correct", "5"),
        (r"\text{The total is} 5", "5"),
    ],
)  # fmt: skip
def test_the_conclusion_of_a_sentence_is_its_last_statement(sentence: str, end: str) -> None:
    assert conclusion(sentence) == end


@pytest.mark.parametrize("text", ["2 of 3", "all integers greater than 2", "5", "x = 5", r"9:30 \text{p.m.}"])
def test_a_text_without_a_conclusion_gives_none(text: str) -> None:
    assert conclusion(text) is None
