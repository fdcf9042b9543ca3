"""Reasoning over HTTP: what a server is asked for, and what is read from its reply, in every dialect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.openai_server import Server, completion, usage

from cos_assets.generation import engines
from cos_assets.generation.engines.openai.reasoning import DIALECTS, dialect_of, fields
from cos_assets.generation.generate import open_engine
from cos_assets.generation.model import resolve
from cos_assets.generation.types import Chat, Completion, Reasoning, Request, Sampling

SAMPLING = Sampling(temperature=0.6, max_tokens=500, stop=("Q:",))
DETAILS = {"completion_tokens_details": {"reasoning_tokens": 30}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with Server() as made:
        yield made


AUTO = Reasoning()


def ask(server: Server, reasoning: Reasoning = AUTO, system: str | None = None, **options: Any) -> Completion:
    chat = Chat(system=system, reasoning=reasoning)
    model = resolve("org/model", engine="openai", chat=chat, options={"base_url": server.url, **options})
    engine = open_engine(model)
    ((found,),) = list(engine.stream([Request("p", "2 + 3?", (0,))], SAMPLING))
    engine.close()
    return found


# --- replies ---------------------------------------------------------------------------------------------------------

REPLIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "reasoning_content": ("It is 5.", {"reasoning_content": "2 + 3"}),
    "reasoning": ("It is 5.", {"reasoning": "2 + 3"}),
    "reasoning and its details": (
        "It is 5.",
        {"reasoning": "2 + 3", "reasoning_details": [{"type": "reasoning.text", "text": "2 + 3", "index": 0}]},
    ),
    "reasoning_details": (
        "It is 5.",
        {
            "reasoning_details": [
                {"type": "reasoning.text", "text": "2 "},
                {"type": "reasoning.summary", "summary": "+ 3"},
                {"type": "reasoning.encrypted", "data": "c2VjcmV0"},
            ]
        },
    ),
    "thinking (Ollama)": ("It is 5.", {"thinking": "2 + 3"}),
    "parts with thinking": ([{"type": "thinking", "thinking": "2 + 3"}, {"type": "text", "text": "It is 5."}], {}),
    "parts with nested thinking (Mistral)": (
        [{"type": "thinking", "thinking": [{"type": "text", "text": "2 + 3"}]}, {"type": "text", "text": "It is 5."}],
        {},
    ),
    "parts with a thought (Gemini)": ([{"text": "2 + 3", "thought": True}, {"text": "It is 5."}], {}),
    "tags in the text": ("<think>2 + 3</think>It is 5.", {}),
    "tags in the text, the first one in the prompt": ("2 + 3</think>It is 5.", {}),
    "harmony channels": (
        "<|channel|>analysis<|message|>2 + 3<|end|><|start|>assistant<|channel|>final<|message|>It is 5.",
        {},
    ),
}


@pytest.mark.parametrize(("content", "beside"), REPLIES.values(), ids=REPLIES)
def test_reply_and_reasoning_are_read_apart(server: Server, content: Any, beside: dict[str, Any]) -> None:
    server.reply = lambda request: completion(request, content, counts=usage(12, 40, None) | DETAILS, **beside)
    found = ask(server)
    assert (found.reasoning, found.text, found.finish_reason) == ("2 + 3", "It is 5.", "stop")
    assert (found.prompt_tokens, found.completion_tokens, found.reasoning_tokens) == (12, 40, 30)


def test_a_reply_without_reasoning_has_none(server: Server) -> None:
    server.reply = lambda request: completion(request, "It is 5.", counts=usage(12, 40, None))
    found = ask(server)
    assert (found.reasoning, found.text, found.reasoning_tokens) == (None, "It is 5.", None)


def test_reasoning_that_is_not_kept_is_counted(server: Server) -> None:
    server.reply = lambda request: completion(request, "5", counts=usage() | DETAILS, reasoning_content="2 + 3")
    found = ask(server, Reasoning(keep=False))
    assert (found.reasoning, found.text, found.reasoning_tokens) == (None, "5", 30)


def test_hidden_reasoning_is_counted(server: Server) -> None:
    server.reply = lambda request: completion(request, "5", counts=usage(12, 40, None) | DETAILS)
    assert ask(server).reasoning_tokens == 30


def test_reasoning_that_is_counted_apart_is_added_to_the_completion(server: Server) -> None:
    """xAI and Gemini do not include the reasoning in `completion_tokens`; the total tells."""
    counts = {"prompt_tokens": 12, "completion_tokens": 10, "total_tokens": 52, **DETAILS}
    server.reply = lambda request: completion(request, "5", counts=counts)
    found = ask(server)
    assert (found.completion_tokens, found.reasoning_tokens) == (40, 30)


@pytest.mark.parametrize(
    ("content", "beside", "mode"),
    [(None, {"reasoning_content": "2 +"}, "auto"), ("<think>2 +", {}, "auto"), ("2 +", {}, "on")],
    ids=["beside", "tags", "no tags, but mode: on"],
)
def test_reasoning_that_is_cut_off_leaves_no_reply(
    server: Server, content: Any, beside: dict[str, Any], mode: Any
) -> None:
    server.reply = lambda request: completion(
        request, content, finish="length", counts=usage(12, 500, None) | DETAILS, **beside
    )
    found = ask(server, Reasoning(mode=mode))
    assert (found.reasoning, found.text, found.finish_reason) == ("2 +", "", "length")


def test_stop_strings_are_applied_to_the_reply_only(server: Server) -> None:
    server.reply = lambda request: completion(request, "5 Q: next", reasoning_content="Q: 2 + 3")
    found = ask(server)
    assert (found.reasoning, found.text) == ("Q: 2 + 3", "5 ")


# --- requests --------------------------------------------------------------------------------------------------------

FULL, OFF = Reasoning(mode="on", budget=2000), Reasoning(mode="off")
REQUESTS: dict[str, tuple[Reasoning, dict[str, Any]]] = {
    "vllm": (
        FULL,
        {"chat_template_kwargs": {"enable_thinking": True, "thinking": True}, "thinking_token_budget": 2000},
    ),
    "openai": (Reasoning(effort="low"), {"reasoning_effort": "low"}),
    "openrouter": (FULL, {"reasoning": {"enabled": True, "max_tokens": 2000}}),
    "deepseek": (Reasoning(mode="on"), {"thinking": {"type": "enabled"}}),
    "anthropic": (FULL, {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
    "gemini": (
        FULL,
        {"extra_body": {"google": {"thinking_config": {"include_thoughts": True, "thinking_budget": 2000}}}},
    ),
    "dashscope": (FULL, {"enable_thinking": True, "thinking_budget": 2000}),
    "ollama": (Reasoning(mode="on", effort="high"), {"reasoning_effort": "high"}),
}
TURNED_OFF = {
    "vllm": {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}},
    "openai": {"reasoning_effort": "none"},
    "openrouter": {"reasoning": {"enabled": False}},
    "deepseek": {"thinking": {"type": "disabled"}},
    "anthropic": {"thinking": {"type": "disabled"}},
    "gemini": {"extra_body": {"google": {"thinking_config": {"thinking_budget": 0}}}},
    "dashscope": {"enable_thinking": False},
    "ollama": {"reasoning_effort": "none"},
}


def test_every_dialect_has_a_request() -> None:
    assert REQUESTS.keys() == TURNED_OFF.keys() == DIALECTS.keys()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_server_is_asked_in_its_dialect(server: Server, dialect: str) -> None:
    for reasoning, expected in (REQUESTS[dialect], (OFF, TURNED_OFF[dialect]), (Reasoning(), {})):
        server.requests.clear()
        ask(server, reasoning, reasoning_dialect=dialect)
        (body,) = server.bodies
        usual = {"model", "messages", "temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop"}
        assert {key: value for key, value in body.items() if key not in usual} == expected
        limit = "max_completion_tokens" if dialect == "openai" and expected else "max_tokens"
        assert body[limit] == 500


def test_a_reasoning_model_of_openai_gets_its_own_limit(server: Server) -> None:
    """Also where the mode alone is given, which OpenAI's models need no field for."""
    ask(server, Reasoning(mode="on"), reasoning_dialect="openai")
    assert server.bodies[0]["max_completion_tokens"] == 500 and "max_tokens" not in server.bodies[0]


def test_arguments_of_the_chat_template_take_precedence(server: Server) -> None:
    chat = Chat(kwargs={"enable_thinking": False, "top": 1}, reasoning=Reasoning(mode="on"))
    engine = open_engine(resolve("m", engine="openai", chat=chat, options={"base_url": server.url}))
    list(engine.stream([Request("p", "2 + 3?", (0,))], SAMPLING))
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False, "thinking": True, "top": 1}


def test_a_system_message_is_the_first_message(server: Server) -> None:
    ask(server, system="Be brief.")
    assert server.bodies[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2 + 3?"},
    ]


def test_the_dialect_is_guessed_from_the_address() -> None:
    known = {
        "https://api.openai.com/v1": "openai",
        "https://openrouter.ai/api/v1": "openrouter",
        "https://api.deepseek.com": "deepseek",
        "https://generativelanguage.googleapis.com/v1beta/openai/": "gemini",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1": "dashscope",
        "http://127.0.0.1:11434/v1": "ollama",
        "http://node7:8000/v1": "vllm",
    }
    assert {url: dialect_of(url) for url in known} == known


@pytest.mark.parametrize(
    ("dialect", "reasoning", "message"),
    [
        ("openai", Reasoning(budget=9), r"reasoning.budget: the server \(openai\) has no budget; use effort"),
        ("ollama", Reasoning(budget=9), r"reasoning.budget: the server \(ollama\) has no budget"),
        ("openrouter", Reasoning(budget=9, effort="low"), "reasoning.effort: the server takes either budget or effort"),
        ("anthropic", Reasoning(mode="on"), "reasoning.budget: is missing; the server needs one"),
        ("dashscope", Reasoning(effort="low"), "reasoning.effort: the server has no efforts"),
    ],
)
def test_what_a_server_cannot_do_is_refused_when_the_study_is_loaded(
    dialect: str, reasoning: Reasoning, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fields(dialect, reasoning)
    options = {"base_url": "http://a/v1", "reasoning_dialect": dialect}
    with pytest.raises(ValueError, match=message):
        engines.get("openai").validate("m", Chat(reasoning=reasoning), options)


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"engine_options.reasoning_dialect: .*'klingon' is not known; allowed: vllm, openai"
    ):
        engines.get("openai").validate("m", Chat(), {"reasoning_dialect": "klingon"})


def test_penalties_are_sent_if_they_are_used(server: Server) -> None:
    model = resolve("m", engine="openai", chat=Chat(), options={"base_url": server.url})
    sampling = Sampling(min_p=0.1, presence_penalty=1.5)
    list(open_engine(model).stream([Request("p", "2 + 3?", (0,))], sampling))
    body = server.bodies[0]
    assert (body["min_p"], body["presence_penalty"]) == (0.1, 1.5)
    assert not {"repetition_penalty", "frequency_penalty"} & body.keys()
