r"""Reading equations in free text. Text that is not understood is unreadable, never wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cos_assets.grading.steps import StepCheck, check_equations, equations

# text, canonical equations, label
CASES = [
    ("16 - 3 - 4 = <<16-3-4=9>>9", ["16-3-4=9"], "right"),
    ("16 - 3 - 4 = <<16-3-4=10>>10", ["16-3-4=10"], "wrong"),
    ("half of it is <<20/2=10>>10", ["20/2=10"], "right"),
    ("9 * 2 = $<<9*2=18>>18", ["2*9=18"], "right"),
    ("$1,200 * 2 = $2400", ["1200*2=2400"], "right"),
    ("$1,200.50 * 2 = $2,401", ["1200.50*2=2401"], "right"),
    ("50% of 20 = 10", ["20*50%=10"], "right"),
    ("1/2 of 20 = 11", ["1/2*20=11"], "wrong"),
    ("for a total of 10*3 = 30 minutes", ["10*3=30"], "right"),
    ("100% - 20% = 80%", ["100%-20%=80%"], "right"),
    ("25 / 100 = 25%", ["25/100=25%"], "right"),
    ("5 / 20 * 100 = 25%", ["100*5/20=25%"], "right"),
    ("100% - 20% = 70%", ["100%-20%=70%"], "wrong"),
    ("5 x 3 = 15, 5 × 3 = 15", ["3*5=15", "3*5=15"], "right"),
    ("20 ÷ 4 = 6", ["20/4=6"], "wrong"),
    (r"$2 \times 3 = 6$", ["2*3=6"], "right"),
    ("7 − 2 = 5", ["7-2=5"], "right"),
    ("5 red apples + 3 apples = 9 apples", ["3+5=9"], "wrong"),
    ("(3 + 4) * 2 = 14", ["(3+4)*2=14"], "right"),
    ("2(3 + 4) = 14", ["(3+4)*2=14"], "right"),
    ("2 - (3 - 4) = 3", ["2-(3-4)=3"], "right"),
    ("- 3 + 4 = 7", ["-3+4=7"], "right"),  # a list's dash
    ("-3 + 4 = 1", ["-3+4=1"], "right"),  # a minus
    ("3 - 4 = -1", ["3-4=-1"], "right"),
    ("0 + 0 = -1", ["0+0=-1"], "wrong"),
    ("1 - 4 / 3 = -0.33", ["1-4/3=-0.33"], "right"),
    ("16 - 3 = 13 - 4 = 9", ["16-3=13", "13-4=9"], "right"),
    ("16 - 3 = 13 - 4 = 8", ["16-3=13", "13-4=8"], "wrong"),
    ("2 * 3 + 4 = 6 + 4 = 10", ["2*3+4=4+6", "4+6=10"], "right"),
    ("10 / 3 = 3.33", ["10/3=3.33"], "right"),
    ("2 / 3 = 0.66", ["2/3=0.66"], "right"),
    ("10 / 3 = 3", ["10/3=3"], "wrong"),
    (".5 * 4 = 2", [".5*4=2"], "right"),
    ("4 / 0 = 0", ["4/0=0"], "wrong"),
    ("3 + 4 = 7 and 7 + 2 = 10", ["3+4=7", "2+7=10"], "wrong"),
    ("Day 2 = 5 + 3 = 8", ["3+5=8"], "right"),
    ("x = 20 / 4 = 5", ["20/4=5"], "right"),
    # Nothing to check: variables, definitions, mixed fractions, plain text.
    ("2y + 3 = 7", [], "unreadable"),
    ("2x + 3 = 7", [], "unreadable"),
    ("x = 4", [], "unreadable"),
    ("2 1/2 * 4 = 10", [], "unreadable"),
    ("3 = 7", [], "unreadable"),
    ("= = =", [], "unreadable"),
    ("3 + = 7", [], "unreadable"),
    ("the answer is 4", [], "unreadable"),
    ("", [], "unreadable"),
]


@pytest.mark.parametrize(("text", "found", "label"), CASES)
def test_equations_of_a_text_are_found_and_labelled(text: str, found: list[str], label: str) -> None:
    assert equations(text) == tuple(found)
    assert check_equations(text).label == label


def test_first_wrong_step_counts_from_one() -> None:
    check = check_equations("3 + 4 = 7. 7 * 2 = 15. 15 - 1 = 13")
    assert check == StepCheck("wrong", 2, "step 2: 2*7=15 is not true")


NEVER_WRONG = {
    "powers and roots": [
        "2^3 + 1 = 9",
        "2^3 = 8, and 3^2 + 1 = 10",
        "2**3 + 1 = 9",
        "3 * 2^2 = 12",
        "2^2 * 3 = 12",
        "5 × 10² = 500",
        "2e3 + 1 = 2001",
        "√16 + 1 = 5",
        "sqrt(16) + 1 = 5",
        "The square root of 16 + 9 = 5",
        "2 to the power of 3 + 1 = 9",
        "5 squared + 1 = 26",
    ],
    "functions": [
        "abs(-5) + 1 = 6",
        "log 100 + 1 = 3",
        "f(2) + 3 = 8",
        "max(3, 4) + 1 = 5",
        "C(5, 2) + 1 = 11",
        "5C2 + 1 = 11",
        "|-3| + 2 = 5",
        "⌊7/2⌋ = 3",
        "2 sin(30) + 1 = 2",
        "5! = 120",
        "10 choose 2 = 45",
        "print(3 + 4 = 8)",
    ],
    "variables": [
        "2x - 3 = 7",
        "x + 3 = 5",
        "2x(3) = 12",
        "3 x + 2 = 8",
        "A + 30 = 90",
        "5 - 3i + 2 = 7 - 3i",
        "2 * 5ab = 90",
        "2 * 5x² = 90",
        "10 - 3 = 7 - x",
        "b = a + 2 = 3",
        "2m + 55 = 215",
        "x2 = 3 + 4 = 8 - y",
        "___ + 3 = 5",
        "5 + □ = 8",
    ],
    "indices and bases": [
        "x_1 + 3 = 5",
        "a1 + 3 = 5",
        "2H2 + O2 = 2H2O",
        "101_2 = 5",
        "In base 2, 1 + 1 = 10.",
        "log_2(8) + 1 = 4",
        "7 + 8 = 3 (mod 12)",
        "7 + 8 = 3, modulo 12",
        "1 << 3 + 1 = 16",
    ],
    "units of several sizes": [
        "2 hours + 30 minutes = 150 minutes",
        "3 feet + 6 inches = 42 inches",
        "2 km - 300 m = 1700 m",
        "5 dollars + 50 cents = 550 cents",
        "$2 + 50 cents = $2.50",
        "1 lb + 4 oz = 20 oz",
        "2 weeks + 3 days = 17 days",
        "2 dozen + 3 = 27",
        "2 pairs + 1 sock = 5 socks",
        "$1 / 2 = 50 cents",
        "63 / 12 = 5 feet and 3 inches",
        "63 / 12 = 5 feet 3 inches",
    ],
    "mixed numbers": [
        "12 + 1/3 = 12 1/3",
        "2 1/2 * 4 = 10",
        "5½ + 2 = 7½",
        "7/2 = 3 and a half",
        "7/2 = 3 and 1/2",
        "7/2 = 3-1/2",
        "1.5 million * 2 = 3 million",
    ],
    "remainders": [
        "17 / 5 = 3 remainder 2",
        "17 / 5 = 3 R 2",
        "17/5 = 3 R2",
        "17 ÷ 5 = 3r2",
        "17 / 5 = 3 with a remainder of 2",
        "17 / 5 = 3, remainder 2",
        "17 / 5 = 3, R 2",
        "17 / 5 = 3 with 2 left over",
        "17 // 5 = 3",
        "17 % 5 = 2",
        "17 mod 5 = 2",
        "17 / 5 = 3 full boxes",
    ],
    "other numbers": [
        "3,5 + 1 = 4,5",
        "1 000 + 500 = 1 500",
        "1'000 + 500 = 1'500",
        "1_000 + 500 = 1_500",
        "0900 + 0130 = 1030",
        "7:50 + 30 minutes = 8:20",
        "9am + 4 hours = 1pm",
        "11 a.m. - 2 hours = 9 a.m.",
        "2:3 + 1 = 5",
    ],
    "ellipses and unknown symbols": [
        "1 + 2 + ... + 10 = 55",
        "1 + 2 + … + 10 = 55",
        "5 ± 2 = 7",
        "3 ⊕ 4 = 5",
        "5 + 3 = ~8",
        r"\frac{1}{2} + 1 = 1.5",
        "5 + (3 + 4) * (2 + 1 = 21",
        "5' 6\" + 6\" = 6'",
    ],
    "what is no claim": [
        "Is 5 + 3 = 9?",
        "5 + 3 != 9",
        "5 + 3 = 9 is wrong",
        "1 + 1 = 3, a contradiction",
    ],
    "two readings": [
        "500 / 2/5 = 200",
        "6 / 2(3) = 1",
        "50 - 20% = 40",
        "twice 5 + 1 = 11",
        "half of 20 + 5 = 15",
        "5 times 3 + 1 = 16",
        "the sum of 3 and 5 + 1 = 9",
        "negative 5 + 8 = 3",
        "35 people who were on the bus - 8 who got off = 27",
        "Step 1 - 5 + 3 = 8",
    ],
}
"""By what makes an equation unreadable, or gives it two readings. Some are true only if they are read in one way."""


@pytest.mark.parametrize("text", [text for texts in NEVER_WRONG.values() for text in texts])
def test_a_text_that_is_not_understood_is_unreadable(text: str) -> None:
    assert check_equations(text).label == "unreadable"
    check = check_equations(f"{text}\n\nSo 3 + 4 = 7.")
    assert check.label == "right", "unreadable text is skipped, and the rest is read"


TRUE = [
    "10 / 3 ≈ 3",
    "10 / 3 ≈ 3.3",
    "**Total:** 5 + 3 = **8** eggs",
    "(5 + 3 = 8)",
    "1) 5 + 3 = 8",
    "* 5 + 3 = 8",
    "(a) 5 + 3 = 8",
    "5 + 3\n= 8",
    "5 pieces/pack x 3 packs = 15 pieces",
    "$0.15/gallon x 20 = $3",
    "10 cm^2 + 5 cm² = 15 cm²",
    "90° + 90° = 180°",
    "120 minutes / 60 = 2 hours",
    "20 apples / 4 people = 5 apples per person",
    "[3 + 4] * 2 = 14",
    "f(2) = 4 + 1 = 5",
    "5 + 3 = 8 => 8 * 2 = 16",
    "-$3x = -$19, and 19 - 1 = 18",
    "10 cows on the boat - 6 that drowned = 4 cows",
]
FALSE = [
    "5 + 3 = 9",
    "**5 + 3 = 9**",
    "1. 12 * 2 = 25",
    "20 apples / 4 people = 6 apples per person",
    "$1.50 * 3 = $4.60",
    "12 - 5 = 8 apples left",
    "5 boys + 3 girls = 9 children",
    "$0.15/gallon x 2080 gallons = $322",
    "10 / 4 ≈ 3.1",
    "2x = 10, and 10 / 2 = 6",
    "5! = 120 and 5 + 3 = 9",
    "30 minutes + 20 minutes = 45 minutes to cook",
    "50 + 150 = 300 fruits during its 10 years",
]


@pytest.mark.parametrize("text", TRUE)
def test_true_equations_are_right_in_every_layout(text: str) -> None:
    assert check_equations(text).label == "right"


@pytest.mark.parametrize("text", FALSE)
def test_false_equations_are_found(text: str) -> None:
    assert check_equations(text).label == "wrong"


@given(st.text(alphabet="0123456789+-*/()=.,% $x<>\nab≈^\\frac{}&!", max_size=80))
def test_any_text_is_read_without_an_error(text: str) -> None:
    label = check_equations(text).label
    assert label in ("right", "wrong", "unreadable")
    assert equations(text) or label == "unreadable"


@pytest.mark.parametrize(
    "text", ["(" * 5000 + "3 = 4", "9" * 6000 + " + 1 = 3", "-" * 5000 + "3 = 4", "1/" * 9999 + "1=1"]
)
def test_broken_text_is_unreadable(text: str) -> None:
    assert check_equations(text).label == "unreadable"


@given(st.integers(0, 999), st.integers(0, 999), st.sampled_from("+-*"), st.integers(-3, 3))
def test_true_equations_are_right_and_false_ones_are_wrong(a: int, b: int, op: str, off: int) -> None:
    result = {"+": a + b, "-": a - b, "*": a * b}[op] + off
    assert check_equations(f"so {a} {op} {b} = {result} eggs").label == ("wrong" if off else "right")
    assert check_equations(f"so <<{a}{op}{b}={result}>>{result}").label == ("wrong" if off else "right")


@pytest.mark.parametrize(
    "text", ["1=" * 10_000, "1+1=2 " * 10_000, "1+1=3 base 2 " * 5_000, "(" * 50_000 + "=", "=\n " * 10_000]
)
def test_long_broken_text_is_read_in_linear_time(text: str) -> None:
    """The text is read in time proportional to its length."""
    assert check_equations(text).label in ("unreadable", "right")
