"""GSM8K: grade-school word problems with worked solutions (Cobbe et al. 2021, MIT license).

    Question: Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How
    many clips did Natalia sell altogether in April and May?
    Answer:
    Natalia sold 48/2 = 24 clips in May.
    Natalia sold 48+24 = 72 clips altogether in April and May.
    #### 72

`path:` is a folder with train and test as published. There is no published validation split, and the paper's 7,500 +
500 cannot be disjoint rows of 7,473. The validation split here therefore consists of `validation` train rows, drawn
by a hash of seed and row; the other rows remain in train.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import polars as pl
from pydantic import Field

from cos_assets.grading.extraction import stated
from cos_assets.grading.numbers import parse_number
from cos_assets.tasks import PROBLEMS, Styled, boxed_prompt, text

_MARKS = re.compile(r"<<[^<>]*>>")
_NEXT_QUESTION = "\nQuestion:"
_EXEMPLARS = (
    {
        "question": "A florist ties 6 bouquets of 8 tulips each and 4 bouquets of 5 roses each. How many flowers does"
        " she use?",
        "solution": "She uses 6*8 = 48 tulips.\nShe uses 4*5 = 20 roses.\nIn all she uses 48+20 = 68 flowers.\n#### 68",
    },
    {
        "question": "Omar reads 15 pages on each of the first 4 days of the week and 20 pages on each of the other 3"
        " days. His book has 150 pages. How many pages are left at the end of the week?",
        "solution": "In the first 4 days he reads 15*4 = 60 pages.\n"
        "In the other 3 days he reads 20*3 = 60 pages.\n"
        "In all he reads 60+60 = 120 pages.\n"
        "There are 150-120 = 30 pages left.\n"
        "#### 30",
    },
    {
        "question": "A train ticket costs $24, and children pay half of that. How much do 2 adults and 3 children pay"
        " together?",
        "solution": "A child pays 24/2 = $12.\n"
        "The adults pay 2*24 = $48.\n"
        "The children pay 3*12 = $36.\n"
        "Together they pay 48+36 = $84.\n"
        "#### 84",
    },
    {
        "question": "A tank holds 200 liters and is 35% full. A pump brings in 13 liters a minute. After how many"
        " minutes is the tank full?",
        "solution": "The tank holds 200*35/100 = 70 liters now.\n"
        "There is room for 200-70 = 130 liters more.\n"
        "The pump needs 130/13 = 10 minutes.\n"
        "#### 10",
    },
    {
        "question": "Lena is 4 years older than twice the age of her brother Kai. Lena is 18. How old will Kai be in"
        " 6 years?",
        "solution": "Twice the age of Kai is 18-4 = 14.\n"
        "Kai is 14/2 = 7 years old.\n"
        "In 6 years he will be 7+6 = 13 years old.\n"
        "#### 13",
    },
    {
        "question": "A baker sells 45 rolls in the morning and two thirds as many in the afternoon. A roll costs"
        " $0.40. How much money does he take in?",
        "solution": "In the afternoon he sells 45*2/3 = 30 rolls.\n"
        "In all he sells 45+30 = 75 rolls.\n"
        "He takes in 75*0.40 = $30.\n"
        "#### 30",
    },
    {
        "question": "Three friends share the cost of a tent for $540 and a stove for $60 equally. One of them has"
        " already given $150. How much does she still owe?",
        "solution": "Tent and stove cost 540+60 = $600.\n"
        "Each friend pays 600/3 = $200.\n"
        "She still owes 200-150 = $50.\n"
        "#### 50",
    },
    {
        "question": "A cyclist rides for 2 hours at 12 km per hour, rests for 1 hour, and rides for 3 hours at 10 km"
        " per hour. What is her average speed over the whole time, in km per hour?",
        "solution": "Before the rest she rides 2*12 = 24 km.\n"
        "After the rest she rides 3*10 = 30 km.\n"
        "In all she rides 24+30 = 54 km.\n"
        "The whole time is 2+1+3 = 6 hours.\n"
        "Her average speed is 54/6 = 9 km per hour.\n"
        "#### 9",
    },
)


class Gsm8k(Styled):
    """GSM8K; `validation` is the number of held-out train rows."""

    name: str = "gsm8k"
    dataset: str = "openai/gsm8k"
    config: str | None = "main"
    validation: int = Field(500, ge=0)

    files: ClassVar[Mapping[str, tuple[str, ...]]] = {"train": ("train",), "test": ("test",)}
    published: ClassVar[Mapping[str, int]] = {"train": 7473, "test": 1319}
    prompt_version: ClassVar[str] = "gsm8k-1"
    stop: ClassVar[tuple[str, ...]] = (_NEXT_QUESTION,)
    exemplars: ClassVar[Sequence[Mapping[str, str]]] = _EXEMPLARS

    def problems(self) -> pl.DataFrame:
        """Return all splits; `level` is the number of steps of the reference, `truth` the reference as published."""
        train, test = (
            [_problem(part, number, *row) for number, row in enumerate(self.rows(part))] for part in ("train", "test")
        )
        if self.validation >= len(train):
            raise ValueError(
                f"validation: {self.validation} is not allowed; there are {len(train)} train rows to split"
            )
        drawn = set(self.draw((p["problem_id"] for p in train), self.validation))
        for problem in train:
            problem["split"] = "validation" if problem["problem_id"] in drawn else "train"
        return pl.DataFrame([*train, *test], schema=PROBLEMS)

    def complete(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = ()) -> str:
        worked = "".join(f"Question: {s['question']}\nAnswer:\n{s['solution']}\n\n" for s in shots)
        return f"{worked}Question: {problem['question']}\nAnswer:\n"

    def instruct(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = ()) -> str:
        return boxed_prompt(problem, shots)

    def answer_in(self, reply: str, gold: str | None = None) -> str | None:
        """Return the last stated number (see `grading.extraction`).

        Text after a next "Question:" is not part of the solution.
        """
        return stated(reply.split(_NEXT_QUESTION, 1)[0], "number")


def _problem(split: str, number: int, where: str, row: Mapping[str, Any]) -> dict[str, Any]:
    question, reference = (text(row, column, where) for column in ("question", "answer"))
    steps, mark, answer = reference.rpartition("####")
    answer = answer.strip().replace(",", "")
    if not mark or parse_number(answer) is None:
        raise ValueError(f"{where}: 'answer' ends in {reference[-40:]!r}; expected a last line `#### <number>`")
    steps = _MARKS.sub("", steps).strip()
    return {
        "problem_id": f"gsm8k/{split}/{number:05d}",
        "split": split,
        "question": question.strip(),
        "answer": answer,
        "solution": f"{steps}\n#### {answer}",
        "level": str(steps.count("\n") + 1),
        "subject": None,
        "truth": json.dumps({"answer": reference}, ensure_ascii=False),
    }


TASK = Gsm8k
