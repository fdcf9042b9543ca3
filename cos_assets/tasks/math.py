r"""MATH: competition problems of seven subjects and five levels with solutions (Hendrycks et al. 2021, MIT license).

    Problem:
    What is the sum of the roots of $x^2 - 5x + 6 = 0$?

    Solution:
    The polynomial factors as $(x - 2)(x - 3)$, so its roots are $2$ and $3$, and their sum is $\boxed{5}$.
    Final Answer: The final answer is $5$. I hope it is correct.

The prompt format is that of Minerva (Lewkowycz et al. 2022, arXiv 2206.14858), 4-shot, as in `minerva_math` of the
lm-evaluation-harness. The solution starts on its own line, and a next "Problem:" ends it.

`path:` is a folder with train (7,500 problems), test (5,000) and math500 (MATH-500, the 500 test problems of Lightman
et al. 2023); the file names are in `files` of the class. A row has `problem`, and `level`, `type` or `subject`,
`solution` and `answer` (or `final_answer`) if the copy has them. Without `answer`, the answer is the last boxed text
of the solution. On the hub, `DigitalLearningGmbH/MATH-lighteval` contains train and test [problem, level, type,
solution], and `HuggingFaceH4/MATH-500` the test split of 500 [problem, solution, answer, subject, level, unique_id].

The splits are: test is MATH-500. validation is drawn by the seed from the other 4,500 test problems, without the one
whose text is also a training problem (as published). train is complete, including two repeats of one question. If two
training rows of a copy have no final answer, they are kept, and their samples are graded `grader_error`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import polars as pl
from pydantic import Field

from cos_assets.grading.extraction import boxed, stated
from cos_assets.grading.grade import Kind
from cos_assets.tasks import PROBLEMS, Styled, boxed_prompt, same_text, text

_NEXT_PROBLEM = "\nProblem:"
_EXEMPLARS = (
    {
        "question": "The length of a rectangle is $3$ more than twice its width, and its perimeter is $36$. What is"
        " its area?",
        "solution": "Let the width be $w$. The length is $2w + 3$, so the perimeter is $2(w + 2w + 3) = 6w + 6$. From"
        r" $6w + 6 = 36$ we get $w = 5$, and the length is $2 \cdot 5 + 3 = 13$. The area is"
        r" $5 \cdot 13 = \boxed{65}$."
        "\n"
        "Final Answer: The final answer is $65$. I hope it is correct.",
    },
    {
        "question": r"Find the real number $x$ with $\sqrt{2x + 7} = x - 4$.",
        "solution": "Squaring both sides gives $2x + 7 = x^2 - 8x + 16$, that is $x^2 - 10x + 9 = 0$, or"
        " $(x - 1)(x - 9) = 0$. For $x = 1$ the right side is $-3$, which is no square root. For $x = 9$"
        r" both sides are $5$. So the only solution is $x = \boxed{9}$."
        "\n"
        "Final Answer: The final answer is $9$. I hope it is correct.",
    },
    {
        "question": r"Two different numbers are drawn at random from $1, 2, \ldots, 9$. What is the probability that"
        " their product is even? Express your answer as a common fraction.",
        "solution": r"There are $\binom{9}{2} = 36$ pairs. The product is odd only if both numbers are among"
        r" $1, 3, 5, 7, 9$, and there are $\binom{5}{2} = 10$ such pairs. So the probability is"
        r" $1 - \frac{10}{36} = \frac{26}{36} = \boxed{\frac{13}{18}}$."
        "\n"
        r"Final Answer: The final answer is $\frac{13}{18}$. I hope it is correct.",
    },
    {
        "question": r"For which real numbers $t$ is $\frac{t - 2}{t + 5} \le 0$? Express your answer in interval"
        " notation.",
        "solution": "The numerator is zero at $t = 2$ and the denominator at $t = -5$, where the fraction is not"
        " defined. For $t < -5$ both are negative and for $t > 2$ both are positive, so the fraction is"
        " positive. Between $-5$ and $2$ the numerator is negative and the denominator positive, so the"
        r" fraction is negative. With the zero at $t = 2$, the numbers are those in $\boxed{(-5, 2]}$."
        "\n"
        "Final Answer: The final answer is $(-5, 2]$. I hope it is correct.",
    },
)


class MathTask(Styled):
    """Base class of MATH and related tasks: the prompt, the extraction of the answer, and the kind of grading."""

    answer_kind: ClassVar[Kind] = "math"
    prompt_version: ClassVar[str] = "math-1"
    stop: ClassVar[tuple[str, ...]] = (_NEXT_PROBLEM,)
    exemplars: ClassVar[Sequence[Mapping[str, str]]] = _EXEMPLARS

    def complete(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = ()) -> str:
        worked = "".join(f"Problem:\n{s['question']}\n\nSolution:\n{s['solution']}\n\n" for s in shots)
        return f"{worked}Problem:\n{problem['question']}\n\nSolution:\n"

    def instruct(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = ()) -> str:
        return boxed_prompt(problem, shots)

    def answer_in(self, reply: str, gold: str | None = None) -> str | None:
        """Return the last stated answer (see `grading.extraction`).

        Text after a next "Problem:" is not part of the solution.
        """
        return stated(reply.split(_NEXT_PROBLEM, 1)[0], "math")


class Math(MathTask):
    """MATH; `validation` is the number of held-out test problems outside MATH-500."""

    name: str = "math"
    dataset: str = "DigitalLearningGmbH/MATH-lighteval"
    test_dataset: str = "HuggingFaceH4/MATH-500"
    test_revision: str | None = None
    validation: int = Field(500, ge=0)

    files: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "train": ("train", "math_train", "train-00000-of-00001", "math_train_7500_problem_answer"),
        "test": ("test", "math_test", "test-00000-of-00001", "math_test_5000"),
        "math500": ("math500", "math_500", "MATH-500", "test500"),
    }
    published: ClassVar[Mapping[str, int]] = {"train": 7500, "test": 5000, "math500": 500}

    def hub(self, part: str) -> tuple[str, str | None, str, str | None]:
        if part == "math500":
            return self.test_dataset, None, "test", self.test_revision
        return super().hub(part)

    def problems(self) -> pl.DataFrame:
        """Return all splits; `truth` contains the `unique_id` of rows that have one."""
        train, rest, test = (
            with_ids(f"math/{name}", [math_problem(split, *row) for row in self.rows(part)])
            for name, part, split in (("train", "train", "train"), ("test",) * 3, ("test", "math500", "test"))
        )
        tested, trained = ({same_text(p["question"]) for p in part} for part in (test, train))
        rest = [p for p in rest if same_text(p["question"]) not in tested]
        expected = self.published["test"] - self.published["math500"]
        if self.check_rows and len(rest) != expected:
            raise ValueError(
                f"math: {len(rest)} test problems are outside MATH-500; {expected} were published."
                " Use `test` and `math500` from the same copy, or set check_rows: false if the number is intended"
            )
        known = {p["problem_id"]: p for p in rest if same_text(p["question"]) not in trained}
        if self.validation > len(known):
            raise ValueError(
                f"validation: {self.validation} is not allowed; {len(known)} test problems are outside MATH-500"
            )
        drawn = set(self.draw(known, self.validation))
        held_out = [{**p, "split": "validation"} for i, p in known.items() if i in drawn]
        return pl.DataFrame([*train, *held_out, *test], schema=PROBLEMS)


def math_problem(split: str, where: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a published row to a problem without its id.

    The solution gets the ending that sampled solutions must have.
    """
    question = text(row, "problem", where).strip()
    solution = text(row, "solution", where).strip() if row.get("solution") is not None else None
    if not question:
        raise ValueError(f"{where}: 'problem' is empty; expected a question")
    column = next((c for c in ("answer", "final_answer") if row.get(c) is not None), None)
    if column is None and solution is None:
        raise ValueError(f"{where}: has no 'answer', 'final_answer' or 'solution'; found: {', '.join(row)}")
    stated = text(row, column, where) if column else boxed(solution or "")
    answer = " ".join((stated or "").split()) or None
    if answer is None and split != "train":
        raise ValueError(f"{where}: {'the answer is empty' if column else 'the solution boxes no answer'}")
    ending = f"\nFinal Answer: The final answer is ${answer}$. I hope it is correct."
    level = str(row.get("level") or "").removeprefix("Level").strip()
    return {
        "split": split,
        "question": question,
        "answer": answer,
        "solution": f"{solution}{ending}" if solution and answer else None,
        "level": level if level.isdecimal() else None,
        "subject": row.get("type") or row.get("subject"),
        "truth": json.dumps({"unique_id": row["unique_id"]}) if row.get("unique_id") else None,
    }


def with_ids(prefix: str, problems: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add ids derived from the questions, because copies differ in order.

    The second of two equal questions gets `-2`.
    """
    named: dict[str, dict[str, Any]] = {}
    for problem in problems:
        first = f"{prefix}/{hashlib.sha256(same_text(problem['question']).encode()).hexdigest()[:12]}"
        found, times = first, 1
        while found in named:
            times += 1
            found = f"{first}-{times}"
        named[found] = {"problem_id": found, **problem}
    return list(named.values())


TASK = Math
