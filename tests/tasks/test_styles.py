"""Prompt styles: base models get a text to continue, instruct models an instruction on the form of the answer."""

from __future__ import annotations

from typing import Any

import pytest

from cos_assets.tasks import Task, make

SHOT = {"question": "What is 1 + 1?", "solution": "1 + 1 = 2.\n#### 2"}
PROBLEM = {"question": "What is 2 + 3?"}
JSONL: dict[str, Any] = {"name": "jsonl", "path": "a"}
STYLED = ["gsm8k", "math", "functional_math", "mbpp", "humaneval", JSONL]


@pytest.mark.parametrize("given", STYLED, ids=str)
def test_prompts_for_chat_models_state_the_form_of_the_answer(given: Any) -> None:
    task = make(given)
    asked, continued = task.prompt(PROBLEM, chat=True), task.prompt(PROBLEM)
    assert asked != continued
    assert ("block of code" in asked) == (task.answer_kind == "tests")
    assert ("\\boxed{}" in asked) == (task.answer_kind != "tests")
    assert "What is 2 + 3?" in asked
    assert task.asked_version(chat=True) != task.asked_version() == task.prompt_version
    assert task.stops(chat=True) == ()
    assert task.stops() == task.stop


@pytest.mark.parametrize("given", STYLED, ids=str)
def test_prompts_with_examples_do_not_state_the_form(given: Any) -> None:
    task = make(given)
    assert task.prompt(PROBLEM, [SHOT], chat=True) == task.prompt(PROBLEM, [SHOT])
    assert task.asked_version(chat=True, shots=1) == task.prompt_version


@pytest.mark.parametrize("name", ["gsm8k", "math", "mbpp", "humaneval"])
def test_the_style_key_sets_the_form_for_all_models(name: str) -> None:
    complete, instruct, auto = (make({"name": name, "style": style}) for style in ("complete", "instruct", "auto"))
    assert complete.prompt(PROBLEM, chat=True) == complete.prompt(PROBLEM) == auto.prompt(PROBLEM)
    assert instruct.prompt(PROBLEM, chat=True) == instruct.prompt(PROBLEM) == auto.prompt(PROBLEM, chat=True)
    assert instruct.stops() == ()
    assert instruct.prompt(PROBLEM, [SHOT]).endswith(instruct.prompt(PROBLEM))
    assert "1 + 1 = 2." in instruct.prompt(PROBLEM, [SHOT])


def test_prompts_for_base_models_do_not_change_between_versions() -> None:
    assert make("gsm8k").prompt(PROBLEM) == "Question: What is 2 + 3?\nAnswer:\n"
    assert make("math").prompt(PROBLEM) == "Problem:\nWhat is 2 + 3?\n\nSolution:\n"
    assert make("humaneval").prompt(PROBLEM) == "What is 2 + 3?"
    assert make("humaneval").stops() == ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
    assert make("mbpp").prompt(PROBLEM).endswith("your task: What is 2 + 3?\n[BEGIN]\n")


def test_answers_in_the_requested_form_are_read() -> None:
    """The task reads an answer in the form that its prompt requests."""
    assert make("gsm8k").answer("2 + 3 = 5, so \\boxed{5}.") == "5"
    assert make("math").answer("2 + 3 = 5, so \\boxed{5}.") == "5"
    assert make({**JSONL, "grade": "choice"}).answer("It is \\boxed{B}.") == "B"
    assert make({**JSONL, "grade": "text"}).answer("It is \\boxed{Paris}.") == "Paris"


@pytest.mark.parametrize(
    ("grade", "words"),
    [
        ("number", "put your final answer within \\boxed{}"),
        ("math", "put your final answer within \\boxed{}"),
        ("text", "put your final answer within \\boxed{}"),
        ("choice", "put the letter of your final answer within \\boxed{}"),
        ("tests", "in one block of code"),
    ],
)
def test_each_kind_of_answer_has_its_own_instruction(grade: str, words: str) -> None:
    assert words in make({**JSONL, "grade": grade}).prompt(PROBLEM, chat=True)


@pytest.mark.parametrize("own", [{"template": "Q: {question}\nA:"}, {"answer_pattern": "=> (.*)"}])
def test_a_configured_form_is_used_for_chat_models(own: dict[str, str]) -> None:
    task = make({**JSONL, **own})
    assert task.prompt(PROBLEM, chat=True) == task.prompt(PROBLEM)
    assert task.asked_version(chat=True) == task.prompt_version


LABELS = {
    "Question: {question}\nAnswer:": ("\nQuestion:",),
    "Q: {question}\nA:": ("\nQ:",),
    "## Problem\n{question}": ("\n## Problem",),
    "<question>{question}</question>": ("\n<question>",),
    "1. {question}\n": (),
    "# {question}\n": (),
    "a) {question}": (),
    "- {question}": (),
    "Solve {question}": (),
    "{question}": (),
}


@pytest.mark.parametrize("template", LABELS)
def test_only_labels_of_the_template_are_stop_strings(template: str) -> None:
    assert make({**JSONL, "template": template}).stop == LABELS[template]


def test_every_task_describes_the_forms_that_it_reads() -> None:
    for name in ("gsm8k", "math", "mbpp", "humaneval", "ifeval", "oasst", "arithmetic"):
        task: Task = make(name)
        assert task.formats
