"""Units of answers."""

from __future__ import annotations

import pytest

from cos_assets.grading.notation import normalise
from cos_assets.grading.units import same, split


@pytest.mark.parametrize(
    ("answer", "value", "unit"),
    [
        ("18 apples", "18", "apples"), (r"5\,\text{cm}^2", "5", r"\text{cm}^{2}"), ("5 km/h", "5", "km/h"),
        (r"3\pi \text{ square feet}", r"3\pi", r"\text{square feet}"), (r"\$5", "5", r"\$"), ("₹500", "500", "₹"),
        ("-$5", "-5", r"\$"), ("18 €", "18", "€"), ("$18 a day", "18 a day", r"\$"), ("10\\%", "10", "%"),
        ("90°", "90", r"^{\circ}"), ("20°C", "20", r"^{\circ}C"), ("2 dollars per hour", "2", "dollars per hour"),
        (r"5 \text{ m}, 6 \text{ m}", "5, 6", r"\text{m}"), (r"x = 5 \text{ cm}", "x = 5", r"\text{cm}"),
    ],
)  # fmt: skip
def test_an_answer_is_split_into_value_and_unit(answer: str, value: str, unit: str) -> None:
    found, of = split(normalise(answer), symbols=False)
    assert (found.strip().replace(" ,", ","), of.replace(" ", "")) == (value, unit.replace(" ", ""))


@pytest.mark.parametrize(
    "answer",
    [
        "5", "2ab", "2 ab", "3x", "5 m", "18 million", "18 or more", "2 dozen eggs", "9:30 a.m.", "5 of them", "2 xyz",
        "7 remainder", r"\sin 30^\circ", "x cm", "18 more", "5 late",
    ],
)  # fmt: skip
def test_a_text_that_is_not_a_unit_is_not_split_off(answer: str) -> None:
    normal = normalise(answer)
    assert split(normal, symbols=False) == (normal, "")


def test_a_letter_is_a_unit_only_where_nothing_is_a_variable() -> None:
    assert split("5 m", symbols=True) == ("5", "m")
    assert split("5 x", symbols=True) == ("5 x", "")


@pytest.mark.parametrize(
    ("one", "other", "result"),
    [
        ("cm", r"\text{centimeters}", True), (r"\text{cm}^{2}", "square centimetres", True), (r"\$", "dollars", True),
        ("km/h", "kilometers per hour", True), (r"^{\circ}", "degrees", True), ("hr", "hours", True), ("%", "%", True),
        ("cm", "m", False), (r"\text{cm}^{2}", r"\text{cm}^{3}", False), (r"\$", "€", False), ("%", r"\$", False),
        (r"\text{males}", r"\text{females}", None), ("ways", "arrangements", None),
    ],
)  # fmt: skip
def test_equal_units_in_other_forms_are_the_same(one: str, other: str, result: bool | None) -> None:
    assert same(one, other) is result
    assert same(other, one) is result
