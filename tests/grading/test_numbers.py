"""Numbers are read exactly and completely or not at all, alone and in statements."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cos_assets.grading.numbers import (
    last_number,
    only_number,
    parse_number,
    stated_number,
    without_unit,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("460.", "460"),
        ("1,200", "1200"),
        ("109,200,000", "109200000"),
        ("12,00,000", "1200000"),
        ("10{,}000", "10000"),
        (r"10\,000", "10000"),
        ("1 000", "1000"),
        ("1\u202f000", "1000"),
        ("$1,200.50", "1200.5"),
        (r"\$18", "18"),
        ("$18$", "18"),
        ("18 €", "18"),
        ("₹500", "500"),
        ("USD 18", "18"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("−5", "-5"),
        ("minus 5", "-5"),
        ("+5", "5"),
        ("10%", "10"),
        (r"10\%", "10"),
        ("10 percent", "10"),
        (".5", "1/2"),
        ("16.5", "33/2"),
        ("1e3", "1000"),
        ("2.5E+6", "2500000"),
        (r"5 \times 10^3", "5000"),
        (r"5\cdot10^{-3}", "1/200"),
        ("5 × 10³", "5000"),
        ("10^6", "1000000"),
        ("3/4", "3/4"),
        (r"-\frac{3}{4}", "-3/4"),
        (r"\frac{-3}{4}", "-3/4"),
        (r"\dfrac{1}{2}", "1/2"),
        (r"\frac12", "1/2"),
        (r"\frac 1 2", "1/2"),
        ("½", "1/2"),
        ("2½", "5/2"),
        ("4 4/9", "40/9"),
        (r"4\frac{4}{9}", "40/9"),
        (r"0.\overline{3}", "1/3"),
        (r"0.1\overline{6}", "1/6"),
        ("5 million", "5000000"),
        ("$1.5 billion", "1500000000"),
        (r"5\text{ million}", "5000000"),
        ("2 hundred thousand", "200000"),
        ("2 1/2 dozen", "30"),
        ("0007", "7"),
        ("４２", "42"),
        ("٤٢", "42"),
        (r"\text{72}", "72"),
        (r"\mathbf{\frac{1}{2}}", "1/2"),
        (r"\(72\)", "72"),
        ("**72**", "72"),
        ("`72`", "72"),
    ],
)
def test_number_is_read_exactly(text: str, value: str) -> None:
    assert parse_number(text) == Fraction(value)


@pytest.mark.parametrize(
    "text",
    [
        "", "-", "$", ".", "1,22", "12,34", "1,2345", "1,2,3", "10 0000", "4:30", "3/0", "11 7/6", "1/2/3", "1\n000",
        "18 dollars", "1e9999", "x", "9" * 5000, "--5", "-$-5", "5!", "2^3", r"5\sqrt{2}", "5 6", "five", "5 or 6",
    ],
)  # fmt: skip
def test_a_text_that_is_not_one_number_gives_none(text: str) -> None:
    assert parse_number(text) is None


def plain(value: Decimal) -> str:
    return f"{value:f}"


NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=4)
FORMATS = st.sampled_from(
    [
        plain,
        lambda v: f"{v:,f}",
        lambda v: f"{v:,f}".replace(",", "{,}"),
        lambda v: f"{v:,f}".replace(",", " "),
        lambda v: f"{v:,f}".replace(",", r"\,"),
        lambda v: f"${v:,f}",
        lambda v: f"{v:f}%",
        lambda v: f"  {v:f}. ",
        lambda v: f"${v:f}$",
        lambda v: f"{v:f} €",
        lambda v: f"**{v:f}**",
        lambda v: rf"\text{{{v:f}}}",
        lambda v: f"{v:f}".replace("-", "−"),
        lambda v: f"{v:+f}",
        lambda v: f"{v:.4e}" if Decimal(f"{v:.4e}") == v else plain(v),
        lambda v: "{}{}/{}".format("-" if v < 0 else "", *abs(Fraction(v)).as_integer_ratio()),
    ]
)


@given(NUMBERS, FORMATS, FORMATS)
def test_formatting_does_not_change_a_number(value: Decimal, one: Any, other: Any) -> None:
    assert parse_number(one(value)) == parse_number(other(value)) == Fraction(value)


@given(NUMBERS, st.decimals(min_value=Decimal("0.0001"), max_value=1, places=4), FORMATS, FORMATS)
def test_the_smallest_difference_counts(value: Decimal, step: Decimal, one: Any, other: Any) -> None:
    less, more = parse_number(one(value)), parse_number(other(value + step))
    assert less is not None and more is not None and less < more


@given(NUMBERS, FORMATS)
def test_a_unit_behind_a_number_does_not_change_it(value: Decimal, form: Any) -> None:
    text = form(value).strip().rstrip(".")
    assert parse_number(str(without_unit(f"{text} clips"))) == Fraction(value)
    assert parse_number(str(stated_number(f"x = {text}"))) == Fraction(value)


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    assert parse_number(text) is None or isinstance(parse_number(text), Fraction)
    for read in (without_unit, stated_number, only_number, last_number):
        number = read(text)
        assert number is None or len(number) > 0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("72 clips", "72"),
        ("72 clips in April and May.", "72"),
        ("72 clips in 2 months", "72"),
        (r"72\,\text{clips}", "72"),
        (r"18 \text{ cm}^2", "18"),
        ("18 km/h", "18"),
        ("5cm", "5"),
        ("5°", "5"),
        ("5 µm", "5"),
        ("7 pm", "7"),
        ("$18 a day", "$18"),
        ("$18/hour", "$18"),
        ("$1,200.50 in all", "$1,200.50"),
        ("18 USD", "18"),
        ("25% of them", "25%"),
        ("18 dozen eggs", "18 dozen"),
        ("3 1/2 hours", "3 1/2"),
        ("about 72 clips", "72"),
        ("42, since 40+2 = 42", "42"),
        ("72 because 48 + 24 = 72", "72"),
        ("18 apples, not 20", "18"),
        ("72 (48 + 24)", "72"),
        ("72 - the total", "72"),
        ("72—the total", "72"),
        ("72. That is all", "72"),
        ("5 times as many", "5"),
        ("5 more apples", "5"),
        ("1/3 ≈ 0.33", "1/3"),
    ],
)
def test_units_and_explanations_are_not_part_of_the_number(text: str, number: str) -> None:
    assert without_unit(text) == stated_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("x = 5", "5"),
        (r"x = 5 \text{ cm}", "5"),
        ("3 + 4 = 7", "7"),
        ("72 = 48 + 24", "72"),
        ("Total: 72 clips", "72"),
        ("48 clips + 24 clips = 72 clips", "72"),
        ("a + b = 12", "12"),
        ("f(2) = 5", "5"),
        ("x_1 = 5", "5"),
        (r"\angle ABC = 50^\circ", "50"),
        (r"\text{Total} = 72", "72"),
        ("x ≈ 5.3", "5.3"),
        (r"x = \frac12 \approx 0.5", r"\frac{1}{2}"),
    ],
)
def test_a_number_is_read_from_a_side_of_an_equation(text: str, number: str) -> None:
    assert stated_number(text) == number
    assert without_unit(text) is None or text.startswith(number)


@pytest.mark.parametrize(
    "text",
    [
        "5 or 6", "5 and 6", "5, 6", "5, 6 and 7", "5-6", "5–6", "5 to 6", "5 (or 6)", "1/2 or 2", "5 or more", "5 ± 1",
        "9:30", "12:30 pm", "5 o'clock", "5 feet 3 inches", "5 feet, 3 inches", "2 hours 30 minutes",
        "3 hours and 20 minutes", "5 dollars and fifty cents", "18 and a half", "5x", "5 x", "5 x 3", "5i", "5!", "5^2",
        "5²", r"5\sqrt{2}", r"5\pi", "5 pi", "18k", "5 bn", "5th", "5 halves", "5 squared", "5 mod 7", "5 (mod 7)",
        "5 R 2", "15 remainder 3", "5 out of 10", "5 in 10", "5 divided by 2", "3:2", "2^{10}", "3.333...", "1.2.3",
        "18 apples 3", "x = 1, y = 2",
        "4x - 5y = -50", "x + 3 = 8", "2x = 10", "|x| = 5", "x^2 + y^2 = 13", "[-36,104]", "152A_{11}",
        r"[\frac{1}{2}, \frac{4}{3}]", r"1; \sqrt2", "x = 5 or x = 3", "x > 5", "x != 5", r"x = \pm 5", "(3, 4)",
        "five",
        "9" * 2000, "",
    ],
)  # fmt: skip
def test_a_statement_without_a_single_number_gives_none(text: str) -> None:
    assert stated_number(text) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She sold 72 clips in both months.", "72"),
        ("The total is **$1,200**.", "$1,200"),
        ("She sold 5 million.", "5 million"),
        ("She sold 48 and 24.", None),
        ("She needs at least 5.", None),
        ("It is half of 5.", None),
        ("It is rounded to 2 decimal places.", None),
        ("It starts at 9:30.", None),
        (r"It is $\sqrt{2}$.", None),
        ("She sold none.", None),
    ],
)
def test_the_only_number_of_a_sentence_is_found(text: str, number: str | None) -> None:
    assert only_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 5 - 3 = 2 clips", "2"),
        ("between 5 and 6 million people", "6 million"),
        ("10 000 came at 9:30", "10 000"),
        ("it takes 2 1/2 hours.", "2 1/2"),
        ("it is $1,200.50.", "$1,200.50"),
        ("so $x = \\frac{3}{4}$.", "\\frac{3}{4}"),
        ("5\n" + "no more " * 10_000, "5"),
        ("none", None),
        ("", None),
    ],
)
def test_the_last_number_of_a_text_is_found(text: str, number: str | None) -> None:
    assert last_number(text) == number
