"""What a model is asked, how its replies are read, and votes."""

from __future__ import annotations

import json

import polars as pl
import pytest

from cos_assets.generation.engines.openai_options import Options
from cos_assets.judging import llm, vote
from cos_assets.judging.table import SCHEMA, Label, table

PROBLEM = {"question": "What is {2} + 2 ?", "answer": "4"}
WRONG = '{"reason": "no", "first_wrong_step": 2, "reasoning_correct": false}'
RIGHT = '{"reason": "yes", "first_wrong_step": null, "reasoning_correct": true}'


def test_a_judge_is_told_problem_answer_and_numbered_steps() -> None:
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
            '{"reasoning_correct": "no"}',
            "stop",
            Label("unreadable", None, 'no judgement in: {"reasoning_correct": "no"}'),
        ),
        ("[1, 2", "stop", Label("unreadable", None, "no judgement in: [1, 2")),
        ("", "stop", Label("unreadable", None, "no judgement in: ")),
        ('{"reason": "it', "length", Label("truncated", None, 'the judge\'s reply was cut off: {"reason": "it')),
        ("I’m sorry, I can't.", "stop", Label("refused", None, "I’m sorry, I can't.")),
        ("", "error", Label("failed", None, "the judge gave no reply")),
    ],
)
def test_replies_are_read(reply: str, finish: str, expected: Label) -> None:
    assert llm.read(reply, finish, 3) == expected


def test_a_chat_server_is_asked_for_json_unless_told_otherwise() -> None:
    plain = Options.read(llm.structured({"base_url": "http://a/v1"}))
    schema = plain.extra_body["response_format"]["json_schema"]["schema"]
    assert schema["required"] == sorted(schema["properties"], key=list(json.loads(RIGHT)).index)
    told = llm.structured({"extra_body": {"response_format": None, "top_k": -1}})
    assert told["extra_body"] == {"response_format": None, "top_k": -1}


def test_a_vote_is_what_most_say_who_say_anything() -> None:
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
