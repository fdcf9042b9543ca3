"""Engine openai with the Batch API, against a loopback server that counts what it bills: see support.openai_server."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.openai_server import (
    CUT,
    EXPIRED,
    HTML,
    BatchServer,
    Fault,
    Received,
    Reply,
    answer,
    completion,
    echo,
    error,
    script,
    usage,
    when,
)

from cos_assets.generation.completions import sample_seed
from cos_assets.generation.engines.openai import online as openai_online
from cos_assets.generation.generate import Buyer, generate, open_engine
from cos_assets.generation.ledger import parameters_hash, prompt_hash
from cos_assets.generation.model import resolve
from cos_assets.generation.types import Chat, Completion, Model, Request, Sampling

KEY = "sk-very-secret-0123456789"
SAMPLING = Sampling(temperature=0.7, top_p=0.9, max_tokens=50, stop=("\n\n",), seed=5)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    monkeypatch.setenv("SOME_KEY", KEY)
    monkeypatch.setattr(openai_online, "_BACKOFF", 0.002)  # the same number of tries with shorter waits
    with BatchServer() as made:
        yield made


def served(server: BatchServer, chat: bool = False, **options: Any) -> Model:
    given = {"base_url": server.url, "api_key_env": "SOME_KEY", "batch": True, "poll_seconds": 0.01, **options}
    return resolve("org/model", engine="openai", params=10.0, chat=Chat() if chat else None, options=given)


def ask(model: Model, prompts: int = 4, samples: int = 3) -> list[Completion]:
    engine = open_engine(model)
    requests = [Request(f"p{p}", f"question {p}", tuple(range(samples))) for p in range(prompts)]
    found = [completion for batch in engine.stream(requests, SAMPLING) for completion in batch]
    engine.close()
    wanted = [(f"p{p}", i) for p in range(prompts) for i in range(samples)]
    assert sorted((c.problem_id, c.index) for c in found) == sorted(wanted), "each index exactly once"
    assert KEY not in str(found)
    return sorted(found, key=lambda c: (c.problem_id, c.index))


def good(found: list[Completion]) -> None:
    for c in found:
        text = answer(c.prompt, sample_seed(5, c.prompt, c.index) % 2**31)
        assert (c.text, c.finish_reason, c.error) == (text, "stop", None)
        assert (c.prompt_tokens, c.completion_tokens, c.cached_tokens) == (100, 7, 64)


def prompts(*names: str) -> pl.DataFrame:
    return pl.DataFrame({"problem_id": names, "prompt": [f"question {name}" for name in names]})


def buy(root: Path, model: Model, asked: pl.DataFrame, samples: int) -> Any:
    return generate(model, asked, samples, SAMPLING, Buyer(root, "study", "sampling", "run"))


def booked(root: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(part, hive_partitioning=False) for part in sorted(root.rglob("part-*.parquet"))])


@pytest.mark.parametrize("chat", [False, True])
def test_a_batch_books_the_same_rows_as_single_requests(server: BatchServer, tmp_path: Path, chat: bool) -> None:
    server.reply = lambda request: echo(request, finish="length" if "long" in request.prompt else "stop")
    asked = prompts("a", "b", "long c")
    options = {"base_url": server.url, "api_key_env": "SOME_KEY"}
    online = resolve("org/model", engine="openai", params=10.0, chat=Chat() if chat else None, options=options)
    batch = served(server, chat)
    assert online.fingerprint == batch.fingerprint, "batches and single requests give the same samples"
    first = buy(tmp_path / "online", online, asked, 4)
    assert not server.batches
    second = buy(tmp_path / "batch", batch, asked, 4)
    assert first.rows.equals(second.rows) and second.new == 12
    left_out = ["seconds", "time"]
    rows = [booked(tmp_path / way).drop(left_out).sort("prompt_hash", "sample_index") for way in ("online", "batch")]
    assert rows[0].equals(rows[1])
    (sent,) = server.sent
    endpoint = "/v1/chat/completions" if chat else "/v1/completions"
    assert server.batches[0]["endpoint"] == endpoint and server.batches[0]["completion_window"] == "24h"
    assert {line.custom_id for line in sent} == {f"{prompt_hash(p)}-{i}-1" for p in asked["prompt"] for i in range(4)}
    said = {"messages": [{"role": "user", "content": "question a"}]} if chat else {"prompt": "question a"}
    (line,) = [line.body for line in sent if line.custom_id == f"{prompt_hash('question a')}-2-1"]
    seed = sample_seed(5, "question a", 2) % 2**31
    settings = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 50, "stop": ["\n\n"], "seed": seed}
    assert line == {"model": "org/model", **said, **settings} and sent[0].body["model"] == "org/model"
    assert server.keys == {f"Bearer {KEY}"} and KEY.encode() not in b"".join(server.files.values())


def test_n_sends_one_request_for_consecutive_samples(server: BatchServer, tmp_path: Path) -> None:
    bought = buy(tmp_path, served(server, n=True), prompts("a", "b"), 5)
    assert [len(sent) for sent in server.sent] == [2] and {line.body["n"] for line in server.sent[0]} == {5}
    assert bought.rows["completion_tokens"].to_list() == [7] * 10 and bought.rows["prompt_tokens"].sum() == 200
    more = buy(tmp_path, served(server, n=True), prompts("a", "b", "c"), 7)
    assert sorted(line.custom_id[33:] for line in server.sent[1]) == ["0-7", "5-2", "5-2"]
    assert more.new == 11 and sum(server.finish().values()) == 5


def test_large_orders_are_split(server: BatchServer) -> None:
    good(ask(served(server, batch_size=5), 4, 3))
    assert [len(sent) for sent in server.sent] == [5, 5, 2]
    line = len(server.files["file-0"]) // 5
    good(ask(served(server, batch_megabytes=4.2 * line / 1e6, completion_window="12h"), 5, 3))
    assert [len(sent) for sent in server.sent[3:]] == [3], "twelve are in the earlier batches"
    good(ask(served(server, batch_megabytes=4.2 * line / 1e6, completion_window="12h"), 9, 3))
    assert [len(sent) for sent in server.sent[4:]] == [4, 4, 4]
    assert server.batches[-1]["completion_window"] == "12h"


def first_time(reply: Any) -> Reply:
    """Give `reply` to two prompts in the first batch."""
    return when(lambda request: request.batch == 0 and request.prompt in ("question 1", "question 2"), reply)


@pytest.mark.parametrize("end", ["completed", "expired", "cancelled"])
@pytest.mark.parametrize(
    "what",
    [EXPIRED, CUT, error(500, "oops"), error(429, "slow down"), {"choices": []}, {"choices": "no"}],
    ids=["expired", "no-line", "500", "429", "no-choices", "no-list"],
)
def test_failed_requests_are_sent_again_and_the_others_are_kept(server: BatchServer, what: Any, end: str) -> None:
    server.reply, server.ends = first_time(what), lambda number: "completed" if number else end
    found = ask(served(server))
    good(found)
    assert [len(sent) for sent in server.sent] == [12, 6]
    assert {c.problem_id for c in found if c.retries} == {"p1", "p2"} and sum(c.retries for c in found) == 6
    assert sum(server.finish().values()) == (18 if isinstance(what, dict) else 12)


def test_duplicate_lines_count_once_and_requests_of_broken_lines_are_resent(server: BatchServer) -> None:
    server.reply = lambda request: Fault(content=echo(request), part=2 if request.custom_id.endswith("-1-1") else 1)
    good(ask(served(server)))
    assert len(server.sent) == 1 and len(server.files["file-1"].split(b"\n")) == 12 + 4 + 1
    server.reply = lambda request: Fault(content=echo(request), part=0.5 if request.batch == 1 else 1)
    good(ask(served(server), 5, 3))
    assert [len(sent) for sent in server.sent] == [12, 3, 3]


def test_a_request_that_fails_every_try_is_an_error_until_the_next_run(server: BatchServer, tmp_path: Path) -> None:
    server.reply = when(lambda request: "-1-1" in request.custom_id, error(500, f"oops\n{KEY}"))
    bought = buy(tmp_path, served(server), prompts("a", "b"), 2)
    assert [len(sent) for sent in server.sent] == [4, 2, 2]
    assert bought.rows["finish_reason"].to_list() == ["stop", "error"] * 2
    rows = booked(tmp_path).filter(finish_reason="error")
    assert rows["error"].to_list() == ["HTTP 500: oops ***"] * 2 and rows["retries"].to_list() == [2, 2]
    server.reply = echo
    again = buy(tmp_path, served(server), prompts("a", "b"), 2)
    assert again.new == 2 and set(again.rows["finish_reason"]) == {"stop"} and len(server.sent[3]) == 2
    assert set(server.finish().values()) == {1}


def test_a_filtered_reply_is_booked_once_and_replaced_by_the_next_run(server: BatchServer, tmp_path: Path) -> None:
    filtered = {"choices": [{"index": 0, "text": "half a", "finish_reason": "content_filter"}]}
    server.reply = script(filtered)
    first = buy(tmp_path, served(server), prompts("a"), 1)
    assert first.rows["finish_reason"].to_list() == ["error"]
    second = buy(tmp_path, served(server), prompts("a"), 1)
    assert second.rows["finish_reason"].to_list() == ["stop"] and len(server.sent) == 2
    assert booked(tmp_path)["attempt"].to_list() == [1, 2]


NO_CHOICES = {"choices": [], "usage": usage()}


def test_replies_in_a_batch_are_read_like_those_of_single_requests(server: BatchServer) -> None:
    """Contents in parts, the finish reasons of other servers, and stop strings beyond the fourth."""
    thought = {"type": "thinking", "thinking": "2+2=4"}
    replies: dict[str, tuple[Any, str | None]] = {
        "question 0": ([thought, {"type": "text", "text": "The answer is 4."}], "end_turn"),
        "question 1": ("The answer is 4.", None),
        "question 2": ("The answer is", "MAX_TOKENS"),
        "question 3": ("The answer is 4.\n5\n1", "length"),
    }

    def reply(request: Received) -> Any:
        content, finish = replies[request.prompt]
        return completion(request, content, finish=finish)

    server.reply = reply
    stop = tuple(f"\n{digit}" for digit in range(1, 6))
    engine = open_engine(served(server, chat=True))
    requests = [Request(f"p{p}", f"question {p}", (0,)) for p in range(4)]
    sampling = SAMPLING.model_copy(update={"stop": stop})
    found = sorted((c for b in engine.stream(requests, sampling) for c in b), key=lambda c: c.problem_id)
    assert [(c.text, c.finish_reason, c.completion_tokens) for c in found] == [
        ("The answer is 4.", "stop", 7),
        ("The answer is 4.", "stop", 7),
        ("The answer is", "length", 7),
        ("The answer is 4.", "stop", 7),
    ]
    assert {tuple(line.body["stop"]) for line in server.sent[0]} == {stop[:4]}
    assert max(line.body["seed"] for line in server.sent[0]) < 2**31 and len(server.sent) == 1


def test_an_unusable_reply_is_booked_and_sent_again(server: BatchServer, tmp_path: Path) -> None:
    odd = (f"{prompt_hash('question a')}-1-1", f"{prompt_hash('question c')}-0-1")
    server.reply = when(lambda request: request.batch == 0 and request.custom_id in odd, NO_CHOICES)
    bought = buy(tmp_path, served(server), prompts("a", "b", "c"), 3)
    assert bought.new == 9 and bought.missing == 0 and set(bought.rows["finish_reason"]) == {"stop"}
    rows = booked(tmp_path)
    bad = rows.filter(finish_reason="error")
    assert rows.height == 11 == sum(server.finish().values()) and rows["completion_tokens"].to_list() == [7] * 11
    assert bad["attempt"].to_list() == [1, 1] and set(bad["error"]) == {"a reply without choices"}
    assert rows["retries"].sum() == 0 and [len(sent) for sent in server.sent] == [9, 2]


def test_each_unusable_reply_to_a_request_is_booked_once(server: BatchServer, tmp_path: Path) -> None:
    odd = f"{prompt_hash('question a')}-1-1"
    server.reply = when(lambda request: request.custom_id == odd, NO_CHOICES)
    first = buy(tmp_path, served(server), prompts("a", "b"), 3)
    assert first.new == 6 and first.rows["finish_reason"].to_list().count("error") == 1
    assert booked(tmp_path).filter(finish_reason="error")["attempt"].to_list() == [1, 2, 3]
    server.reply = echo
    assert set(buy(tmp_path, served(server), prompts("a", "b"), 3).rows["finish_reason"]) == {"stop"}
    assert booked(tmp_path).filter(finish_reason="error").height == 3, "replies of earlier batches are booked"


@pytest.mark.parametrize("broken", [False, True], ids=["whole", "read-thrice"])
def test_three_consecutive_unusable_replies_stop_the_purchase(
    server: BatchServer, tmp_path: Path, broken: bool
) -> None:
    """The other replies of the batch are kept. A file with a broken line is read again, which adds nothing."""

    def reply(request: Received) -> Any:
        if request.prompt != "question b":
            return {"choices": [{"index": 0}], "usage": usage()}
        return Fault(content=echo(request), part=0.5 if broken and request.custom_id.endswith("-0-1") else 1)

    server.reply = reply
    words = "3 consecutive replies are unusable: a choice without text: .* Their cost is recorded. Check engine_options"
    with pytest.raises(ConnectionError, match=words):
        buy(tmp_path, served(server), prompts("a", "b", "c"), 3)
    rows = booked(tmp_path)
    assert rows.filter(finish_reason="error").height == 6
    assert rows.filter(finish_reason="stop").height == (2 if broken else 3)
    assert rows["completion_tokens"].to_list() == [7] * rows.height and len(server.sent) == 1


def test_replies_of_a_file_that_is_read_again_are_not_counted_again(server: BatchServer) -> None:
    odd = (f"{prompt_hash('question 0')}-0-1", f"{prompt_hash('question 0')}-1-1")

    def reply(request: Received) -> Any:
        if request.batch == 0 and request.prompt == "question 1":
            return Fault(content=echo(request), part=0.5)
        return NO_CHOICES if request.batch == 0 and request.custom_id in odd else echo(request)

    server.reply = reply
    engine = open_engine(served(server))
    requests = [Request(f"p{p}", f"question {p}", (0, 1, 2)) for p in range(2)]
    found = [c for batch in engine.stream(requests, SAMPLING) for c in batch]
    assert sum(c.finish_reason == "stop" for c in found) == 6 and sum(c.again for c in found) == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": [{"loc": ["body", "seed"], "msg": "too large"}]}, "HTTP 422: body.seed: too large"),
        ({"detail": "too large"}, "HTTP 422: too large"),
        ({"error": "too large"}, "HTTP 422: too large"),
        ({}, "HTTP 422: a request of the batch failed"),
    ],
)
def test_a_refusal_is_reported_with_the_message_of_the_server(server: BatchServer, body: Any, words: str) -> None:
    server.reply = first_time(Fault(422, body))
    assert {c.error for c in ask(served(server)) if c.finish_reason == "error"} == {words}


def test_a_refused_prompt_is_not_resent_and_does_not_affect_the_others(server: BatchServer) -> None:
    server.reply = first_time(error(400, "too long"))
    found = ask(served(server))
    bad = [c for c in found if c.finish_reason == "error"]
    assert {c.problem_id for c in bad} == {"p1", "p2"} and len(server.sent) == 1
    assert {(c.error, c.completion_tokens) for c in bad} == {("HTTP 400: too long", 0)}
    good([c for c in found if c not in bad])


def test_a_server_that_refuses_everything_stops_the_run(server: BatchServer) -> None:
    server.reply = lambda request: error(400, f"unknown parameter {KEY}")
    with pytest.raises(
        ConnectionError, match=r"refused every request of the batch: HTTP 400: unknown parameter \*\*\*"
    ):
        ask(served(server))
    assert len(server.sent) == 1


def test_a_failed_batch_is_resent_and_repeated_failure_stops_the_run(server: BatchServer) -> None:
    server.ends = lambda number: ("failed", "internal") if number == 0 else "completed"
    good(ask(served(server)))
    assert len(server.sent) == 2
    server.ends = lambda number: ("failed", "model_not_in_batch")
    with pytest.raises(ConnectionError, match=r"the batch batch-4 failed: why: model_not_in_batch"):
        ask(served(server), 5, 3)
    assert [len(sent) for sent in server.sent] == [12, 12, 3, 3, 3] and sum(server.finish().values()) == 12


def test_batches_wait_while_the_limit_of_queued_tokens_is_reached(server: BatchServer) -> None:
    def ends(number: int) -> Any:
        running = sum(batch["status"] in server.states for batch in server.batches)
        return ("failed", "token_limit_exceeded") if running > 2 else "completed"

    server.ends = ends
    good(ask(served(server, batch_size=2), 6, 3))
    assert set(server.finish().values()) == {1} and len(server.billed) == 18
    assert len(server.sent) < 20, "not every request is sent again each time"


def test_a_batch_above_the_token_limit_is_halved(server: BatchServer) -> None:
    server.ends = lambda number: ("failed", "token_limit_exceeded") if len(server.sent[number]) > 4 else "completed"
    found = ask(served(server))
    good(found)
    assert [len(sent) for sent in server.sent] == [12, 6, 3, 3, 3, 3] and not any(c.retries for c in found)
    server.ends = lambda number: ("failed", "token_limit_exceeded")
    with pytest.raises(
        ConnectionError, match="a single request exceeds the limit of a batch: why: token_limit_exceeded"
    ):
        ask(served(server), 5, 3)


CALLS = ["POST /v1/files", "POST /v1/batches", "GET /v1/batches", "GET /v1/batches/*", "GET /v1/files/*/content"]
FAULTS: dict[str, Callable[[Reply], Any]] = {
    "500": lambda route: error(500, "oops"),
    "429": lambda route: error(429, "slow down"),
    "before": lambda route: CUT,
    "after": lambda route: lambda request: Fault(content=route(request), part=0),
    "half": lambda route: lambda request: Fault(content=route(request), part=0.5),
    "html": lambda route: HTML,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("call", CALLS)
def test_failed_calls_are_retried_and_nothing_is_bought_twice(
    server: BatchServer, call: str, fault: Callable[[Reply], Any]
) -> None:
    """Each call fails twice: before or after it has taken effect."""
    route = server.routes[call]
    server.routes[call] = script(fault(route), fault(route), then=route)
    good(ask(served(server)))
    assert len(server.sent) == 1 and set(server.finish().values()) == {1} and len(server.billed) == 12


@pytest.mark.parametrize("call", CALLS)
def test_the_next_run_collects_the_batches_of_a_run_that_lost_the_server(
    server: BatchServer, tmp_path: Path, call: str
) -> None:
    route = server.routes[call]
    server.routes[call] = lambda request: error(503, "status 503")
    with pytest.raises(ConnectionError, match=f"{server.url}: HTTP 503: status 503; the server continues"):
        buy(tmp_path, served(server), prompts("a", "b"), 3)
    server.routes[call] = route
    assert buy(tmp_path, served(server), prompts("a", "b"), 3).missing == 0
    assert set(server.finish().values()) == {1} and len(server.billed) == 6
    assert booked(tmp_path).height == 6


@pytest.mark.parametrize(("status", "words"), [(401, "does not accept the key in the environment variable SOME_KEY")])
def test_a_refused_key_stops_at_once(server: BatchServer, status: int, words: str) -> None:
    server.routes = dict.fromkeys(server.routes, lambda request: error(status, "no"))
    with pytest.raises(ValueError, match=words):
        ask(served(server))
    assert not server.batches and len(server.requests) == 1


def test_a_server_without_a_batch_api_is_refused(server: BatchServer) -> None:
    server.routes.clear()
    with pytest.raises(ValueError, match=r"engine_options.batch: .*HTTP 404.*expected a server with a Batch API"):
        ask(served(server))


def test_a_larger_order_buys_only_the_new_samples(server: BatchServer, tmp_path: Path) -> None:
    buy(tmp_path, served(server), prompts("a", "b"), 2)
    downloads = server.calls["GET /v1/files/*/content"]
    bought = buy(tmp_path, served(server), prompts("a", "b", "c"), 3)
    assert bought.new == 5 and [len(sent) for sent in server.sent] == [4, 5] and set(server.finish().values()) == {1}
    assert server.calls["GET /v1/files/*/content"] > downloads
    assert buy(tmp_path, served(server), prompts("a", "b", "c"), 3).new == 0


def test_results_are_not_taken_from_batches_of_another_seed_or_model(server: BatchServer) -> None:
    ask(served(server))
    other = SAMPLING.model_copy(update={"seed": 6})
    engine = open_engine(served(server))
    request = Request("p0", "question 0", (0, 1))
    found = [c for batch in engine.stream([request], other) for c in batch]
    assert len(found) == 2 and len(server.sent) == 2
    names = {batch["metadata"]["cos_assets"] for batch in server.batches}
    assert names == {f"{engine.api.model.fingerprint}/{parameters_hash(sampling)}" for sampling in (SAMPLING, other)}
    chat = open_engine(served(server, chat=True))
    assert len([c for batch in chat.stream([request], other) for c in batch]) == 2 and len(server.sent) == 3


SCRIPT = """
    import sys
    from pathlib import Path
    import polars as pl
    from cos_assets.generation.generate import Buyer
    from cos_assets.generation.generate import generate
    from cos_assets.generation.model import resolve
    from cos_assets.generation.types import Sampling

    options = {"base_url": sys.argv[1], "api_key_env": "SOME_KEY", "batch": True}
    options |= {"poll_seconds": 0.05, "batch_size": 150}
    model = resolve("org/model", engine="openai", options=options)
    prompts = pl.DataFrame({"problem_id": f"p{i}", "prompt": f"question {i}"} for i in range(100))
    sampling = Sampling(temperature=0.7, max_tokens=50, seed=5)
    bought = generate(model, prompts, 4, sampling, Buyer(Path(sys.argv[2]), "s", "sampling"))
    print(bought.new, bought.missing)
"""


@pytest.mark.parametrize(
    ("moment", "times"),
    [(CALLS[0], 1), (CALLS[1], 2), (CALLS[3], 4), (CALLS[4], 2), (CALLS[1], 3)],
    ids=["after-upload", "after-create", "while-polling", "while-collecting", "after-all-were-created"],
)
def test_a_killed_run_continues_with_its_batches(server: BatchServer, tmp_path: Path, moment: str, times: int) -> None:
    """400 samples in three batches; the last one expires when half done. About 2 s each."""
    server.reply = when(lambda request: request.batch == 2 and request.custom_id < "8", EXPIRED)
    server.ends = lambda number: "expired" if number == 2 else "completed"
    route = server.routes[moment]
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), server.url, str(tmp_path)]
    with subprocess.Popen(command) as process:

        def kill(request: Received) -> Any:
            reply = route(request)
            process.kill()
            process.wait()
            return reply

        server.routes[moment] = script(*[route] * (times - 1), kill, then=route)
        assert process.wait() == -9
    made = len(server.batches)
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    new, missing = map(int, again.stdout.split())
    assert missing == 0 and 0 < new <= 400
    rows = booked(tmp_path)
    assert rows.height == 400 == rows.select("prompt_hash", "sample_index").n_unique()
    assert set(rows["finish_reason"]) == {"stop"}
    assert len(server.billed) == 400 == sum(server.finish().values()), "each is billed once"
    assert len(server.batches) >= max(3, made)
