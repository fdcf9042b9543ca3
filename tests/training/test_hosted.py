"""method: hosted, against a loopback server with OpenAI's fine-tuning API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError
from support.fine_tuning_server import CREATE, STATUS, FineTuningServer
from support.openai_server import CUT, HTML, Received, Reply, completion, draw, error, script, slow
from support.toy_training import finetune, make_rows

from cos_assets import study, tiny
from cos_assets.generation.engines.openai import online
from cos_assets.generation.model import hash_folder, resolve, served_name
from cos_assets.generation.types import Chat
from cos_assets.storage import tables
from cos_assets.tasks.arithmetic import Arithmetic
from cos_assets.training import hosted, sft
from cos_assets.training.data import schedule
from cos_assets.training.job import Base
from cos_assets.training.settings import Finetune
from cos_assets.training.sft import Trained

STEPS = 6


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FineTuningServer]:
    monkeypatch.setattr(online, "_BACKOFF", 0.01)
    monkeypatch.setattr(hosted, "_TRIES", 5)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with FineTuningServer() as server:
        yield server


def settings(**more: Any) -> Finetune:
    given = {"poll_seconds": 0.01, **more.pop("hosted", {})}
    return Finetune.model_validate(
        {"method": "hosted", "steps": STEPS, "batch_size": 4, "checkpoints": 2, "hosted": given, **more}
    )


def train(
    server: FineTuningServer, out: Path, rows: pl.DataFrame | None = None, on_progress: Any = None, **more: Any
) -> Trained:
    options = {"base_url": server.url, **more.pop("options", {})}
    rows = make_rows(10) if rows is None else rows
    chat = more.pop("chat", Chat())
    how = settings(**more)
    return finetune(
        rows, "org/model", out, how, STEPS, 3, on_progress=on_progress, chat=chat, options=options, params=1e9
    )


def test_the_api_trains_the_rows_of_the_schedule_in_one_epoch(server: FineTuningServer, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []
    run = train(
        server,
        tmp_path,
        on_progress=lambda stage, done, total, tokens, loss: seen.append((stage, done)),
        hosted={"learning_rate_multiplier": 2.5},
        chat=Chat(system="Add."),
    )
    (job,) = server.jobs
    rows = make_rows(10)
    talks = [json.loads(line)["messages"] for line in server.files["file-0"].splitlines()]
    assert len(talks) == STEPS * 4
    assert talks[0][0] == {"role": "system", "content": "Add."}
    sent = [(talk[1]["content"], talk[2]["content"]) for talk in talks]
    assert set(sent) == set(rows["prompt", "completion"].iter_rows())
    texts = {pair: len(json.dumps({"messages": talk})) for pair, talk in zip(sent, talks, strict=True)}
    order = schedule([texts[pair] for pair in rows["prompt", "completion"].iter_rows()], STEPS, 4, 3)
    assert sent == [rows["prompt", "completion"].row(int(i)) for i in order.ravel()]
    asked = {"n_epochs": 1, "batch_size": 4, "learning_rate_multiplier": 2.5}
    assert job["method"] == {"type": "supervised", "supervised": {"hyperparameters": asked}}
    assert (job["model"], job["seed"]) == ("org/model", 3)
    assert served_name(run.path) == job["fine_tuned_model"]
    assert run.hash == hash_folder(run.path)
    assert (run.steps, run.chosen_step, run.tokens, run.examples) == (STEPS, STEPS, job["trained_tokens"], 10)
    assert run.flops == 6e9 * job["trained_tokens"]
    assert (run.seconds, run.epochs, run.completion_tokens, run.learning_rate) == (60, 2.4, None, None)
    assert [point["step"] for point in run.curve] == [3, 6]
    losses = [point["loss"] for point in run.curve]
    assert losses == pytest.approx([(1 + 1 / 2 + 1 / 3) / 3, (1 / 4 + 1 / 5 + 1 / 6) / 3])
    assert seen[0] == ("validating_files", 0) and ("queued", 0) in seen and ("train", 4) in seen
    assert not (tmp_path / "work").exists()


def test_a_finished_training_asks_nothing_and_another_folder_finds_the_job(
    server: FineTuningServer, tmp_path: Path
) -> None:
    run = train(server, tmp_path / "a")
    asked = len(server.requests)
    assert train(server, tmp_path / "a") == run
    assert len(server.requests) == asked
    elsewhere = train(server, tmp_path / "b")
    assert (elsewhere.hash, elsewhere.tokens) == (run.hash, run.tokens)
    assert len(server.jobs) == 1


def test_other_inputs_are_another_job(server: FineTuningServer, tmp_path: Path) -> None:
    train(server, tmp_path / "a")
    train(server, tmp_path / "b", rows=make_rows(11))
    train(server, tmp_path / "c", hosted={"learning_rate_multiplier": 1})
    train(server, tmp_path / "d", chat=Chat(system="Add."))
    assert len(server.jobs) == 4
    train(server, tmp_path / "e", hosted={"price": {"training": 2, "date": "2026-11-30"}, "poll_seconds": 0.02})
    assert len(server.jobs) == 4, "the price and the polling do not change the model"


def test_a_server_that_keeps_no_metadata_is_searched_by_suffix(server: FineTuningServer, tmp_path: Path) -> None:
    server.echoes = False
    train(server, tmp_path / "a")
    train(server, tmp_path / "b")
    assert len(server.jobs) == 1


RUN = """
import sys
from pathlib import Path
from support.fine_tuning_server import FineTuningServer
from support.toy_training import finetune, make_rows
from cos_assets.generation.types import Chat
from cos_assets.training.settings import Finetune
given = {"method": "hosted", "steps": 6, "batch_size": 4, "checkpoints": 2, "hosted": {"poll_seconds": 0.05}}
finetune(make_rows(10), "org/model", Path(sys.argv[2]), Finetune.model_validate(given), 6, 3, chat=Chat(),
         options={"base_url": sys.argv[1]}, params=1e9)
"""


@pytest.mark.parametrize("moment", ["upload", "create", "status"])
def test_a_killed_run_is_continued_without_a_second_job(server: FineTuningServer, tmp_path: Path, moment: str) -> None:
    route = {"upload": "POST /v1/files", "create": CREATE, "status": STATUS}[moment]
    reply, reached = server.routes[route], threading.Event()

    def stall(request: Received) -> Any:
        made = reply(request)
        if reached.is_set():
            return made
        reached.set()
        return slow(30, lambda _: made)(request)  # the run is killed while it waits for this reply

    server.routes[route] = stall
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    process = subprocess.Popen([sys.executable, "-c", RUN, server.url, str(tmp_path / "out")], env=environment)
    try:
        assert reached.wait(60)
        time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "out" / sft.DONE).exists()
    run = train(server, tmp_path / "out")
    assert len(server.jobs) == 1
    assert served_name(run.path) == server.jobs[0]["fine_tuned_model"]


def test_errors_that_pass_are_tried_again(server: FineTuningServer, tmp_path: Path) -> None:
    faults: dict[str, tuple[Any, ...]] = {
        "POST /v1/files": (error(503, "busy"), CUT),
        CREATE: (error(429, "slow down", retry_after=0.01),),
        STATUS: (error(500, "oops"), CUT, HTML, error(408, "timeout")),
        "GET /v1/fine_tuning/jobs/*/events": (HTML, error(502, "bad gateway")),
        "GET /v1/fine_tuning/jobs": (CUT,),
    }
    for route, steps in faults.items():
        server.routes[route] = script(*steps, then=server.routes[route])
    train(server, tmp_path)
    assert len(server.jobs) == 1


def test_a_stalled_request_is_repeated(server: FineTuningServer, tmp_path: Path) -> None:
    looked = server.routes[STATUS]
    server.routes[STATUS] = script(slow(5, looked), then=looked)
    started = time.monotonic()
    train(server, tmp_path, options={"timeout": 0.3})
    assert time.monotonic() - started < 4


def test_a_lost_reply_to_the_creation_makes_no_second_job(server: FineTuningServer, tmp_path: Path) -> None:
    create = server.routes[CREATE]

    def made_but_lost(request: Received) -> Any:
        create(request)
        return CUT

    server.routes[CREATE] = script(made_but_lost, then=create)
    train(server, tmp_path)
    assert len(server.jobs) == 1


def test_a_server_that_restarts_is_waited_for(tmp_path: Path, server: FineTuningServer) -> None:
    looked = server.routes[STATUS]
    stopped = threading.Event()
    replaced: list[FineTuningServer] = []

    def stop(request: Received) -> Any:
        stopped.set()
        return looked(request)

    server.routes[STATUS] = stop

    def restart() -> None:
        stopped.wait(60)
        server.close()
        time.sleep(0.05)
        again = FineTuningServer(port=int(server.url.rpartition(":")[2].partition("/")[0]))
        again.adopt(server)
        replaced.append(again)

    thread = threading.Thread(target=restart)
    thread.start()
    run = train(server, tmp_path)
    thread.join()
    (again,) = replaced
    again.close()
    assert len(again.jobs) == 1 and again.requests
    assert served_name(run.path) == again.jobs[0]["fine_tuned_model"]


def test_a_server_that_stays_away_is_reported_and_the_job_found_later(server: FineTuningServer, tmp_path: Path) -> None:
    looked = server.routes[STATUS]
    server.routes[STATUS] = lambda request: error(503, "maintenance")
    with pytest.raises(RuntimeError, match=r"maintenance; a job that exists continues there, and the next run finds"):
        train(server, tmp_path)
    server.routes[STATUS] = looked
    train(server, tmp_path)
    assert len(server.jobs) == 1


def test_a_failed_job_is_reported_and_started_again(server: FineTuningServer, tmp_path: Path) -> None:
    server.ends = lambda number: "succeeded" if number else ("failed", "the file has 3 examples")
    with pytest.raises(RuntimeError, match=r"the job ftjob-0 failed: the file has 3 examples"):
        train(server, tmp_path)
    train(server, tmp_path)
    assert [job["status"] for job in server.jobs] == ["failed", "succeeded"]


def test_a_job_that_was_cancelled_elsewhere_is_reported(server: FineTuningServer, tmp_path: Path) -> None:
    server.ends = lambda number: ("cancelled", "by org admin")
    with pytest.raises(RuntimeError, match=r"the job ftjob-0 was cancelled: by org admin"):
        train(server, tmp_path)


@pytest.mark.parametrize("cancels", [False, True])
def test_a_stopped_run_cancels_its_job_only_on_request(server: FineTuningServer, tmp_path: Path, cancels: bool) -> None:
    def stop(stage: str, *_: Any) -> None:
        if stage == "train":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(server, tmp_path, on_progress=stop, hosted={"cancel_when_stopped": cancels})
    assert server.jobs[0]["status"] == ("cancelled" if cancels else "running")
    train(server, tmp_path, hosted={"cancel_when_stopped": cancels})
    assert len(server.jobs) == 1 + cancels


def test_a_server_without_the_api_and_a_refused_key_are_named(
    server: FineTuningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-0123456789")
    options = {"base_url": server.url, "api_key_env": "MY_KEY"}
    base = Base("org/model", chat=Chat(), options=options)
    hosted.preflight(base)
    listed = server.routes["GET /v1/fine_tuning/jobs"]
    server.routes["GET /v1/fine_tuning/jobs"] = lambda request: error(401, "bad key sk-secret-0123456789")
    with pytest.raises(ValueError, match=r"does not accept the key in the environment variable MY_KEY") as caught:
        hosted.preflight(base)
    assert "sk-secret" not in str(caught.value)
    server.routes["GET /v1/fine_tuning/jobs"] = lambda request: error(404, "not found")
    with pytest.raises(ValueError, match=r"expected a server with a fine-tuning API"):
        hosted.preflight(base)
    server.routes["GET /v1/fine_tuning/jobs"] = listed
    assert server.keys == {"Bearer sk-secret-0123456789"}


def test_rows_with_reasoning_are_refused_before_the_upload(server: FineTuningServer, tmp_path: Path) -> None:
    rows = make_rows(10).with_columns(reasoning=pl.lit("hm"))
    with pytest.raises(ValueError, match="reasoning: strip"):
        train(server, tmp_path, rows=rows)
    assert not server.requests


def test_fields_of_the_job_can_be_added_and_omitted(server: FineTuningServer, tmp_path: Path) -> None:
    extra = {"hyperparameters": {"n_epochs": 1, "batch_size": 4}, "seed": None, "integrations": []}
    train(server, tmp_path, hosted={"extra_body": extra})
    (job,) = server.jobs
    assert job["hyperparameters"] == extra["hyperparameters"] and "seed" not in job and job["integrations"] == []
    with pytest.raises(ValidationError, match="model is set by the study"):
        settings(hosted={"extra_body": {"model": "x"}})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"learning_rate": 1e-3},
            "learning_rate: is not sent to a fine-tuning API; allowed",
        ),
        ({"packing": True}, "packing: is not sent to a fine-tuning API"),
        ({"method": "full"}, "hosted: is only allowed with method: hosted"),
        ({"hosted": {"price": {"training": 0, "date": "2026-11-30"}}}, "greater than 0"),
        ({"hosted": {"price": {"training": 1}}}, "date"),
    ],
)
def test_settings_that_an_api_does_not_take_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**given)


SERVED = {"model": "org/model", "engine": "openai", "chat": True, "engine_options": {"base_url": "http://a/v1"}}
LOCAL = {"model": str(tiny.shipped("student"))}
HOSTED = {"method": "hosted", "steps": 5, "batch_size": 8, "hosted": {"poll_seconds": 0.01}}


def attributes(**more: Any) -> dict[str, Any]:
    return {
        "name": "bought",
        "task": {"name": "arithmetic", "train": 30, "validation": 4, "test": 20},
        "models": {name: {"model": str(tiny.shipped(name))} for name in ("wc", "se")},
        "budgets": {"low": {"se": 1}},
        "sampling": {"temperature": 0.7, "top_k": 3, "max_tokens": 56},
        "targets": {"nano": SERVED},
        "finetune": HOSTED,
        **more,
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"targets": {"nano": LOCAL}}, "targets.nano.engine: method: hosted trains a model behind an API"),
        (
            {"finetune": {"steps": 5}},
            "targets.nano.finetune.method: full cannot train a model that is called over HTTP .engine: openai.; use",
        ),
        ({"targets": {"nano": SERVED | {"chat": False}}}, "targets.nano.chat: method: hosted trains on conversations"),
        (
            {"targets": {"nano": SERVED | {"engine_options": {"base_url": ["http://a/v1", "http://b/v1"]}}}},
            "targets.nano.engine_options.base_url: method: hosted works with one server only",
        ),
        ({"targets": {"nano": SERVED | {"revision": "main"}}}, "not revision:"),
        ({"targets": {"nano": SERVED | {"engine": "imported"}}}, "imported"),
    ],
)
def test_a_study_names_targets_that_do_not_go_with_the_method(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study.parse(attributes(**given))


def test_a_hosted_target_inherits_only_what_an_api_takes() -> None:
    common = {"method": "lora", "steps": 7, "batch_size": 8, "learning_rate": 1e-3, "lora": {"r": 4}}
    targets = {"small": LOCAL, "nano": SERVED | {"finetune": {"method": "hosted"}}}
    spec = study.parse(attributes(finetune=common, targets=targets))
    assert spec.finetuning_of("nano") == Finetune(method="hosted", steps=7, batch_size=8)
    assert spec.finetuning_of("small").lora.r == 4


def solver(problems: pl.DataFrame) -> Reply:
    """Answer the built-in task: the untouched model solves some problems, and a finetuned one most."""
    solutions = dict(problems.select("question", "solution").iter_rows())

    def reply(request: Received) -> Any:
        (question,) = (question for question in solutions if question in request.prompt)
        skill = 0.9 if request.body["model"].startswith("ft:") else 0.3
        right = draw(question, request.body["model"]) < skill
        return completion(request, solutions[question] if right else "The answer is -1 .")

    return reply


def test_a_study_trains_and_evaluates_an_api_model(server: FineTuningServer, materialize: Callable[..., Path]) -> None:
    server.reply = solver(Arithmetic(train=30, validation=4, test=20).load())
    target = SERVED | {"engine_options": {"base_url": server.url}}
    price = {"training": 3.0, "currency": "EUR", "date": "2026-11-30"}
    finetuning = HOSTED | {"hosted": {"poll_seconds": 0.01, "price": price}}
    root = materialize(attributes(targets={"nano": target}, finetune=finetuning))
    assert len(server.jobs) == 2  # one for each source
    rows = pl.concat(
        tables.scan(root, "bought", "nano_checkpoint", ({"budget": "low", "source": source},)).collect()
        for source in ("wc", "se")
    )
    assert rows["method"].to_list() == ["hosted"] * 2 and rows["params"].null_count() == 2
    assert rows["tokens"].to_list() == [job["trained_tokens"] for job in server.jobs]
    booked = pl.read_parquet(root / "ledger" / "*" / "params=none" / "*.parquet").filter(stage="training")
    assert sorted(booked["cost"]) == pytest.approx(sorted(3e-6 * job["trained_tokens"] for job in server.jobs))
    answers = pl.concat(
        tables.scan(root, "bought", "nano_eval", ({"budget": "low", "source": source},)).collect()
        for source in ("wc", "se")
    )
    untouched = tables.scan(root, "bought", "base_eval").collect()
    assert answers["correct"].mean() > untouched["correct"].mean() + 0.3  # type: ignore[operator]
    served = {request.body["model"] for request in server.requests if request.chat}
    assert served == {"org/model", *(job["fine_tuned_model"] for job in server.jobs)}
    page = (tables.folder(root, "bought", "report") / "report.html").read_text()
    assert "hosted" in page
    folder = root / rows["path"][0]
    model = resolve(str(folder), engine="openai", chat=Chat(), options={"base_url": server.url})
    assert model.model_id == served_name(folder)
    with pytest.raises(ValueError, match="is served by an API; give engine: openai, not auto"):
        resolve(str(folder), engine="auto")


def test_a_missing_api_is_found_before_anything_is_bought(
    server: FineTuningServer, materialize: Callable[..., Path], tmp_path: Path
) -> None:
    server.routes["GET /v1/fine_tuning/jobs"] = lambda request: error(404, "not found")
    target = SERVED | {"engine_options": {"base_url": server.url}}
    with pytest.raises(AssertionError, match=r"targets\.nano: method: hosted: .* expected a server with a fine-tuning"):
        materialize(attributes(targets={"nano": target}))
    parts = list(tmp_path.rglob("part-*.parquet"))
    assert set(pl.read_parquet(parts)["stage"]) <= {"evaluation"}, "no samples"


def test_a_finetuned_api_model_is_a_sampler_of_the_next_study(
    server: FineTuningServer, materialize: Callable[..., Path]
) -> None:
    server.reply = solver(Arithmetic(train=30, validation=4, test=20).load())
    engine = {"engine": "openai", "chat": True, "engine_options": {"base_url": server.url}}
    first = attributes(targets={"nano": {"model": "org/model", **engine}})
    ref = {"study": "bought", "target": "nano", "budget": "low", "source": "wc"}
    second = {
        "wc": {"checkpoint": ref, **engine, "params": 1e9, "sampling": {"top_k": None}},
        "se": {"model": "org/model", **engine, "params": 2e9, "sampling": {"top_k": None}},
    }
    root = materialize(first, attributes(name="round2", models=second, targets={}, finetune=None))
    verdicts = tables.scan(root, "round2", "verdicts", ({"budget": "low", "model": "wc"},)).collect()
    assert verdicts["correct"].mean() > 0.5  # type: ignore[operator]
