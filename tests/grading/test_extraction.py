r"""Answers stated in real replies: every form with the markup of models, and texts without an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cos_assets.grading.extraction import Kind, boxed, stated

KINDS: tuple[Kind, ...] = ("number", "math", "text", "choice")


# --- the statement that is read --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["number", "math"])
@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{6}, or rather \\boxed{7}",
        "#### 6\n#### 7",
        "\\boxed{6}. No: the answer is 7.",
        "The answer is 6. Let me redo it: \\boxed{7}",
        "**Answer:** 6\n\nWait. **Answer:** 7",
        "So the final answer is $6$?\nThat fails. Redoing it gives \\boxed{7}",
        "#### 6\n\nCorrection: the final answer is 7",
        "\\boxed{7}, hmm. Is the answer 6? No.",
        "\\boxed{7}. So the answer is 6? No, that was April.",
        "\\boxed{7}. We may check our answer: 6 + 1 is right.",
        "\\boxed{7}. The answer is not 6.",
        "\\boxed{7}. So the answer is correct.",
        "\\boxed{7}. The final answer is positive, because both factors are.",
        "\\boxed{7} (The result stands in \\boxed as asked.)",
        "\\boxed{7}, in \\boxed{} as asked",
        "The form \\boxed{...} is asked for. \\boxed{7}",
        "\\boxed{7} is \\boxed{\\text{your answer}}.",
    ],
)
def test_the_last_stated_answer_is_read(text: str, kind: Kind) -> None:
    assert stated(text, kind) == "7"


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{72}", "$\\boxed{72}$", "\\(\\boxed{72}\\)", "\\[ \\boxed{72} \\]", "$$\n\\boxed{72}\n$$", "\\fbox{72}",
        "\\boxed 72$ clips", "\\\\boxed{72}", "\\boxed{$72$}", "\\boxed{ 72 }", "**\\boxed{72}**",
        "#### 72", "####72", "so it is 72 #### 72", "#### **72**", "#### $72$", "#### \\boxed{72}", "#### 72.",
        "#### Answer: 72", "#### The answer is 72",
        "The answer is 72", "The answer is 72.", "the answer is: 72", "The answer is **72**.", "**The answer is 72.**",
        "*The answer is 72*", "The answer is *72*.", "The answer is __72__.", "The answer is `72`.",
        "The answer is $72$.",
        "The answer is \\(72\\).", "The answer is \\[72\\]", "The answer is $$72$$", "The answer is:\n\n72",
        "The answer is\n72", "The answer is:\n\n$$\n72\n$$", "The answer is:\n```\n72\n```", "The answer is:\n- 72",
        "The answer is \\(\\boxed{72}\\), which is even.", "Thus our final answer is 72", "The correct answer is 72.",
        "The answer is therefore 72", "The answer would be 72.", "The answer to the problem is 72.",
        "<b>Answer: 72</b>",
        "The answer must be 72!", "The answer turns out to be 72.", "The **answer** is 72", "The answer is:\n---\n72",
        "Answer: 72", "**Answer:** 72", "**Answer: 72**", "**Answer**: 72", "__Answer:__ 72", "ANSWER: 72",
        "Answer : 72",
        "Answer = 72", "answer：72", "Answer (clips): 72", "Final Answer: 72", "**Final Answer:** 72",
        "> **Answer:** 72",
        "**Final Answer**\n\n72", "### Final Answer\n72", "#### Answer\n\n**72**", "### Answer:\n\\[ 72 \\]",
        "Final Answer: The final answer is 72. I hope it is correct.",
        "Final Answer: The final answer is $72$. I hope it is correct.",
        "Final Answer: The final answer is $\\boxed{72}$. I hope it is correct.",
    ],
)  # fmt: skip
def test_an_answer_is_read_in_every_form_with_its_markup(text: str) -> None:
    assert stated(text, "number") == stated(text, "math") == "72"
    if "\\boxed 72" not in text:  # only a number may be in a box without braces
        assert stated(text.replace("72", "B"), "choice") == "B"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text",
    [
        "", " \n", "Seventy-two clips.", "\\boxed{open", "\\boxed{}", "\\boxed{ }", "#### ", "The answer is",
        "Answer:\n",
        "Answer: \n\n", "What is the answer? It is hard.", "Put the answer in \\boxed as asked.", "\\boxed",
        "The answer is not B or 7.", "The answer isn't 7.", "answers", "#### Step 1: Add\nFirst we add.",
        "#### 1. April\nShe sold some.", "The answer is . I hope it is correct.",
    ],
)  # fmt: skip
def test_a_text_that_states_no_answer_gives_none(text: str, kind: Kind) -> None:
    assert stated(text, kind) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("#### 1. April\nShe sold 48.\n#### 2. May\nShe sold 24, so in all **72**.", None),
        ("#### 72\n\n#### 2 more things to note\nClips are sold in pairs.", "72"),
        ("#### Step 1\n48\n#### Step 2\n24\n#### 72", "72"),
        ("#### 3) Total\nHe has 72.", None),
        ("#### (1) Find the total\nIt is 72.", None),
        ("#### 1: Find the total\nIt is 72.", None),
        ("#### 24 clips in May\nand 48 in April.", None),
        ("#### 2nd step\nAdd.", None),
        ("#### 1. April: 48 clips\n#### 2. May: 24 clips", None),
        ("#### 1 April\nfoo", None),
        ("#### 3.2 Counting\nfoo", None),
        ("##### 72\nfoo", None),
        ("### 72", None),
        ("\\boxed{72}\n\n#### 2. Check\n48 + 24 = 72", "72"),
        ("#### 72\n\nHope this helps!", "72"),
        ("#### $1,200\n\nHope this helps!", "$1,200"),
        ("#### Final Answer: 72\n\nHope this helps!", "72"),
        ("Step 4: #### 2.8\nDone.", "2.8"),
        ("#### 18 apples, not 20", "18"),
        ("#### 72 clips in total\n", "72"),
    ],
)
def test_headings_are_not_read_as_numbers(text: str, answer: str | None) -> None:
    assert stated(text, "number") == answer


def test_headings_are_not_read_as_formulas_texts_or_choices() -> None:
    assert stated("#### 1. Find $x$\n$x = 5$ holds.", "math") is None
    assert stated("#### Step 1: find $x$\n$x = 5$ holds.", "math") is None
    assert stated("#### $x^2$\n\nThat is all.", "math") == "x^2"
    assert stated("#### Introduction\nParis is nice.", "text") is None
    assert stated("Paris is nice.\n#### Paris", "text") == "Paris"
    assert stated("#### A. Introduction\ntext", "choice") is None
    assert stated("#### B\n\nBecause.", "choice") == "B"


@pytest.mark.parametrize(
    "text",
    [
        "Answer:\n48/2 = 24 clips in May.\n48+24 = 72 clips.",
        "Answer:\n\n1. Find the clips in May.\n2. Add.",
        "Answer:\n1) 24 clips.\n2) Add.",
    ],
)
def test_a_solution_below_the_word_answer_is_not_an_answer(text: str) -> None:
    assert stated(text, "number") is None


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("A: 72", "72"),
        ("A: **72**", "72"),
        ("text\nA: $5\n", "$5"),
        ("I paid A: 72", None),
        ("\\boxed{\\$1{,}200}", "$1,200"),
        ("\\boxed{72\\,\\text{clips}}", "72"),
        ("\\boxed{72 \\text{ km/h}}", "72"),
        ("\\boxed{\\text{72}}", "72"),
        ("\\boxed{\\mathbf{72}}", "72"),
        ("\\boxed{\\text{72 clips}}", "72"),
        ("\\boxed{\\text{She sold 72 clips}}", "72"),
        ("\\boxed{\\frac12}", "\\frac{1}{2}"),
        ("\\boxed{2\\frac{1}{2}}", "2\\frac{1}{2}"),
        ("\\boxed{x = 5}", "5"),
        ("\\boxed{3 + 4 = 7}", "7"),
        ("\\boxed{5 \\times 10^3}", "5 \\times 10^3"),
        ("\\boxed{72\\%}", "72%"),
        ("\\boxed{72^\\circ}", "72"),
        ("\\boxed{{72}}", "72"),
        ("\\boxed{(72)}", "72"),
        ("\\boxed{\\large 72}", "72"),
        ("\\boxed{\\color{red}72}", "72"),
        ("\\boxed{\\text{Answer: }72}", "72"),
        ("\\boxed{\\approx 5.3}", "5.3"),
        ('Answer: "72"', "72"),
        ("The answer is 72 \U0001f389", "72"),
        ("The answer is, therefore, 72.", "72"),
        ("The answer is found to be 72", "72"),
        ("The answer is 6 p.m.", "6"),
        ("The answer is 20 years old.", "20"),
        ("The answer is 3/4 of an hour.", "3/4"),
        ("#### Total: 72", "72"),
        ("#### 10 000", "10 000"),
        ("#### 10{,}000", "10,000"),
        ("#### 10\\,000", "10 000"),
        ("#### €5", "€5"),
        ("#### ₹500", "₹500"),
        ("#### 5 USD", "5"),
        ("#### ４２", "42"),
        ("The answer is 5 million.", "5 million"),
        ("The answer is 2 dozen eggs.", "2 dozen"),
        ("The answer is 2.5e6", "2.5e6"),
        ("The answer is 2 1/2.", "2 1/2"),
        ("The answer is -5.", "-5"),
        ("The answer is $-\\frac{3}{4}$.", "-\\frac{3}{4}"),
        ("The answer is 48 + 24 = 72.", "72"),
        ("The answer is 72, because 48 + 24 = 72.", "72"),
        ("The answer is 72 (48 + 24).", "72"),
        ("The answer is $18$ dollars.", "18"),
        ("The answer is \\$18.", "$18"),
        ("The answer is about 72.", "72"),
        ("**Answer:** Natalia sold **72** clips.", "72"),
        ("Answer: It is at least 5.", None),
        ("\\boxed{72}. The answer is rounded to 2 digits.", "72"),
        ("\\boxed{72}. The answer is in equation 2.", "72"),
        ("The answer is five.", None),
        ("The answer is between 5 and 6.", None),
    ],
)
def test_numbers_are_read_from_statements(text: str, answer: str | None) -> None:
    assert stated(text, "number") == answer


@pytest.mark.parametrize(
    "statement",
    [
        "5 or 6", "5 and 6", "5, 6", "5-6", "5 to 6 hours", "1/2 or 2", "9:30", "12:30 pm", "5 feet 3 inches",
        "2 hours 30 minutes", "3 hours and 20 minutes", "5x", "5^2", "5\\pi", "5\\sqrt{2}", "5 out of 10",
    ],
)  # fmt: skip
def test_a_statement_that_is_not_one_number_is_returned_whole(statement: str) -> None:
    """Neither a part of it nor an earlier number is the answer."""
    for text in (f"#### 3\nThe answer is {statement}.", f"Answer: 3\nThe answer is ${statement}$."):
        assert stated(text, "number") == statement
    assert stated(f"\\boxed{{{statement}}}", "number") == statement


def test_two_boxes_and_boxes_without_a_number_are_returned_whole() -> None:
    assert stated("\\boxed{5} or \\boxed{6}", "number") == "5 or 6"
    assert stated("$\\boxed{5}$ and $\\boxed{6}$", "number") == "5 or 6"
    assert stated("#### 3\n\\boxed{x = 1, y = 2}", "number") == "x = 1, y = 2"
    assert stated("#### 3\n\\boxed{\\text{None}}", "number") == "None"


# --- mathematics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 42, since 40+2 = 42.", "42"),
        ("The answer is $42$, because $6 \\cdot 7 = 42$.", "42"),
        ("The answer is $42$ - the product.", "42"),
        ("The answer is $42$ (the product).", "42"),
        ("Answer: 42. This holds since $6 \\cdot 7 = 42$.", "42"),
        ("The answer is 42 apples.", "42"),
        ("The answer is $5$ cm.", "5"),
        ("The answer is $x^2$ square units.", "x^2"),
        ("The answer is $5$ million.", "5 million"),
        ("The answer is $5\\%$.", "5\\%"),
        ("The answer is $(1, 2)$, which is the vertex.", "(1, 2)"),
        ("The answer is (1, 2), which is the vertex.", "(1, 2)"),
        ("The answer is 1, 2, 3.", "1, 2, 3"),
        ("The answer is $x = 1, y = 2$.", "x = 1, y = 2"),
        ("The answer is x = 1, y = 2.", "x = 1, y = 2"),
        ("The answer is $3$ or $-3$.", "$3$ or $-3$"),
        ("The answer is $x=2$ and $y=3$.", "$x=2$ and $y=3$"),
        ("The answer is 3 (mod 7).", "3 (mod 7)"),
        ("The answer is x = $5$.", "x = 5"),
        ("The answer is $n$ = 5", "n = 5"),
        ("The answer is: $$x=5$$ where $x$ is real.", "x=5"),
        ("The answer is $a - b$.", "a - b"),
        ("The answer is a - b.", "a - b"),
        ("The answer is $5!$.", "5!"),
        ("The answer is 2\\frac{1}{2}.", "2\\frac{1}{2}"),
        ("The answer is $\\left.x\\right.$", "\\left.x\\right."),
        ("The answer is 9:30 a.m.", "9:30 a.m."),
        ("The answer is Evelyn.", "Evelyn"),
        ("The answer is $\\text{Evelyn}$.", "\\text{Evelyn}"),
        ("\\boxed{\\text{Evelyn}}. The answer is clear.", "\\text{Evelyn}"),
        ("The answer is `x + 1`.", "x + 1"),
        ("The answer is $2\\sqrt{3}$ cm$^2$.", "2\\sqrt{3}"),
        ("The answer is $3$, $4$ and $5$.", "$3$, $4$ and $5$"),
        ("The answer is [1, 2).", "[1, 2)"),
        ("The answer is f^*.", "f^*"),
        ("The answer is 42: forty-two", "42"),
        ("The answer is **$7$**.", "7"),
        ("The final answer is \\$5. I hope it is correct.", "\\$5"),
        ("The final answer is $\\begin{pmatrix}\n1 \\\\\n2\n\\end{pmatrix}$.",
         "\\begin{pmatrix}\n1 \\\\\n2\n\\end{pmatrix}"),
        ("The answer is \\begin{pmatrix}\n1\\\\2\\end{pmatrix}.", "\\begin{pmatrix}\n1\\\\2\\end{pmatrix}"),
        ("The final answer is\n\\[\n\\frac{1}{2}\n\\]\nDone.", "\\frac{1}{2}"),
        ("Answer:\n$$\n\\begin{cases} x = 1 \\\\ y = 2 \\end{cases}\n$$",
         "\\begin{cases} x = 1 \\\\ y = 2 \\end{cases}"),
        ("The answer is $5\nand it costs $ 6", "$5"),
    ],
)  # fmt: skip
def test_formulas_are_read_from_statements(text: str, answer: str) -> None:
    assert stated(text, "math") == answer


# --- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "The answer is Paris, the capital of France.", "The answer is Paris (France).", "The answer is `Paris`.",
        "The answer is **Paris**, France's capital.", "The answer is **Paris** because it is.", "**Answer: Paris**",
        "**Answer:** Paris", "Answer: *Paris*", "The answer is _Paris_.", "The answer is $\\text{Paris}$.",
        "The answer is \\(\\text{Paris}\\).", 'The answer is "Paris".',
        "The answer is Paris because it is the capital.",
        "The answer is Paris, since it is.", "The answer is Paris, which lies on the Seine.", "The answer is Paris!",
        "The answer is Paris. It lies on the Seine.", "The answer is:\n\nParis", "The answer is Paris – the capital.",
        "The answer is Paris - the capital.", "The answer is Paris; it is the capital.", "Paris it is.\n#### **Paris**",
        "\\boxed{\\text{Paris}}", "\\boxed{\\textbf{Paris}}", "\\boxed{\\mathrm{Paris}}",
        "\\boxed{\\mathbf{\\text{Paris}}}",
        "\\boxed{Paris}", "\\boxed{**Paris**}", "\\boxed{`Paris`}", "\\boxed{\\emph{Paris}}",
        "$\\boxed{\\text{Paris}}$.",
        "Answer: Paris\n\nExplanation: it is.", "### Answer\nParis\n\nBecause.", "The answer is <b>Paris</b>.",
        "The answer is Paris: the capital of France.", "The answer is \\emph{Paris}.",
        "The answer is **Paris.**", "The answer is ***Paris***.", "\\boxed{\\large\\text{Paris}}",
        "\\boxed{\\textsc{Paris}}",
        "The answer is Rome. No: the answer is Paris.\nDone", "The answer is Paris.\nThe answer is correct.",
        "ẞẞẞẞ İİİİ The answer is Paris. I hope it is correct.",
    ],
)  # fmt: skip
def test_text_is_read_without_markup_and_explanation(text: str) -> None:
    assert stated(text, "text") == "Paris"


@pytest.mark.parametrize(
    "answer",
    [
        "Straße", "İstanbul", "New York", "Paris, France", "Washington, D.C.", "J. K. Rowling", "St. Louis", "a dog",
        "red, white and blue", "The Beatles", "f(x)", "Tom & Jerry", "Romeo and Juliet", "3 July 1990", "don't know",
    ],
)  # fmt: skip
def test_text_with_punctuation_is_returned_whole(answer: str) -> None:
    stop = "" if answer.endswith(".") else "."
    assert stated(f"The answer is {answer}{stop} I hope it is correct.", "text") == answer
    assert stated(f"The answer is:\n**{answer}**", "text") == answer
    latex = answer.replace("&", "\\&").replace(" ", "~", 1)
    assert stated(f"\\boxed{{\\text{{{latex}}}}}", "text") == answer


def test_quoted_and_emphasized_text_is_returned_whole() -> None:
    assert stated('The answer is "Paris, the city" because', "text") == "Paris, the city"
    assert stated("The answer is **Romeo** and **Juliet**.", "text") == "Romeo and Juliet"


# --- choices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "The answer is (B).", "The answer is option B.", "The answer is choice (B).", "The answer is the letter B",
        "The answer is B, a prime number.", "The answer is B because A is wrong.", "The answer is B: 25",
        "The answer is B - Paris", "The answer is (B) 72, not (A) 70", "The answer is B, not A.", "The answer is 'B'.",
        'The answer is "B".', "The answer is `B`.", "The answer is $\\text{B}$.", "The answer is $\\mathbf{(B)}$.",
        "The answer is \\textbf{(B)}", "The answer is for sure B, it can't be A or C", "The answer is b.", "Answer: b",
        "Answer: (B) because it is", "Answer: B) 25", "Answer: **B. Paris**", "Correct Answer: **B**",
        "### Answer\n**B**",
        "The correct option is **(B)** 25.", "Option B is correct.", "So B is the correct answer.",
        "(A) is wrong. Option: B",
        "The correct choice is (B).", "(B) is correct.", "The answer is answer choice B", "The answer is B (25).",
        "Answer: [[B]]", "The answer has to be B", "\\boxed{B}", "\\boxed{(B)}", "\\boxed{\\text{B}}",
        "\\boxed{\\text{B) Paris}}",
        "\\boxed{B. 25}", "\\boxed{\\textbf{(B)}\\ 25}", "\\boxed{\\textbf{(B) } 25}", "\\boxed{\\mathrm{(B)}\\ 12}",
        "\\boxed{\\mathbf{B}}", "\\boxed{\\text{Option B}}", "B", "(B)", "**B**", "B.", " b) ", "(B) 25", "B. Paris",
        "**Answer: B**\n\nIt follows from \\boxed{\\langle H\\rangle \\ll \\Delta E}.", "Answer: B\n\\boxed{x^2+1}",
        "Answer: B\n\\boxed{E = mc^2}", "Answer: B\n\\boxed{42}", "Answer: B\n\\boxed{\\text{the second one}}",
        "The answer is B.\nThe answer is clear.", "Answer: B\n\nExplanation: A is wrong.",
        "The answer is A? No.\nAnswer: B",
    ],
)  # fmt: skip
def test_choice_letters_are_read_from_statements(text: str) -> None:
    assert stated(text, "choice") == "B"


@pytest.mark.parametrize(
    "text", ["The answer is A, a prime number.", "The answer is A because", "The answer is A and not B."]
)
def test_the_letter_a_is_a_choice_only_where_it_is_not_an_article(text: str) -> None:
    assert stated(text, "choice") == "A"
    assert stated("The answer is I.", "choice") == "I"


@pytest.mark.parametrize(
    "text",
    [
        "The answer is A or B", "The answer is A and C.", "The answer is A, B and C.", "The answer is A/B.",
        "The answers are A and B", "The answer is (A) and (C)", "\\boxed{A, C}", "\\boxed{A \\text{ or } B}",
        "\\boxed{A} or \\boxed{B}", "Answer: C\nThe answer is A or B.", "The answer is a dog",
        "The answer is A prime number",
        "The answer is I think unclear", "The answer is either A or B.", "Both are right", "A. is wrong",
        "The answer is A? No, A is too large.\n(B)", "The answer is not B.", "\\boxed{A = 5}", "\\boxed{B^2}",
        "The answer is AB",
    ],
)  # fmt: skip
def test_a_text_without_a_choice_letter_gives_none(text: str) -> None:
    assert stated(text, "choice") is None


# --- boxes, and any text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{x \\text{ if } \\boxed{3}}", "3"),
        ("a \\\\ \\boxed{1} \\\\\\boxed{2}", "2"),
        ("\\boxed{3} and \\boxed{4", "3"),
        ("\\boxed 5, as asked", "5"),
        ("in \\boxed as asked", None),
        ("\\boxed{}", None),
    ],
)
def test_the_content_of_the_last_box_is_read(text: str, inside: str | None) -> None:
    assert boxed(text) == inside


PIECES = [*"A7x.,:?!$*_#\\{}()[] \n", "The answer is ", "\\boxed{", "Answer:", "####"]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_text_can_be_read(text: str) -> None:
    for kind in KINDS:
        answer = stated(text, kind)
        assert answer is None or answer.strip()


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 40_000, "\\boxed{1}" * 20_000, "\\boxed{" * 20_000 + "}" * 20_000, "the answer is " * 10_000,
        "the answer is x" + "\\(" * 40_000, "the answer is " + "$" * 60_000, "answer: " + "*" * 60_000,
        "#### x\n" * 10_000, "answer:" + "\n" * 60_000, "the answer is" + " " * 60_000 + "x", "{" * 20_000,
        "the answer is " + " (a" * 20_000, "#### " + "9" * 60_000, "the answer is " + "a. " * 20_000, "#" * 60_000,
    ],
    ids=range(15),
)  # fmt: skip
def test_huge_texts_are_read_in_linear_time(text: str) -> None:
    for kind in KINDS:
        stated(text, kind)
