"""The openai engine against real HTTP servers: support.openai_server, and vLLM's own."""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import json
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.openai_server import (
    CUT,
    HTML,
    Fault,
    Received,
    Reply,
    Server,
    answer,
    completion,
    echo,
    error,
    script,
    slow,
    usage,
    when,
)
from support.vllm_served import serve

from cos_assets.generation.completions import sample_seed
from cos_assets.generation.engines.openai import limits, online, rate_limit
from cos_assets.generation.generate import Buyer, Prices, generate, open_engine, preflight
from cos_assets.generation.model import resolve
from cos_assets.generation.types import Chat, Completion, Model, Request, Sampling

KEY = "sk-very-secret-0123456789"
SAMPLING = Sampling(temperature=0.7, top_k=3, top_p=0.9, max_tokens=50, stop=("\n\n", "Q:"), seed=5)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Each test has its own server: late requests of a test may still arrive after its end."""
    monkeypatch.setenv("SOME_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(online, "_BACKOFF", 0.002)  # the same number of tries with shorter waits
    monkeypatch.setattr(rate_limit, "_REST", 0.05)
    with Server() as made:
        yield made


def served(server: Server, chat: bool = False, **options: Any) -> Model:
    given = {"base_url": server.url, "api_key_env": "SOME_KEY", **options}
    return resolve("org/model", engine="openai", params=10.0, chat=Chat() if chat else None, options=given)


def asked(prompts: int, samples: int) -> list[Request]:
    return [Request(f"p{p}", f"question {p}", tuple(range(samples))) for p in range(prompts)]


def ask(model: Model, prompts: int = 2, samples: int = 3, sampling: Sampling = SAMPLING) -> list[Completion]:
    engine = open_engine(model)
    found = [c for batch in engine.stream(asked(prompts, samples), sampling) for c in batch]
    engine.close()
    wanted = [(f"p{p}", i) for p in range(prompts) for i in range(samples)]
    assert sorted((c.problem_id, c.index) for c in found) == sorted(wanted), "each index exactly once"
    assert not [t for t in threading.enumerate() if t.name == "engine-openai"]
    assert KEY not in str(found)
    return sorted(found, key=lambda c: (c.problem_id, c.index))


def question_1(reply: Any) -> Reply:
    """Give `reply` to requests of this prompt, and answer others."""
    return when(lambda request: request.prompt == "question 1", reply)


def test_a_completion_request_contains_the_sampling_parameters(server: Server) -> None:
    found = ask(served(server))
    assert set(server.calls) == {"POST /v1/completions"} and server.keys == {f"Bearer {KEY}"}
    for body in server.bodies:
        seed = body.pop("seed")
        assert seed in [sample_seed(5, body["prompt"], i) % 2**31 for i in range(3)]
        assert body.pop("prompt") in ("question 0", "question 1")
        assert body == {
            "model": "org/model",
            "temperature": 0.7,
            "top_p": 0.9,
            "top_k": 3,
            "max_tokens": 50,
            "stop": ["\n\n", "Q:"],
        }
    for c in found:
        assert c.text == answer(c.prompt, sample_seed(5, c.prompt, c.index) % 2**31)
        assert (c.finish_reason, c.error) == ("stop", None)
        assert (c.prompt_tokens, c.completion_tokens, c.cached_tokens) == (100, 7, 64)
    assert all(c.seconds > 0 for c in found)


def test_greedy_chat_has_no_seed_and_no_filter(server: Server) -> None:
    greedy = Sampling(temperature=0, top_k=3, max_tokens=50)
    extra = {"chat_template_kwargs": {"thinking": False}, "max_tokens": None, "max_completion_tokens": 50}
    found = ask(served(server, chat=True, extra_body=extra), 1, 1, greedy)
    assert [request.path for request in server.requests] == ["/v1/chat/completions"]
    assert server.bodies == [
        {
            "model": "org/model",
            "messages": [{"role": "user", "content": "question 0"}],
            "temperature": 0,
            "top_p": 1.0,
            "max_completion_tokens": 50,
            "chat_template_kwargs": {"thinking": False},
        }
    ]
    assert found[0].text == answer("question 0", None)


def test_n_sends_one_request_and_splits_its_token_count_exactly(server: Server) -> None:
    server.reply = lambda request: echo(request, counts=usage(completion=37))
    found = ask(served(server, n=True), 2, 5)
    assert [body["n"] for body in server.bodies] == [5, 5]
    for problem in ("p0", "p1"):
        rows = [c for c in found if c.problem_id == problem]
        assert [c.completion_tokens for c in rows] == [8, 8, 7, 7, 7]
        assert [c.prompt_tokens for c in rows] == [20] * 5
        assert [c.cached_tokens for c in rows] == [13, 13, 13, 13, 12]
        assert len({c.text for c in rows}) == 5


def test_samples_that_a_server_without_n_omits_are_requested_again(server: Server) -> None:
    server.reply = lambda request: completion(request, answer(request.prompt, request.body["seed"]))
    found = ask(served(server, n=True), 2, 4)
    assert len(server.bodies) == 2 * 4 and all(c.completion_tokens == 7 for c in found)


def test_choices_are_assigned_by_index_and_each_is_used_once(server: Server) -> None:
    def reply(request: Received) -> Any:
        given = echo(request)
        choices = given["choices"]
        if len(choices) == 1:
            return given
        match request.prompt[-1]:
            case "0":
                choices.reverse()
            case "1":
                given["choices"] = [*choices[2:], *choices]
            case "2":
                choices[3] = choices[1]  # one choice is missing
            case "3":
                choices[2]["text"] = None
            case "4":
                for choice in choices:
                    choice["index"] = 0  # a server that does not number
        return given

    server.reply = reply
    found = ask(served(server, n=True), 5, 4)
    for p in range(5):
        texts = [c.text for c in found if c.problem_id == f"p{p}"]
        first = sample_seed(5, f"question {p}", 0) % 2**31
        lacking = {2: 3, 3: 2}.get(p)
        for i, text in enumerate(texts):
            seed, number = (sample_seed(5, f"question {p}", i) % 2**31, 0) if i == lacking else (first, i)
            assert text == answer(f"question {p}", seed, number)
    assert len(server.bodies) == 7


def test_every_kind_of_ending_gives_its_finish_reason(server: Server) -> None:
    replies: list[Reply] = [
        lambda request: echo(request, finish="length"),
        lambda request: completion(request, "half a", finish="content_filter"),
        lambda request: completion(request, None, refusal="I will not."),
        lambda request: completion(request, None, finish="length", reasoning_content="hm"),
        lambda request: completion(request, "half a \ud83d"),
    ]
    server.reply = lambda request: replies[int(request.prompt[-1])](request)
    found = ask(served(server, api="chat"), 5, 1)
    assert [(c.text[:6], c.finish_reason, c.error) for c in found] == [
        ("answer", "length", None),
        ("half a", "error", "content_filter"),
        ("I will", "stop", None),
        ("", "length", None),
        ("half a", "stop", None),
    ]
    assert all(c.completion_tokens == 7 for c in found), "filtered replies are paid for"
    assert found[4].text == "half a �"


THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "2+2=4"}]}


@pytest.mark.parametrize(
    ("content", "more", "text"),
    [
        ([THINKING, {"type": "text", "text": "The answer is 4."}], {}, "The answer is 4."),
        ([{"type": "text", "text": "The answer "}, {"type": "text", "text": "is 4."}], {}, "The answer is 4."),
        ([{"type": "output_text", "text": "The answer is 4.", "annotations": []}], {}, "The answer is 4."),
        ([["The answer "], [{"text": "is 4."}]], {}, "The answer is 4."),
        ("The answer is 4.", {"reasoning_content": "2+2=4"}, "The answer is 4."),
        ("", {"refusal": "I will not."}, "I will not."),
        ([{"type": "refusal", "refusal": "I will not."}], {}, "I will not."),
        ([THINKING], {}, ""),
    ],
)
def test_text_parts_of_a_reply_are_joined(server: Server, content: Any, more: dict[str, Any], text: str) -> None:
    server.reply = lambda request: completion(request, content, **more)
    found = ask(served(server, chat=True), 2, 2)
    assert {(c.text, c.finish_reason, c.error, c.completion_tokens, c.retries) for c in found} == {
        (text, "stop", None, 7, 0)
    }
    assert len(server.bodies) == 4, "one request per sample"


@pytest.mark.parametrize(
    ("reason", "finish", "note"),
    [
        (None, "stop", None),
        ("", "stop", None),
        ("STOP", "stop", None),
        ("EOS", "stop", None),
        ("COMPLETE", "stop", None),
        ("end_turn", "stop", None),
        ("stop_sequence", "stop", None),
        ("tool_calls", "stop", None),
        ({"type": "stop", "matched": 2}, "stop", None),
        ("SOMETHING_NEW", "stop", "unknown finish reason 'SOMETHING_NEW'"),
        ("max_tokens", "length", None),
        ("MAX_TOKENS", "length", None),
        ("model_length", "length", None),
        ("max_output_tokens", "length", None),
        ("content_filter", "error", "content_filter"),
        ("SAFETY", "error", "SAFETY"),
        ("insufficient_system_resource", "error", "insufficient_system_resource"),
    ],
)
@pytest.mark.parametrize("chat", [True, False], ids=["chat", "completions"])
def test_finish_reasons_of_other_servers_are_recognized(
    server: Server, chat: bool, reason: Any, finish: str, note: str | None
) -> None:
    server.reply = lambda request: completion(request, "The answer is 4.", finish=reason)
    (found,) = ask(served(server, chat=chat), 1, 1)
    assert (found.text, found.finish_reason, found.error) == ("The answer is 4.", finish, note)
    assert len(server.bodies) == 1 and found.completion_tokens == 7


def test_a_reply_at_the_token_limit_without_a_finish_reason_is_truncated(server: Server) -> None:
    counts = usage(completion=SAMPLING.max_tokens)
    server.reply = lambda request: completion(request, "and so on", finish=None, counts=counts)
    assert {c.finish_reason for c in ask(served(server))} == {"length"}


def test_at_most_four_stop_strings_are_sent_and_all_of_them_are_applied(server: Server) -> None:
    stop = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
    server.reply = lambda request: (
        error(400, "too many stop strings")
        if len(request.body["stop"]) > 4
        else completion(request, "    return 1\nprint(2)\nif", finish="length")
    )
    found = ask(served(server), 1, 2, SAMPLING.model_copy(update={"stop": stop}))
    assert {(c.text, c.finish_reason, c.completion_tokens) for c in found} == {("    return 1", "stop", 7)}
    assert {tuple(body["stop"]) for body in server.bodies} == {stop[:4]}


def test_extra_body_can_remove_the_stop_parameter(server: Server) -> None:
    server.reply = lambda request: (
        error(400, "Unsupported parameter: 'stop'") if "stop" in request.body else completion(request, "4\n\nQ: next")
    )
    (found,) = ask(served(server, chat=True, extra_body={"stop": None}), 1, 1)
    assert (found.text, found.finish_reason) == ("4", "stop")


def test_seeds_fit_into_31_bits(server: Server) -> None:
    server.reply = when(lambda request: request.body["seed"] >= 2**31, error(400, "seed: out of range"))
    found = ask(served(server), 10, 10)
    assert {c.finish_reason for c in found} == {"stop"}
    seeds = [body["seed"] for body in server.bodies]
    assert len(set(seeds)) == 100 and min(seeds) >= 0 and max(seeds) > 2**30


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"detail": "Unsupported seed"}, "HTTP 400: Unsupported seed"),
        (
            {"detail": [{"loc": ["body", "seed"], "msg": "Input should be less than 2147483648", "type": "x"}]},
            "HTTP 400: body.seed: Input should be less than 2147483648",
        ),
        (
            {"detail": [{"loc": ["body", "a"], "msg": "one"}, {"loc": ["body", "b", 0], "msg": "two"}]},
            "HTTP 400: body.a: one; body.b.0: two",
        ),
        ({"detail": {"message": "no seed"}}, "HTTP 400: no seed"),
        (
            {"error": "Input validation error: `seed`", "error_type": "validation"},
            "HTTP 400: Input validation error: `seed`",
        ),
        ({"object": "error", "message": "bad seed", "code": 400}, "HTTP 400: bad seed"),
        ({"object": "error", "message": {"detail": [{"loc": ["body"], "msg": "bad"}]}}, "HTTP 400: body: bad"),
        ([{"error": {"code": 400, "message": "bad seed", "status": "INVALID_ARGUMENT"}}], "HTTP 400: bad seed"),
        ({"error": {"message": "bad seed"}}, "HTTP 400: bad seed"),
    ],
)
def test_a_refusal_is_reported_with_the_message_of_the_server(server: Server, content: Any, words: str) -> None:
    server.reply = question_1(Fault(400, content))
    assert {c.error for c in ask(served(server)) if c.problem_id == "p1"} == {words}


UNUSABLE = {
    "no choices": ({"choices": []}, "a reply without choices"),
    "null choices": ({"choices": None}, "a reply without choices"),
    "null text": ({"choices": [{"index": 0, "text": None}]}, "a choice without text"),
    "no text": ({"choices": [{"index": 0, "finish_reason": "stop"}]}, "a choice without text"),
    "a number": ({"choices": [{"index": 0, "message": {"content": 4}}]}, "a choice without text"),
    "an image": ({"choices": [{"message": {"content": [{"type": "image_url"}]}}]}, "a choice without text"),
    "a call": (
        {"choices": [{"finish_reason": "tool_calls", "message": {"content": None, "tool_calls": []}}]},
        "a choice without text",
    ),
    "empty": ({"choices": [{"index": 0, "finish_reason": None, "text": ""}]}, "a choice without text"),
}
NO_CHOICES = {"choices": [], "usage": usage()}


@pytest.mark.parametrize("unusable", UNUSABLE.values(), ids=UNUSABLE)
def test_three_consecutive_unusable_replies_stop_the_purchase_and_are_booked(
    server: Server, tmp_path: Path, unusable: tuple[dict[str, Any], str]
) -> None:
    content, kind = unusable
    server.reply = lambda request: {**content, "usage": usage()}
    prompts = pl.DataFrame({"problem_id": [f"p{i}" for i in range(50)], "prompt": [f"question {i}" for i in range(50)]})
    chat = "message" in json.dumps(content)
    model = served(server, chat=chat, concurrency=1)
    words = f"3 consecutive replies are unusable: {kind}.*Their cost is recorded. Check engine_options.api"
    for run in (1, 2):
        with pytest.raises(ConnectionError, match=words) as raised:
            generate(model, prompts, 4, SAMPLING, Buyer(tmp_path, "s", "sampling", "run"), Prices(1.0, 10.0))
        assert KEY not in str(raised.value) and "\n" not in str(raised.value)
        assert len(server.bodies) == 3 * run
        rows = pl.read_parquet(tmp_path / "ledger" / "**" / "part-*.parquet", hive_partitioning=False)
        assert rows.height == 3 * run and set(rows["finish_reason"]) == {"error"}
        assert sorted(rows["attempt"]) == list(range(1, 3 * run + 1)) and rows["retries"].sum() == 0
        assert rows["completion_tokens"].to_list() == [7] * 3 * run
        assert rows["cost"].sum() == pytest.approx(3 * run * (100 + 7 * 10) / 1e6)
        assert rows["error"].str.starts_with(kind).all()


def test_a_reply_that_is_nested_too_deep_is_requested_again(server: Server) -> None:
    deep = b'{"choices": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    server.reply = script(deep)
    found = ask(served(server, concurrency=1))
    assert {c.finish_reason for c in found} == {"stop"}
    assert len(server.bodies) == len(found) + 1, "the sample was requested again"


@pytest.mark.parametrize(
    ("headers", "kind"),
    [({}, "a reply of more than 0 MiB"), ({"Content-Encoding": "gzip"}, "a reply compressed as gzip")],
)
def test_a_reply_above_the_size_limit_is_not_read(
    server: Server, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], kind: str
) -> None:
    monkeypatch.setattr(limits, "MOST_BYTES", 10_000)
    endless = {"choices": [{"index": 0, "text": "x" * 20_000, "finish_reason": "stop"}], "usage": usage()}
    body = json.dumps(endless).encode()
    server.reply = lambda request: Fault(content=gzip.compress(body) if headers else body, headers=headers)
    with pytest.raises(ConnectionError, match=f"3 consecutive replies are unusable: {kind}"):
        ask(served(server, concurrency=1))


@pytest.mark.parametrize("message", [{"content": None}, {"content": ""}, {}])
def test_the_text_of_a_completion_is_read_despite_an_empty_message(server: Server, message: dict[str, Any]) -> None:
    server.reply = lambda request: completion(request, "4", message={"role": "assistant", **message})
    assert {(c.text, c.finish_reason) for c in ask(served(server))} == {("4", "stop")}


def test_token_counts_under_other_names_are_read(server: Server) -> None:
    counts = {"input_tokens": 100, "output_tokens": 7}
    server.reply = lambda request: {"choices": [{"text": "4", "finish_reason": None}], "usage": counts}
    assert {(c.text, c.prompt_tokens, c.completion_tokens) for c in ask(served(server))} == {("4", 100, 7)}


def test_an_unusable_reply_is_booked_and_its_sample_is_requested_again(server: Server, tmp_path: Path) -> None:
    """Each of 40 samples first gets an unusable reply, whose row has its own tokens."""
    seen: set[int] = set()

    def reply(request: Received) -> Any:
        if len(server.requests) % 2 or request.body["seed"] in seen:
            return echo(request)
        seen.add(request.body["seed"])
        return NO_CHOICES

    server.reply = reply
    prompts = pl.DataFrame({"problem_id": [f"p{i}" for i in range(10)], "prompt": [f"question {i}" for i in range(10)]})
    bought = generate(served(server, concurrency=1), prompts, 4, SAMPLING, Buyer(tmp_path, "s", "sampling", "run"))
    assert bought.new == 40 and bought.missing == 0 and set(bought.rows["finish_reason"]) == {"stop"}
    rows = pl.read_parquet(tmp_path / "ledger" / "**" / "part-*.parquet", hive_partitioning=False)
    assert rows.height == len(server.bodies) == 40 + len(seen) and len(seen) > 10
    assert rows["completion_tokens"].to_list() == [7] * rows.height and rows["retries"].sum() == 0
    assert rows.filter(attempt=2).height == len(seen) == rows.filter(finish_reason="error").height


def test_a_sample_fails_after_three_unusable_replies(server: Server) -> None:
    """Other prompts are answered in between, so that the purchase goes on."""
    server.reply = slow(0.005, question_1({"choices": [{"index": 0}], "usage": usage()}))
    engine = open_engine(served(server, concurrency=4))
    found = [c for batch in engine.stream(asked(100, 1), SAMPLING) for c in batch]
    bad = [c for c in found if c.problem_id == "p1"]
    assert [(c.finish_reason, c.completion_tokens, c.again) for c in bad] == [
        ("error", 7, True), ("error", 7, True), ("error", 7, False)
    ]  # fmt: skip
    assert sum(c.finish_reason == "stop" for c in found) == 99 and len(server.bodies) == 102


def test_the_token_count_of_an_unusable_reply_is_split_between_its_samples(server: Server) -> None:
    server.reply = script({"choices": [], "usage": usage(completion=17)})
    found = [c for batch in open_engine(served(server, n=True)).stream(asked(1, 4), SAMPLING) for c in batch]
    assert [c.completion_tokens for c in found if c.finish_reason == "error"] == [5, 4, 4, 4]
    assert sum(c.finish_reason == "stop" for c in found) == 4


def test_unusable_replies_of_different_kinds_are_not_consecutive(server: Server) -> None:
    server.reply = script(*[{"choices": [{"index": 0}], "usage": usage()}, NO_CHOICES] * 3)
    found = [c for b in open_engine(served(server, concurrency=1)).stream(asked(10, 1), SAMPLING) for c in b]
    assert sum(c.finish_reason == "stop" for c in found) == 8 and sum(c.finish_reason == "error" for c in found) == 6


def test_pending_replies_are_returned_before_unusable_ones_stop_the_run(server: Server) -> None:
    """Three replies are unusable, while two slower ones are pending."""
    server.reply = slow(0.02, script(*[echo] * 8, *[slow(0.5)] * 2, then=lambda request: NO_CHOICES))
    found: list[Completion] = []
    with pytest.raises(ConnectionError, match="a reply without choices"):
        for batch in open_engine(served(server, concurrency=4)).stream(asked(100, 1), SAMPLING):
            found += batch
    assert sum(c.finish_reason == "stop" for c in found) == 10
    assert sum(c.completion_tokens == 7 for c in found) == len(server.bodies) < 20, "every paid reply is booked"


def test_an_error_without_choices_is_reported_and_retried(server: Server) -> None:
    """A proxy reports an error of its provider with HTTP 200."""
    server.reply = question_1({"error": {"message": "Provider returned error", "code": 502}})
    found = ask(served(server), 2, 1)
    assert found[0].finish_reason == "stop"
    assert found[1].error == "a reply without choices: Provider returned error"
    assert found[1].retries == online._TRIES - 1 and found[1].completion_tokens is None


def test_status_429_reduces_the_concurrency_and_loses_no_sample(server: Server) -> None:
    """The server accepts four concurrent requests and refuses more."""
    server.reply = slow(0.01, when(lambda request: server.running > 4, error(429, "slow down", retry_after=0.1)))
    found = ask(served(server, concurrency=32), 40, 5)
    assert all(c.finish_reason == "stop" for c in found)
    assert server.most > 8, "it starts at full concurrency"
    refused = len(server.bodies) - 200
    assert 0 < refused < 400, "a fixed concurrency of 32 would be refused far more often"


def test_retry_after_is_respected(server: Server) -> None:
    server.reply = script(error(429, "later", retry_after=1.5))
    ask(served(server, concurrency=1), 1, 3)
    times = [request.time for request in server.requests]
    assert times[1] - times[0] >= 1.5
    assert times[-1] - times[1] < 1.5, "only the first request waits"


@pytest.mark.parametrize(
    "fault",
    [
        error(500, "oops"),
        error(503, "busy", retry_after=0),
        CUT,
        b'{"choices": [{"te',
        {"choices": []},
        {"choices": None},
        HTML,
    ],
    ids=["500", "503", "cut", "no-json", "no-choice", "null", "html"],
)
def test_faults_are_retried_at_full_concurrency(server: Server, fault: Any) -> None:
    server.reply = slow(0.01, when(lambda request: len(server.requests) % 3 == 0, fault))
    model = served(server, concurrency=16)
    found = ask(model, 20, 5)
    assert all((c.finish_reason, c.completion_tokens) == ("stop", 7) for c in found)
    assert len(server.bodies) >= 150 - 1
    assert sum(c.retries for c in found) == len(server.bodies) - 100, "every attempt is counted"


def test_a_request_that_fails_every_try_is_an_error_and_the_others_succeed(server: Server) -> None:
    server.reply = question_1(error(500, f"oops {KEY}"))
    found = ask(served(server), 4, 2)
    bad = [c for c in found if c.problem_id == "p1"]
    assert [(c.finish_reason, c.error, c.completion_tokens) for c in bad] == [("error", "HTTP 500: oops ***", None)] * 2
    assert all(c.finish_reason == "stop" for c in found if c not in bad)
    assert Counter(b["prompt"] for b in server.bodies)["question 1"] == 2 * online._TRIES
    assert {c.retries for c in bad} == {online._TRIES - 1} and not any(c.retries for c in found if c not in bad)


def test_a_request_that_times_out_is_sent_again(server: Server) -> None:
    server.reply = script(slow(10), slow(10))
    started = time.monotonic()
    found = ask(served(server, timeout=2), 2, 2)
    assert all(c.finish_reason == "stop" for c in found) and time.monotonic() - started < 8
    assert len(server.bodies) == 6


def test_a_refused_prompt_does_not_affect_the_others(server: Server) -> None:
    server.reply = when(lambda request: request.prompt.endswith("3"), error(400, f"too long\n{KEY}"))
    found = ask(served(server), 6, 3)
    bad = [c for c in found if c.finish_reason == "error"]
    assert {c.problem_id for c in bad} == {"p3"} and len(bad) == 3
    assert {(c.error, c.completion_tokens) for c in bad} == {("HTTP 400: too long ***", 0)}
    assert len(server.bodies) == 18, "a refused prompt is not sent again"


def test_a_server_that_refuses_every_prompt_stops_the_run(server: Server) -> None:
    server.reply = lambda request: error(400, "unknown parameter: top_k")
    with pytest.raises(ConnectionError, match=r"refused every one of the first 32 prompts: HTTP 400: unknown param"):
        ask(served(server, concurrency=2), 200, 1)
    assert len(server.bodies) < 50


def test_pending_replies_are_returned_before_a_refused_key_stops_the_run(server: Server) -> None:
    """One request is refused while three others are pending; requests that failed before are not retried."""
    later = error(429, "later", retry_after=0.01)
    refused = replace(error(401, "no more"), delay=0.1)
    server.reply = script(*[echo] * 9, later, *[echo] * 7, *[slow(0.3)] * 2, refused, then=slow(0.3))
    engine, found = open_engine(served(server, concurrency=4)), []
    with pytest.raises(ValueError, match="does not accept the key"):
        for batch in engine.stream(asked(100, 1), SAMPLING):
            found += batch
    answered = len(server.bodies) - 2
    assert 18 <= answered < 30 and sum(c.finish_reason == "stop" for c in found) == answered
    assert sum(c.retries for c in found) <= 1


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, None, "does not accept the key in the environment variable SOME_KEY"),
        (403, None, "does not accept the key in the environment variable SOME_KEY"),
        (404, None, "does not serve the model 'org/model' with the key in SOME_KEY: HTTP 404: no, ***"),
        (429, "insufficient_quota", "HTTP 429: no"),
    ],
)
def test_a_refused_key_or_model_stops_at_once(server: Server, status: int, code: str | None, words: str) -> None:
    server.reply = lambda request: error(status, f"no, {KEY}", code)
    with pytest.raises(ValueError) as raised:
        ask(served(server, concurrency=4), 50, 2)
    said = str(raised.value)
    assert words in said and server.url in said and "SOME_KEY" in said
    assert KEY not in said and "\n" not in said and len(server.bodies) <= 8


def dies(server: Server, number: int) -> Reply:
    """Answer each request after 5 ms, until the server closes when this one arrives."""

    def die(request: Received) -> Fault:
        server.close()
        return CUT

    return slow(0.005, script(*[echo] * (number - 1), die))


def test_the_other_replica_takes_over_when_one_stops(server: Server) -> None:
    with Server() as other:
        server.reply, other.reply = slow(0.005), dies(other, 100)
        found = ask(served(server, base_url=[server.url, other.url], concurrency=8), 100, 5)
        assert all(c.finish_reason == "stop" for c in found)
        assert 100 <= len(other.bodies) < 130 and len(server.bodies) >= 370


def test_requests_are_distributed_over_the_replicas(server: Server) -> None:
    with Server() as other:
        ask(served(server, base_url=[server.url, other.url], concurrency=4), 30, 5)
        assert min(len(server.bodies), len(other.bodies)) > 30


def test_a_run_without_an_answering_server_stops_and_keeps_its_samples(server: Server) -> None:
    server.reply = dies(server, 40)
    engine, found = open_engine(served(server, concurrency=4)), []
    with pytest.raises(ConnectionError, match=f"{server.url}: 8 consecutive prompts got no answer: connection"):
        for batch in engine.stream(asked(200, 1), SAMPLING):
            found += batch
    assert sum(c.finish_reason == "stop" for c in found) >= 30


def test_rate_limits_are_respected(server: Server) -> None:
    started = time.monotonic()
    ask(served(server, requests_per_minute=1200), 4, 5)
    assert 0.9 <= time.monotonic() - started < 10, "20 requests at 20 a second"
    started = time.monotonic()
    ask(served(server, tokens_per_minute=120_000, concurrency=2), 4, 5)
    assert 0.8 <= time.monotonic() - started < 10, "20 replies of 107 tokens at 2,000 a second"


def test_samples_arrive_early_and_closing_the_stream_stops_the_requests(server: Server) -> None:
    server.reply = slow(0.1)
    engine = open_engine(served(server, concurrency=4))
    stream = engine.stream(asked(100, 2), SAMPLING)
    assert 0 < len(next(stream)) < 40
    stream.close()
    sent = len(server.bodies)
    assert not [t for t in threading.enumerate() if t.name == "engine-openai"]
    time.sleep(0.3)
    assert len(server.bodies) <= sent + 4 < 64, "except for pending requests"
    left = engine.stream(asked(100, 2), SAMPLING)  # a stream that is dropped without being closed
    next(left)
    engine.close()
    assert not [t for t in threading.enumerate() if t.name == "engine-openai"]


def test_the_engine_works_inside_a_running_event_loop(server: Server) -> None:
    async def notebook() -> int:
        return len(ask(served(server)))

    assert asyncio.run(notebook()) == 6


def test_ctrl_c_ends_the_purchase(server: Server) -> None:
    server.reply = slow(0.2)
    code = (
        "from cos_assets.generation.generate import open_engine, preflight\n"
        "from cos_assets.generation.types import Model, Request, Sampling\n"
        f"model = Model('m', 'm', 'openai', engine_options={{'base_url': '{server.url}', 'concurrency': 2}})\n"
        "for batch in open_engine(model).stream([Request('p', 'q', tuple(range(1000)))], Sampling()):\n"
        "    print(len(batch), flush=True)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and int(process.stdout.readline()) > 0
        process.send_signal(2)
        _, said = process.communicate(timeout=60)
    assert process.returncode != 0 and said.strip().endswith("KeyboardInterrupt")


def test_a_run_after_a_failure_buys_nothing_twice(server: Server, tmp_path: Path) -> None:
    prompts = pl.DataFrame({"problem_id": ["a", "b", "c", "d"], "prompt": ["qa", "qb", "qc", "qd"]})
    buyer = Buyer(tmp_path, "study", "sampling", "run")
    model = served(server, concurrency=2)

    refused = when(lambda request: len(server.requests) > 9, error(401, KEY))
    server.reply = when(lambda request: request.prompt == "qb", error(400, "not this one"), refused)
    with pytest.raises(ValueError, match="does not accept the key"):
        generate(model, prompts, 4, SAMPLING, buyer)
    had = [b["seed"] for b in server.bodies if b["prompt"] != "qb"]
    server.reset()
    bought = generate(model, prompts, 4, SAMPLING, buyer, Prices(1.0, 10.0))
    assert bought.missing == 0 and set(bought.rows["finish_reason"]) == {"stop"}
    again = {b["seed"] for b in server.bodies} & set(had)
    assert len(again) <= 3, "only requests that were pending when the key was refused"
    assert len(server.bodies) == bought.new < 16
    rows = pl.read_parquet(tmp_path / "ledger" / "**" / "part-*.parquet", hive_partitioning=False)
    assert rows.filter(finish_reason="error")["prompt"].unique().to_list() == ["qb"]
    assert rows.filter(pl.col("finish_reason") != "error").height == 16
    assert rows["error"].drop_nulls().unique().to_list() == ["HTTP 400: not this one"]
    booked = rows.filter(pl.col("cost").is_not_null())
    assert booked.height == bought.new and booked["cost"].sum() == pytest.approx(bought.new * (100 + 7 * 10) / 1e6)
    assert rows.filter(finish_reason="stop")["flops"].unique().to_list() == [2 * 10.0 * 7]
    server.reset()
    assert generate(model, prompts, 4, SAMPLING, buyer).new == 0 and not server.bodies
    assert not [f for f in tmp_path.rglob("*") if f.is_file() and KEY.encode() in f.read_bytes()]


def test_a_study_samples_from_a_server(server: Server, materialize: Callable[[dict[str, Any]], Path]) -> None:
    options = {"base_url": server.url, "api_key_env": "SOME_KEY", "api": "completions"}
    study: dict[str, Any] = {
        "name": "served",
        "task": {"name": "arithmetic", "train": 4, "validation": 1, "test": 1},
        "models": {
            "wc": {"model": "small", "engine": "openai", "engine_options": options, "params": 1e9},
            "se": {"model": "large", "engine": "openai", "engine_options": options, "params": 3e9},
        },
        "budgets": {"low": {"se": 1}},
    }
    server.reset(models=["small", "large"])
    root = materialize(study)
    assert Counter(body["model"] for body in server.bodies) == {"small": 12, "large": 4}
    rows = pl.read_parquet(root / "served" / "samples" / "**" / "*.parquet")
    assert rows.height == 16 and rows["completion"].str.starts_with("answer to ").all()
    assert not [f for f in root.rglob("*") if f.is_file() and KEY.encode() in f.read_bytes()]


def test_fingerprint_of_a_served_model_does_not_depend_on_the_server(server: Server) -> None:
    here = served(server)
    assert here.fingerprint.startswith("model-") and here.params == 10
    assert served(server, base_url="http://elsewhere/v1", concurrency=3, n=True).fingerprint == here.fingerprint
    assert served(server, api="completions").fingerprint == here.fingerprint
    others = [served(server, chat=True), served(server, extra_body={"top_k": -1})]
    others.append(resolve("org2/model", engine="openai"))
    assert len({m.fingerprint for m in (here, *others)}) == 4
    assert served(server, chat=True).fingerprint == served(server, api="chat").fingerprint
    assert resolve("ft:gpt:org::1", engine="openai").fingerprint.startswith("ft-gpt-org--1-")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"concurency": 3}, r"engine_options.concurency: .*; allowed: base_url, api_key_env"),
        ({"concurrency": 0}, r"engine_options.concurrency: .*greater than or equal to 1"),
        ({"base_url": "localhost:8000"}, r"engine_options.base_url.*expected for example http://localhost:8000/v1"),
        ({"base_url": "http://me:word@host/v1"}, r"engine_options.base_url.*give the key with api_key_env"),
        ({"base_url": "me:word@host/v1"}, r"engine_options.base_url.*give the key with api_key_env"),
        ({"api_key_env": KEY}, r"engine_options.api_key_env.*give the name of the variable with the key"),
        ({"base_url": []}, r"engine_options.base_url.*is an empty list"),
        ({"base_url": ["http://a/v1", "http://a/v1/"]}, r"base_url: a server is listed twice"),
        ({"extra_body": {"temperature": 1}}, r"extra_body: .*temperature belongs under sampling:"),
        ({"extra_body": {"n": 4}}, r"extra_body: .*n is set by the engine"),
        ({"api_key_env": "NOT_SET_HERE"}, r"the environment variable NOT_SET_HERE is not set"),
        ({"base_url": "https://api.openai.com/v1/"}, r"the environment variable OPENAI_API_KEY is not set"),
    ],
)
def test_an_invalid_option_is_refused_with_its_name(server: Server, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        open_engine(Model("m", "m", "openai", engine_options={"base_url": "http://a/v1", **options}))
    assert not any(part in str(raised.value) for part in ("\n", "word@", KEY))


def test_url_and_key_default_to_the_environment_variables(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ask(resolve("m", engine="openai"))
    assert len(server.bodies) == 6 and server.keys == {f"Bearer {KEY}"}
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:word@host/v1")
    with pytest.raises(ValueError, match="OPENAI_BASE_URL: contains a user name, a password or a query") as raised:
        open_engine(Model("m", "m", "openai"))
    assert "word" not in str(raised.value).replace("password", "")


def test_chat_with_the_completions_api_is_refused() -> None:
    with pytest.raises(ValueError, match="does not support chat: true"):
        resolve("m", engine="openai", chat=Chat(), options={"api": "completions"})


def test_missing_packages_are_reported_with_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install -e '\.\[openai\]'"):
        open_engine(Model("m", "m", "openai"))


@pytest.fixture(scope="module")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from cos_assets.tiny import shipped

    log = tmp_path_factory.mktemp("vllm") / "log"
    arguments = ("--dtype", "float32", "--no-enable-chunked-prefill")
    with serve(shipped("wc"), "wc", log, *arguments, key=KEY) as url:
        yield url


def test_greedy_text_of_vllms_server_equals_transformers(vllm_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from cos_assets.tasks.arithmetic import Arithmetic
    from cos_assets.tiny import shipped

    monkeypatch.setenv("SOME_KEY", KEY)
    task = Arithmetic(train=1, validation=1, test=20)
    problems = task.load().filter(pl.col("split") == "test").to_dicts()
    requests = [Request(p["problem_id"], task.prompt(p), (0,)) for p in problems]
    greedy = Sampling(temperature=0, max_tokens=56)

    def texts(model: Model) -> dict[str, tuple[str, int | None, int | None]]:
        engine = open_engine(model)
        found = [c for batch in engine.stream(requests, greedy) for c in batch]
        engine.close()
        return {c.problem_id: (c.text, c.prompt_tokens, c.completion_tokens) for c in found}

    def over_http(name: str = "wc", **more: Any) -> Model:
        options = {"base_url": vllm_server, "api_key_env": "SOME_KEY", **more}
        return resolve(name, engine="openai", options=options)

    expected = texts(resolve(str(shipped("wc")), engine="transformers"))
    assert texts(over_http()) == expected
    assert len({text for text, _, _ in expected.values()}) > 10

    # The same server uses our seeds, supports n, and refuses unknown models.
    drawn = Sampling(temperature=0.7, top_k=3, max_tokens=56, seed=1)
    several = [Request(p["problem_id"], task.prompt(p), tuple(range(4))) for p in problems[:5]]
    for options, seeded in (({}, True), ({"n": True}, False)):
        draws = []
        for _ in range(2):
            engine = open_engine(over_http(**options))
            draws.append({(c.problem_id, c.index): c.text for b in engine.stream(several, drawn) for c in b})
        assert len(draws[0]) == 20 and len(set(draws[0].values())) > 8
        # The server's batches differ between runs, and with them the last bits of its results.
        assert not seeded or sum(draws[0][key] == draws[1][key] for key in draws[0]) >= 18
    long = Request("long", requests[0].prompt * 200, (0,))
    (found,) = [c for b in open_engine(over_http()).stream([long], greedy) for c in b]
    assert found.finish_reason == "error" and "HTTP 400" in (found.error or "")
    with pytest.raises(ValueError, match=r"does not serve the model 'other'.*HTTP 404"):
        texts(over_http("other"))
    monkeypatch.setenv("SOME_KEY", "sk-wrong")
    with pytest.raises(ValueError, match="does not accept the key in the environment variable SOME_KEY"):
        texts(over_http())


BUYER = """
    import json, sys
    from pathlib import Path
    import polars as pl
    from cos_assets.generation import generate as purchase
    from cos_assets.generation.model import resolve
    from cos_assets.generation.types import Sampling

    purchase.FLUSH_ROWS = 40
    url, root, prompts, table = sys.argv[1:]
    model = resolve("wc", engine="openai", options={"base_url": url, "api_key_env": "SOME_KEY", "concurrency": 32})
    sampling = Sampling(temperature=0.7, top_k=3, max_tokens=56, seed=1)
    asked = pl.DataFrame(json.loads(Path(prompts).read_text()))
    bought = purchase.generate(model, asked, 4, sampling, purchase.Buyer(Path(root), "s", "sampling"))
    bought.rows.write_parquet(table)
    print(bought.new)
"""


def test_a_killed_buyer_at_vllms_server_buys_nothing_written_twice(
    vllm_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """400 samples from vLLM, bought in one run and, into another ledger, with three kills."""
    from urllib.request import urlopen

    from cos_assets.tasks.arithmetic import Arithmetic

    monkeypatch.setenv("SOME_KEY", KEY)
    preflight(resolve("wc", engine="openai", options={"base_url": vllm_server, "api_key_env": "SOME_KEY"}))
    with pytest.raises(ValueError, match=r"'we' is not served by .*; it serves wc"):
        preflight(resolve("we", engine="openai", options={"base_url": vllm_server, "api_key_env": "SOME_KEY"}))
    task = Arithmetic(train=1, validation=1, test=100)
    problems = task.load().filter(pl.col("split") == "test").to_dicts()
    asked = [{"problem_id": p["problem_id"], "prompt": task.prompt(p)} for p in problems]
    (tmp_path / "prompts.json").write_text(json.dumps(asked))

    def start(name: str) -> subprocess.Popen[str]:
        paths = [tmp_path / name, tmp_path / "prompts.json", tmp_path / f"{name}.parquet"]
        command = [sys.executable, "-c", textwrap.dedent(BUYER), vllm_server, *map(str, paths)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def booked(name: str) -> pl.DataFrame:
        parts = sorted((tmp_path / name).rglob("part-*.parquet"))
        return pl.concat([pl.read_parquet(part, hive_partitioning=False) for part in parts] or [pl.DataFrame()])

    def served_so_far() -> int:
        with urlopen(f"{vllm_server.removesuffix('/v1')}/metrics") as reply:
            lines = reply.read().decode().splitlines()
        return int(sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:request_success_total{")))

    before = served_so_far()
    assert start("alone").communicate()[0].split() == ["400"]
    assert served_so_far() - before == 400 == booked("alone").height
    for part in (1, 3, 6):
        process = start("killed")
        while len(list((tmp_path / "killed").rglob("part-*.parquet"))) < part:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        process.kill()
        process.communicate()
    left = 400 - booked("killed").height
    assert start("killed").communicate()[0].split() == [str(left)] and 0 < left < 400
    rows = booked("killed")
    assert rows.height == 400 == rows.select("prompt_hash", "sample_index").n_unique()
    assert served_so_far() - before <= 800 + 3 * (40 + 2 * 32), "only replies lost in a kill are bought twice"
    alone, killed = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("alone", "killed"))
    keys = ["problem_id", "sample_index", "prompt_hash", "prompt_tokens"]
    assert alone.select(keys).equals(killed.select(keys)) and set(killed["finish_reason"]) <= {"stop", "length"}
    # vLLM uses our seeds, but its batches differ between runs, and with them the last bits of its results.
    assert (alone["completion"] == killed["completion"]).mean() >= 0.95
