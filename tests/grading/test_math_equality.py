r"""Mathematical equality: equal, different and undecidable pairs.

Each group is graded in one call. An answer that is only a number left over from the gold, or from itself, if
the rest is not understood (`1 - 1/\mathrm{e}` and `1 + 1/\mathrm{e}`) must not be correct.
"""

from __future__ import annotations

import polars as pl
import pytest

from cos_assets.grading.answers import grade


def verdicts(pairs: list[tuple[str, str]]) -> list[str]:
    rows = [(gold, answer, "stop") for gold, answer in pairs]
    graded = grade(pl.DataFrame(rows, schema=["gold", "answer", "finish_reason"], orient="row"), "math", workers=2)
    assert not graded["reason"].str.contains("no result within|died|failed").any()
    return graded["verdict"].to_list()


def same_as(gold: str, *answers: str) -> list[tuple[str, str]]:
    return [(gold, answer) for answer in answers]


EQUAL = {
    "repeating decimals": [
        *same_as(
            r"\frac{1}{3}", r"0.\overline{3}", r"0.\bar{3}", r"0.\bar3", r"0.\dot{3}", r"0.333\ldots", "0.333...",
            "0.(3)", "0.3̅", r"0.\overline{33}", r".\overline{3}", r"0.3\overline{3}", r"$0.\overline{3}$", "⅓",
        ),
        (r"\frac{1}{6}", r"0.1\overline{6}"), (r"\frac{1}{7}", r"0.\overline{142857}"), (r"2.\overline{45}", "27/11"),
        (r"-\frac{1}{3}", r"-0.\overline{3}"), (r"\frac{1}{6}", "0.1666..."),
    ],
    "the imaginary unit": [
        *same_as("-i", r"\frac{1}{i}", r"\frac1i", "1/i", "i^3", "i^{-1}", r"-\mathrm{i}", r"-\sqrt{-1}", r"-\text{i}"),
        *same_as("2i", r"\sqrt{-4}", r"2\mathrm{i}", r"2 \cdot i", r"i\sqrt{4}", "√-4", "0+2i"),
        ("1+2i", "i(2-i)"), ("3+4i", "(2+i)^2"), ("5", "(2+i)(2-i)"), (r"\frac{1+i}{2}", r"\frac{1}{1-i}"),
        (r"e^{i\pi}", "-1"), ("2+3i", "3i+2"), (r"i\sqrt{2}", r"\sqrt{-2}"), ("1", "i^4"), ("2", "1-i^2"),
        (r"\sum_{i=1}^{n} i", r"\frac{n(n+1)}{2}"),
    ],
    "Euler's number": same_as(
        r"1-\frac{1}{e}", r"1-\frac{1}{\mathrm{e}}", r"1-\mathrm{e}^{-1}", "1-1/e", r"\frac{\mathrm{e}-1}{\mathrm{e}}",
        "1-e^-1", r"1-\text{e}^{-1}", r"\frac{e-1}{e}", r"-\frac{1}{\mathrm{e}}+1",
    ),
    "the empty set": same_as(r"\emptyset", r"\varnothing", "∅", r"\{\}", r"\{ \}", "{}", r"\left\{\right\}", "Ø"),
    "currency": [
        *same_as("500", "₹500", "€500", "£500", "¥500", r"\$500", "$500", "500 €", "₹ 500", "500 USD", "500 rupees"),
        (r"\$5", r"5 \text{ dollars}"), (r"\$1{,}000", "1000"),
    ],
    "words": [
        *same_as(
            r"\text{Yes}", "Yes.", "yes", "YES", r"\text{yes.}", "**Yes**", r"\textbf{Yes}", r"\mathrm{Yes}", "`Yes`",
            '"Yes"', r"$\text{Yes}$", r"\boxed{\text{Yes}}", r"\text{ Yes }",
        ),
        (r"\text{(C)}", "C"), ("C", r"\textbf{(C)}"), ("A, B", r"\text{B, A}"), (r"9:30 \text{ a.m.}", "9:30 AM"),
        ("2 of 3", r"2 \text{ of } 3"), (r"\text{odd}", "odd"), (r"\text{June 20}", "June 20"),
    ],
    "digits and signs of Unicode": [
        *same_as("42", "４２", "٤٢", "۴۲", "४२", "๔๒", "𝟒𝟐", "４２．０"),
        *same_as("-5", "−5", "–5", "－5", "x = −5"),
        *same_as(r"\sqrt{2}", "√2", "√(2)", "2^½", r"\sqrt2"),
        *same_as(r"\frac{1}{2}", "½", "1⁄2", "１/２"), ("x^2+1", "x²+1"), ("x_1", "x₁"), (r"\pi", "π"),
        (r"\frac{\pi}{3}", "π/3"), (r"x \ge 3", "x≥3"), (r"x \le 3", "x ≤ 3"), (r"(-\infty,3)", "(-∞,3)"),
        (r"2 \times 3 \div 6", "1"), ("6", "2×3"), ("6", "12÷2"), (r"90^\circ", "90°"), (r"\mathbb{R}", "ℝ"),
        (r"(-\infty,0) \cup (0,\infty)", "(−∞,0)∪(0,∞)"), (r"6.63 \times 10^{-34}", "6.63×10⁻³⁴"), (r"\theta", "θ"),
    ],
    "numbers": [
        *same_as(
            r"6.63 \times 10^{-34}", "6.63e-34", "6.63E-34", r"66.3\times10^{-35}", r"6.63\cdot10^{-34}",
            "6.63*10^-34", "6.63 x 10^{-34}", r"0.663 \times 10^{-33}",
        ),
        *same_as(r"2\frac{1}{2}", "2½", "5/2", "2.5", "2 1/2", r"\frac52", r"2\dfrac12"),
        *same_as(r"\frac{1}{2}", r"\frac12", r"\tfrac{1}{2}", r"\dfrac{1}{2}", ".5", "50/100", "2^{-1}"),
        ("10{,}000", "10,000"), (r"10,000\pi", r"10000\pi"), ("1 000 000", "1000000"), (r"12,\!345", "12345"),
        ("100!", r"100 \cdot 99!"), (r"\frac{1}{2004!}", r"\frac{1}{2004 \cdot 2003!}"),
        ("10^{100}", r"1\times10^{100}"),
        ("1024", "2^10"), (r"\sqrt{2}", "1.41421356"), (r"\frac{2}{\sqrt2}", "2^{0.5}"), ("(1,2)", "(1.0,2)"),
        (r"33\frac{1}{3}\%", r"\frac{100}{3}\%"), ("204_5", "204_{5}"), ("204_5", "204"),
        ("\\text{A5}_{11}", "A5_{11}"), ("A5_{11}", "A5"), ("12", "3(4)"),
        ("40", r"4\binom{5}{2}"), ("1", r"2\left(\frac{1}{2}\right)"), (r"e^{-1000}", r"\frac{1}{e^{1000}}"),
    ],
    "names and units": [
        *same_as(
            "5", "x = 5", "n=5.0", "f(2) = 5", r"\text{Total} = 5", r"5\text{ cm}", "5 cm", "5 apples", r"5^\circ",
            r"5\%", r"5 \text{ cm}^2", r"5\;\mathrm{km/h}", r"V = 5\,\text{m}^3", r"5 \text{ m}", "5 m", "2+3=5",
            r"x \approx 5", "The answer is 5.", "so x = 5", r"\text{The answer is } 5", "Thus, the sum is $5$.",
        ),
        (r"5 \text{ m}", "5"), (r"5 \text{ cm}", r"5 \text{ centimeters}"),
        (r"15\mbox{ cm}^2", r"15 \text{ square cm}"),
        (r"3\pi \text{ inches}", r"3\pi"), (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}"), ("60 degrees", "60"),
    ],
    "sets, intervals, tuples, matrices": [
        *same_as("[1,2]", r"x \in [1,2]", "x∈[1,2]", r"\left[1,2\right]", "1 ≤ x ≤ 2", r"\lbrack 1,2 \rbrack"),
        *same_as(
            r"\{5,6\}", r"5 \text{ or } 6", "5, 6", "6, 5", "5 and 6", "x=5 or x=6", r"x = 5, 6", r"x \in \{5,6\}",
            "$5$ and $6$", r"x_1 = 5, x_2 = 6", r"\left\{5,6\right\}", r"\boxed{5} \text{ and } \boxed{6}",
        ),
        (r"1\pm\sqrt2", r"1+\sqrt2, 1-\sqrt2"), ("(x,y)=(1,2)", "(1,2)"), (r"\langle 1,2,3\rangle", "(1,2,3)"),
        ("x>5", "5<x"), (r"(5,\infty)", "x > 5"), (r"x \ne 3", r"3 \neq x"), ("-2 < x < 5", "(-2,5)"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\left(\begin{array}{cc}1&2\\3&4\end{array}\right)"),
        (r"\mathbb{R}\setminus\{0\}", r"(-\infty,0)\cup(0,\infty)"), (r"\mathbb{R}", r"(-\infty,\infty)"),
        (r"\mathbb{R}", r"\text{all real numbers}"), (r"\emptyset", r"\text{No solution}"), ("(2,3)", "x=2, y=3"),
        (r"x<1 \text{ or } x>5", "x>5 or x<1"), (r"(-\infty,1)\cup(5,\infty)", r"x<1 \lor x>5"),
        ("5 or 6", r"5 \lor 6"),
        (r"\frac{-1\pm\sqrt5}{2}", r"\frac{-1+\sqrt5}{2}, \frac{-1-\sqrt5}{2}"),
        (r"x=\frac{-1\pm\sqrt5}{2}", r"-\frac{1}{2} \pm \frac{\sqrt5}{2}"),
        ("x=1, y=2", r"\begin{cases} x=1 \\ y=2 \end{cases}"), (r"\frac{dy}{dx}=2x", "2x"),
    ],
    "congruences, ratios, sequences": [
        *same_as(
            r"x \equiv 3 \pmod 7", r"x \equiv 3 \pmod{7}", "x ≡ 3 (mod 7)", r"x\equiv 10\ (\mathrm{mod}\ 7)",
            r"x \equiv -4 \bmod 7", r"x \equiv 3 \mod 7",
        ),
        ("1:2:3", "2:4:6"), ("2:3", "4:6"), ("3:4", r"\frac{3}{4}"), (r"1:2:3:\ldots", r"1 : 2 : 3 : \dots"),
        (r"1,2,3,\ldots", r"1, 2, 3, \dots"), (r"17 \bmod 7", r"3 \pmod 7"),
    ],
    "expressions": [
        ("ab", "ba"), ("xyz", "x y z"), ("x(x+1)", "x^2+x"), (r"\frac{3}{4}x", "0.75x"), ("x^2+1", "y = x^2+1"),
        (r"\tan x", r"\frac{\sin x}{\cos x}"), (r"\log_2(8x)", r"3+\log_2 x"), (r"\sin 30^\circ", r"\frac12"),
        (r"3 + 2\sqrt{2}", r"(1+\sqrt2)^2"), (r"\sqrt{3+2\sqrt2}", r"1+\sqrt2"), ("f'(x)=2x", "2x"),
        (r"\overline{AB}", r"\overline{AB}."), (r"A^T", r"A^{\top}"), (r"\int_0^1 x dx", r"\frac12"),
    ],
}  # fmt: skip
DIFFERENT = {
    "what is left over of a formula": [
        (r"1 - \frac{1}{\mathrm{e}}", r"1 + \frac{1}{\mathrm{e}}"), (r"5\mathrm{i}", "5"), ("5", r"5\mathrm{i}"),
        ("5", "5i"), (r"\mathrm{e}^2", "2"), (r"\mathrm{e}^2", r"\mathrm{e}^3"), (r"3\mathrm{e}", "3"),
        ("1+i", "1-i"), (r"1+\mathrm{i}", "1"), ("i", "i^2"), (r"\mathbf{i}+1", "i+1"), (r"\foo{5}", "5"),
        ("5", r"\foo{5}"), ("5", r"5\foo"), ("5", "x+5"), ("5", "5x"), ("5", r"5\pi"), ("5", r"5\sqrt2"), ("5", "5!"),
        ("5", "5'"), (r"\frac{19}{4}", r"\frac{19}{0}"), ("5", "5, 6"), ("5", r"5 \times 10^3"), ("5", "5:1:1"),
        ("5x", r"5\%x"), ("5", r"5 \Rightarrow 6"),
        ("1.05^{T}", "1.05"), ("3_n", "3"), ("f'(x)", "f(x)"), ("y'", "y"), (r"\overline{z}", "z"), (r"\vec{v}", "v"),
        (r"\max_x f(x)", "f(x)"), ("x_1^2", "x^2"), (r"\sin_2 x", r"\sin x"), ("2ab", "2"), ("3r^2", "3"), ("2m", "2"),
        ("18", "18xy"), (r"\{2x : x > 3\}", r"\{2x : x > 4\}"), (r"\{x \mid x > 2\}", r"\{x \mid x > 3\}"),
        (r"\frac{\pi}{4}+k\pi, k\in\mathbb{Z}", r"\frac{\pi}{4}+2k\pi, k\in\mathbb{Z}"),
    ],
    "congruences": [
        (r"x \equiv 3 \pmod 7", r"x \equiv 4 \pmod 7"), (r"x \equiv 3 \pmod 7", r"x \equiv 3 \pmod 5"),
        (r"k \equiv 2 \bmod 3", r"k \equiv 1 \bmod 3"), (r"n \equiv 1 \mod 4", r"n \equiv 3 \mod 4"),
        ("x ≡ 3 (mod 7)", "x ≡ 4 (mod 7)"), ("7", r"x \equiv 3 \pmod 7"), (r"3 \pmod 7", r"4 \pmod 7"),
        (r"x\equiv 1,3 \pmod 8", r"x\equiv 1,5 \pmod 8"), (r"x \equiv 3 \pmod 7", "x = 3"),
        ("3", r"3 \pmod 7"), ("x = 3", r"x = 3 \pmod 7"), (r"\frac{1}{3}", r"\frac{1}{3} \pmod 7"),
    ],
    "clock times and ratios": [
        (r"9:30 \text{ a.m.}", r"9:30 \text{ p.m.}"), ("9:30 a.m.", "9:30 p.m."), (r"9\text{ a.m.}", r"9\text{ p.m.}"),
        ("12:30", "12:45"), ("9:30", "3:10"), (r"9:30 \text{ a.m.}", "9"), ("1:03 PM", "1:30 PM"),
        ("4:51:06", "4:51:07"),
        ("1:2:3", "1:6:1"), ("1:2:3", "1:2:4"), ("1:2", "2:1"), ("12:00", "1:00"),
    ],
    "sequences": [
        (r"1:2:3:\ldots", r"1:4:9:\ldots"), (r"1,2,3,\ldots", r"1,2,4,\ldots"), (r"1, 2, 3, \dots", "1, 2, 3"),
        (r"1+2+\cdots+n", r"1+3+\cdots+n"), (r"\{1,2,\ldots,10\}", r"\{1,2,\ldots,12\}"),
        ("1, 2, 3, ...", "1, 2, 4, ..."),
        (r"\{1,2,\ldots,10\}", r"\{1,2,10\}"), (r"0.1234\ldots", "0.1234"), (r"2, 4, \dots, 20", r"2, 4, \dots, 22"),
    ],
    "words": [
        ("2 of 3", "2"), ("2", "2 of 3"), ("2 of 3", "3 of 2"), (r"2 \text{ of } 3", r"2 \text{ of } 5"),
        ("3 of 5 dozen", "3 of 6 dozen"), ("5", "5 dozen"), ("3 out of 5", "5"), ("5", "5 of them"),
        ("all integers greater than 2", "all integers less than 2"), ("2", "all integers greater than 2"),
        (r"\text{all integers greater than } 2", r"\text{all integers less than } 2"),
        ("x is greater than 2", "2 is greater than x"),
        ("at least 5", "at most 5"), ("5", "at least 5"), ("5", "5 or more"), ("5", "about 5"), ("5", "not 5"),
        ("5", "between 5 and 6"), ("5", "It is not true that x = 5"), ("5", "It is false that the sum is 5"),
        ("5", "The answer is not 5"), ("5", "x can be 5"), ("no", "on"), ("listen", "silent"),
        (r"\text{odd}", r"\text{even}"), ("Yes", "No"),
        ("June 20", "July 20"), ("20", "June 20"), (r"\text{red, blue}", "red, green"),
        (r"\text{Monday}", r"\text{Sunday}"),
        (r"7 \text{ remainder } 2", r"7 \text{ remainder } 3"), ("7", "7 R 2"), ("5", "5 million"),
    ],
    "and, or, not": [
        ("x>2 and x<5", "x>2 or x<5"), (r"x>2 \text{ and } x<5", r"x>2 \text{ or } x<5"), ("x>2, x<5", "x>2 or x<5"),
        (r"p \land q", r"p \lor q"), (r"\neg p", "p"), (r"\forall x, x>2", "x>2"), (r"A \cap B", r"A \cup B"),
        (r"A \subset B", r"B \subset A"), (r"x=5", r"x \ne 5"), ("5", "<5"), (r"\le 5", r"\ge 5"), (r"5 \mid x", "5"),
        (r"5 \in A", r"5 \notin A"), (r"\mathrm{Re}(z)=1", r"\mathrm{Im}(z)=1"),
        (r"\frac{\mathrm{d}y}{\mathrm{d}x}=2x", r"\frac{\mathrm{d}y}{\mathrm{d}x}=3x"),
        (r"\frac{-1\pm\sqrt5}{2}", r"\frac{-1+\sqrt5}{2}"), ("1 in 6", "1 in 5"), (r"3 \text{ to } 5", "5"),
        (r"30^\circ 15'", r"30^\circ 45'"), (r"30^\circ \text{ N}", r"30^\circ \text{ S}"), ("3 4", "7"), ("5+", "5"),
    ],
    "units": [
        (r"5 \text{ males}", r"5 \text{ females}"), (r"10\% increase", r"10\% decrease"),
        (r"2 \text{ red}", r"2 \text{ blue}"),
        (r"5 \text{ minutes early}", r"5 \text{ minutes late}"), (r"5 \text{ cm}", r"5 \text{ m}"),
        (r"5 \text{ cm}^2", r"5 \text{ cm}^3"),
        (r"2\text{ hours }30\text{ minutes}", r"2\text{ hours }45\text{ minutes}"),
        ("5", r"2\text{ hours }5\text{ minutes}"),
        ("5 to the left", "5 to the right"), (r"\$5", "5 €"),
    ],
    "tiny and huge numbers": [
        (r"6.63 \times 10^{-34}", r"6.02 \times 10^{-34}"), ("6.63e-34", "6.02e-34"),
        (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
        ("10^{-20}", "10^{-21}"), ("10^{-20}", "0"), ("0", "10^{-30}x"), ("e^{-1000}", "e^{-1001}"), ("e^{-1000}", "0"),
        (r"\sqrt{2}\times10^{-40}", r"\sqrt{3}\times10^{-40}"), ("(1,10^{-20})", "(1,10^{-21})"),
        (r"\{10^{-20}\}", r"\{10^{-22}\}"),
        ("[0,10^{-20}]", "[0,10^{-25}]"), ("x = 10^{-20}", "x = 10^{-21}"), ("10^{-20}x", "10^{-21}x"),
        (r"\begin{pmatrix}10^{-20}\end{pmatrix}", r"\begin{pmatrix}10^{-21}\end{pmatrix}"), ("1+10^{-20}", "1"),
        ("x+10^{-20}", "x"),
        ("10^{-20}i", "10^{-21}i"), ("10^{100}", "10^{100}+1"), (r"\sqrt{10^{60}+1}", "10^{30}"), ("100!", "100!+1"),
        (r"e^{\pi\sqrt{163}}", "262537412640768744"), ("2^{-100}", "2^{-101}"), ("0.00000001", "0.00000002"),
    ],
    "roundings": [
        (r"\pi", "3.14"), (r"\pi", r"\frac{22}{7}"), (r"\sqrt2", "1.41"), (r"\frac13", "0.33"),
        (r"\frac13", "0.333333"),
        (r"0.\overline{3}", "0.3"), (r"0.\overline{12}", r"0.1\overline{2}"), ("0.333", "0.333..."),
        (r"\pi", r"\frac{355}{113}"),
        (r"e^{-10}", "0.000045"),
    ],
    "notations": [
        ("[1,2]", "(1,2)"), ("(1,2)", "(2,1)"), (r"\{1,2\}", r"\{1,3\}"), ("x>5", r"x\ge5"), (r"\emptyset", r"\{0\}"),
        (r"\emptyset", "0"),
        ("500", "-₹500"), ("42", "٤٣"), ("2i", "2"), (r"\sqrt{-4}", "-2i"), ("x=5", "y=5"), ("x²", "x³"),
        ("x₁", "x₂"), ("12", "1 2"),
        ("204_5", "204_6"), ("A5_{11}", "A5_{16}"), ("3–5", "-2"), ("½", "¼"), (r"\pm 5", "5"), ("|x|", "x"),
        ("10^2", "10 2"), ("A", "B"),
        ("71/6", "11\n5/6"),
        ("x^2+1=0", "x^2+2=0"), ("2^x=-1", "3^x=-2"), (r"x \in [1,2]", r"x \notin [1,2]"),
        (r"\sin 30^\circ", r"\sin 30"), ("7", "3(4)"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("group", EQUAL)
def test_equal_answers_are_correct(group: str) -> None:
    found = verdicts(EQUAL[group])
    assert [pair for pair, verdict in zip(EQUAL[group], found, strict=True) if verdict != "correct"] == []


@pytest.mark.parametrize("group", DIFFERENT)
def test_different_answers_are_not_correct(group: str) -> None:
    found = verdicts(DIFFERENT[group])
    assert [pair for pair, verdict in zip(DIFFERENT[group], found, strict=True) if verdict == "correct"] == []


def test_different_text_is_wrong_and_an_unreadable_formula_is_a_grader_error() -> None:
    wrong = [
        ("Yes", "No"),
        ("5", "cannot be found"),
        ("Yes", "5"),
        ("9:30 a.m.", "9:30 p.m."),
        ("2 of 3", "1/3"),
        ("5", "4 4/0"),
    ]
    unread = [
        ("5", r"\foo{5}"),
        (r"\foo", "5"),
        (r"1,2,\ldots", r"1,3,\ldots"),
        (r"5\text{ males}", r"5\text{ females}"),
    ]
    assert verdicts(wrong) == ["wrong"] * len(wrong)
    assert verdicts(unread) == ["grader_error"] * len(unread)


def test_the_reason_names_the_unreadable_side() -> None:
    rows = pl.DataFrame({"gold": ["5", r"\foo"], "answer": [r"\foo{5}", "x"], "finish_reason": ["stop"] * 2})
    assert grade(rows, "math")["reason"].to_list() == [
        r"the answer '\\foo{5}' cannot be read as mathematics",
        r"the gold answer '\\foo' cannot be read as mathematics",
    ]
