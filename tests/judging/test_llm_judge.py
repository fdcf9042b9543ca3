"""Prompts for a model as judge, its replies, and votes."""

from __future__ import annotations

import json

import polars as pl
import pytest

from cos_assets.generation.engines.openai import ENGINE
from cos_assets.generation.engines.openai.options import Options
from cos_assets.generation.types import Chat
from cos_assets.judging import llm, vote
from cos_assets.judging.table import SCHEMA, Label, table

PROBLEM = {"question": "What is {2} + 2 ?", "answer": "4"}
WRONG = '{"reason": "no", "first_wrong_step": 2, "reasoning_correct": false}'
RIGHT = '{"reason": "yes", "first_wrong_step": null, "reasoning_correct": true}'


def test_the_prompt_contains_the_problem_the_answer_and_numbered_steps() -> None:
    text = llm.prompt(PROBLEM, "2 + 2 = 4\n\n  So it is 4 .\n", reference=True)
    assert "Problem:\nWhat is {2} + 2 ?\n\nReference answer:\n4\n\nSolution:\n[1] 2 + 2 = 4\n[2] So it is 4 .\n" in text
    assert '{"reason": "<one or two sentences>"' in text and "{{" not in text
    blind = llm.prompt(PROBLEM, "2 + 2 = 4", reference=False)
    assert "eference answer:" not in blind and "\n4\n" not in blind and "only if it leads to the right answer" in blind
    assert llm.prompt({**PROBLEM, "answer": None}, "2 + 2 = 4", reference=True) == blind


def test_steps_are_lines_or_sentences() -> None:
    assert llm.steps("a = 1\n\nb = 2.5 . c") == ["a = 1", "b = 2.5 . c"]
    assert llm.steps("a is 2.5 . Then b! So?") == ["a is 2.5 .", "Then b!", "So?"]
    assert llm.steps(" \n") == []


@pytest.mark.parametrize(
    ("reply", "finish", "expected"),
    [
        (RIGHT, "stop", Label("right", None, "yes")),
        (WRONG, "stop", Label("wrong", 2, "no")),
        (f"Let me think {{so}}.\n```json\n{WRONG}\n```\nDone.", "stop", Label("wrong", 2, "no")),
        (f"A draft: {RIGHT}. No: {WRONG}", "stop", Label("wrong", 2, "no")),
        (WRONG + " and so on", "length", Label("wrong", 2, "no")),
        (WRONG.replace("2", '"3"'), "stop", Label("wrong", 3, "no")),
        (WRONG.replace("2", "4"), "stop", Label("wrong", None, "no")),
        (WRONG.replace("2", "true"), "stop", Label("wrong", None, "no")),
        ('{"reasoning_correct": false}', "stop", Label("wrong", None, None)),
        (
            '{"reasoning_correct": "maybe"}',
            "stop",
            Label("unreadable", None, 'no judgement in: {"reasoning_correct": "maybe"}'),
        ),
        ("[1, 2", "stop", Label("unreadable", None, "no judgement in: [1, 2")),
        ("", "stop", Label("unreadable", None, "no judgement in: ")),
        ('{"reason": "it', "length", Label("truncated", None, 'the judge\'s reply was cut off: {"reason": "it')),
        ("I’m sorry, I can't.", "stop", Label("refused", None, "I’m sorry, I can't.")),
        ("", "error", Label("failed", None, "the judge gave no reply")),
    ],
)
def test_judgements_are_read_from_replies(reply: str, finish: str, expected: Label) -> None:
    assert llm.read(reply, finish, 3) == expected


LATEX = r"In step 2, \( \sqrt{2} \) is dropped"


@pytest.mark.parametrize(
    ("reply", "label", "step"),
    [
        # LaTeX, whose backslashes are not JSON escapes.
        (f'{{"reason": "{LATEX}", "first_wrong_step": 2, "reasoning_correct": false}}', "wrong", 2),
        (
            r'{"reason": "$\frac{1}{2}$ and \underline{x}", "first_wrong_step": 1, "reasoning_correct": false}',
            "wrong",
            1,
        ),
        (
            r'{"reason": "the set \{1, 2\}, \text{so no}", "first_wrong_step": 1, "reasoning_correct": false}',
            "wrong",
            1,
        ),
        (r'{"reason": "it costs \$4", "first_wrong_step": null, "reasoning_correct": true}', "right", None),
        (f'```json\n{{"reason": "{LATEX}",\n"reasoning_correct": false}}\n```\nSo {{x}} is wrong.', "wrong", None),
        # Syntax errors.
        ('{"reason": "one\ntwo\tthree", "first_wrong_step": null, "reasoning_correct": true}', "right", None),
        ("{'reason': 'fine', 'first_wrong_step': None, 'reasoning_correct': True}", "right", None),
        ("{'reason': 'it's the student's', 'first_wrong_step': 3, 'reasoning_correct': False}", "wrong", 3),
        ('{"reason": "fine", "first_wrong_step": null, "reasoning_correct": true,}', "right", None),
        ('{"reason": "fine", "first_wrong_step": null, "reasoning_correct": true', "right", None),
        ('{"reason": "fine" "first_wrong_step": null "reasoning_correct": true}', "right", None),
        ('{"reason": "it says "no", twice", "first_wrong_step": 2, "reasoning_correct": false}', "wrong", 2),
        ("{reason: fine, first_wrong_step: null, reasoning_correct: true}", "right", None),
        ("{“reason”: “fine”, “first_wrong_step”: null, “reasoning_correct”: true}", "right", None),
        ('{"reason": "fine", // yes\n"first_wrong_step": null, "reasoning_correct": true}', "right", None),
        ('"reason": "fine", "first_wrong_step": null, "reasoning_correct": true}', "right", None),
        ('{{"reason": "fine", "first_wrong_step": null, "reasoning_correct": true}}', "right", None),
        (r"{\"reason\": \"fine\", \"reasoning_correct\": true}", "right", None),
        ('{"reason": "no", "first_wrong_step": , "reasoning_correct": false}', "wrong", None),
        # Words, steps and wrappers.
        *(
            (f'{{"reasoning_correct": {word}}}', "right", None)
            for word in ("True", "TRUE", '"true"', '"True"', '"yes"', '"correct"')
        ),
        *(
            (f'{{"reasoning_correct": {word}}}', "wrong", None)
            for word in ("False", '"false"', '" No "', "no", '"Incorrect"')
        ),
        *(
            (f'{{"first_wrong_step": {step}, "reasoning_correct": false}}', "wrong", 2)
            for step in ("2", "2.0", '"2"', '"Step 2"', '"step 2."', "[2]", "Step 2")
        ),
        *(
            (f'{{"first_wrong_step": {step}, "reasoning_correct": false}}', "wrong", None)
            for step in ("-2", '"2 and 3"', "2.5", "0", "99", '"the second"')
        ),
        (f'{{"judgement": {WRONG}}}', "wrong", 2),
        (f"[{WRONG}]", "wrong", 2),
        # The last of several judgements is read.
        (f"A draft: {RIGHT}. No: {{'reasoning_correct': False}}", "wrong", None),
        (f"A draft: {{'reasoning_correct': False}}. No: {RIGHT}", "right", None),
        (
            f'A draft: {{"reason": "{LATEX}", "reasoning_correct": false}}. No: {RIGHT}. {{"note": "done"}}',
            "right",
            None,
        ),
        (f"{{'x' and y}} are sets. {{'reason': '{LATEX}', 'reasoning_correct': False}}", "wrong", None),
        (r'{"reason": "not {\"reasoning_correct\": true}, \( x \)", "reasoning_correct": false}', "wrong", None),
        # Text after the reasoning is read, up to a special token.
        (f"<think>Perhaps {RIGHT}</think>{WRONG}", "wrong", 2),
        (f"Perhaps {RIGHT}</think>\n{WRONG}", "wrong", 2),
        (f"{WRONG}<|im_end|>\n<|im_start|>user\n{RIGHT}", "wrong", 2),
    ],
)
def test_a_judgement_with_syntax_errors_is_read(reply: str, label: str, step: int | None) -> None:
    assert llm.read(reply, "stop", 3)[:2] == (label, step)


@pytest.mark.parametrize(
    "reply",
    [
        "The field reasoning_correct: true or false is to be given.",
        "reasoning_correct",
        '{"reason": "reasoning_correct: true"}',
        '{"reason": "I would say reasoning_correct is true", "reasoning_correct": null}',
        "{reasoning_correct: I would say true}",
        '{"reasoning_correct": <true or false>}',
        '{"reasoning_correct": true or false}',
        '{"reasoning_correct": true|false}',
        '{"reasoning_correct": true / false}',
        '{"reasoning_correct": "true" or "false"}',
        '{"reasoning_correct": [true, false]}',
        '{"reasoning_correct": 1}',
        '{"reasoning_correct": "partly true"}',
        '{"reasoning_correct": tru',
        '{"reasoning_correct": ',
        '{"reasoning_correct"',
        '{"reason": "<one or two sentences>", "first_wrong_step": <the number of the first wrong step, or null>, '
        '"reasoning_correct": <true or false>}',
        '{"step 1": {"reasoning_correct": true}, "step 2": {"reasoning_correct": true}}',
        f"<think>Perhaps {RIGHT}",
        "{'" * 3000,
        '{"a": ' * 5000,
    ],
)
def test_a_reply_without_a_judgement_is_unreadable(reply: str) -> None:
    assert llm.read(reply, "stop", 3).label == "unreadable"
    assert llm.read(reply, "length", 3).label == "truncated"


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        (f'{{"reason": "{LATEX}", "reasoning_correct": false}} and', "wrong"),
        (f"{RIGHT} But wait: {{'reason': 'it is", "right"),
        ('{"reason": "fine", "first_wrong_step": null, "reasoning_correct": true', "truncated"),
        ('{"reason": "fine", "first_wrong_step": null, "reasoning_correct": tr', "truncated"),
        (f'{{"reason": "{LATEX}", "reasoning_correct": false', "truncated"),
        (f"<think>Perhaps {RIGHT} or {WRONG}", "truncated"),
    ],
)
def test_a_truncated_reply_with_a_complete_object_is_read(reply: str, label: str) -> None:
    assert llm.read(reply, "length", 3).label == label


def test_latex_in_a_reason_is_kept() -> None:
    reply = r'{"reason": "\( \beta \) is \frac{1}{2}", "first_wrong_step": 1, "reasoning_correct": false}'
    assert llm.read(reply, "stop", 3).reason == r"\( \beta \) is \frac{1}{2}"
    valid = r'{"reason": "\beta is \frac{1}{2}", "first_wrong_step": 1, "reasoning_correct": false}'
    assert llm.read(valid, "stop", 3).reason == r"\beta is \frac{1}{2}"


def test_steps_are_taken_from_the_text_after_the_reasoning() -> None:
    assert llm.steps("<think>Hm.\nWell.</think>\na = 1\nb = 2<|im_end|>\nc") == ["a = 1", "b = 2"]
    assert llm.steps("<think>Hm.\nWell.") == []


def test_json_replies_are_requested_unless_the_options_say_otherwise() -> None:
    plain = Options.read(ENGINE.json_options(Chat(), {"base_url": "http://a/v1"}, llm.RESPONSE_FORMAT))
    schema = plain.extra_body["response_format"]["json_schema"]["schema"]
    assert schema["required"] == sorted(schema["properties"], key=list(json.loads(RIGHT)).index)
    told = ENGINE.json_options(Chat(), {"extra_body": {"response_format": None, "top_k": -1}}, llm.RESPONSE_FORMAT)
    assert told["extra_body"] == {"response_format": None, "top_k": -1}


def test_a_vote_is_the_majority_of_the_readable_judgements() -> None:
    rows = pl.DataFrame(
        {"problem_id": list("abcdef"), "sample_index": [0] * 6, "correct": [True] * 6, "weight": [1.0] * 6},
        schema_overrides={"sample_index": pl.Int32},
    ).with_columns(control=pl.lit(None, pl.String))
    said = {
        "x": ["right", "wrong", "right", "right", "refused", "unreadable"],
        "y": ["right", "wrong", "wrong", "wrong", "wrong", "refused"],
        "z": ["wrong", "wrong", "unreadable", "right", "unreadable", "truncated"],
    }
    members = {name: table(rows, name, "7", map(Label, labels)) for name, labels in said.items()}
    frame = vote.judge(rows, members, "all")
    assert frame.schema == SCHEMA and set(frame["judge"]) == {"all"}
    assert frame["label"].to_list() == ["right", "wrong", "undecided", "right", "wrong", "undecided"]
    assert frame["wrong_reasoning"].to_list() == [False, True, None, False, True, None]
    assert frame["reason"][0] == "right: x, y; wrong: z" and frame["reason"][5] == "none of its judges could tell"
    other = vote.judge(rows, members | {"z": members["z"].with_columns(judge_version=pl.lit("8"))}, "all")
    assert other["judge_version"][0] != frame["judge_version"][0]
