"""The ray engine on local clusters gives the samples of engine vllm, also after a kill."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from cos_assets.generation import generate as purchase
from cos_assets.generation.engines.ray import _batches
from cos_assets.generation.engines.ray_options import Options
from cos_assets.generation.generate import Bought, Buyer, generate, open_engine
from cos_assets.generation.types import Completion, Model, Request, Sampling
from cos_assets.tasks.arithmetic import Arithmetic
from cos_assets.tiny import shipped

PROBLEMS, SAMPLES = 80, 20
SAMPLING = Sampling(temperature=0.7, top_k=3, max_tokens=56, seed=1)
VLLM: dict[str, Any] = {"max_num_seqs": 64}
RAY: dict[str, Any] = {"replicas": 2, "batch_size": 40, "batches_in_flight": 4, "engine_kwargs": VLLM}


def model(engine: str = "ray", **options: Any) -> Model:
    return Model(str(shipped("wc")), "wc", engine, engine_options=options)


@pytest.fixture(scope="module")
def prompts() -> pl.DataFrame:
    task = Arithmetic(train=PROBLEMS, validation=1, test=1)
    problems = task.load().filter(pl.col("split") == "train")
    return problems.select("problem_id").with_columns(prompt=pl.Series([task.prompt(p) for p in problems.to_dicts()]))


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    try:
        import ray  # noqa: F401
        import vllm  # noqa: F401
    except ImportError as error:
        if os.environ.get("CI"):
            pytest.fail(f"ray and vllm cannot be imported ({error}): in CI these tests must run")
        pytest.skip(f"ray and vllm cannot be imported ({error})")


@pytest.fixture(scope="module")
def expected(prompts: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The samples of engine vllm in one run."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # equal to the replicas': other batch sizes round differently
    try:
        return buy(tmp_path_factory.mktemp("vllm"), prompts, model("vllm", **VLLM)).rows
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cluster(expected: pl.DataFrame) -> Iterator[None]:
    """One cluster for several tests, because starting one takes long."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def buy(root: Path, prompts: pl.DataFrame, model: Model) -> Bought:
    return generate(model, prompts, SAMPLES, SAMPLING, Buyer(root, "s", "sampling"))


def parts(root: Path) -> list[Path]:
    return sorted(root.rglob("part-*.parquet"))


def replicas(process: psutil.Process | None = None) -> list[int]:
    """The process ids of the replicas below a process."""
    found = []
    for child in (process or psutil.Process()).children(recursive=True):
        try:
            if child.status() != psutil.STATUS_ZOMBIE and "Replica" in " ".join(child.cmdline()):
                found.append(child.pid)
        except psutil.Error:
            continue
    return found


def ends(condition: Callable[[], bool], seconds: float = 30) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


def kill_one(root: Path, after: int) -> tuple[threading.Thread, list[int]]:
    """A thread that kills a replica once `after` parts are written, and puts its process id into the list."""
    killed: list[int] = []

    def run() -> None:
        if ends(lambda: len(parts(root)) >= after, 200):
            killed.append(replicas()[0])
            os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, killed


def test_greedy_text_equals_transformers_and_no_replica_remains(prompts: pl.DataFrame) -> None:
    """Also: a prompt that is too long does not affect the others."""
    from cos_assets.generation.engines import transformers

    greedy = Sampling(temperature=0, max_tokens=56)
    requests = [Request(i, p, (0,)) for i, p in prompts.head(60).iter_rows()]
    long = Request("long", requests[0].prompt * 100, (0, 1))

    def ask(engine: Any, requests: list[Request]) -> list[Completion]:
        try:
            return sorted((c for batch in engine.stream(requests, greedy) for c in batch), key=lambda c: c.problem_id)
        finally:
            engine.close()

    found = ask(open_engine(model(engine_kwargs=VLLM)), [long, *requests])
    assert ends(lambda: not any("ray" in child.name() for child in psutil.Process().children(recursive=True)))
    refused = [c for c in found if c.problem_id == "long"]
    assert [(c.index, c.finish_reason, c.completion_tokens) for c in refused] == [(0, "error", 0), (1, "error", 0)]
    assert "maximum context length" in (refused[0].error or "")
    found = [c for c in found if c.problem_id != "long"]
    wanted = ask(transformers.ENGINE.open(model("transformers")), requests)
    facts = [
        [(c.text, c.finish_reason, c.prompt_tokens, c.completion_tokens) for c in side] for side in (found, wanted)
    ]
    assert facts[0] == facts[1]
    assert len({c.text for c in found}) > 30
    assert all(c.seconds > 0 and c.cached_tokens is not None for c in found)


def test_samples_are_complete_after_a_replica_dies(
    cluster: None, prompts: pl.DataFrame, expected: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The samples equal those of engine vllm for every seed."""
    monkeypatch.setattr(purchase, "FLUSH_ROWS", 100)
    thread, killed = kill_one(tmp_path, after=3)
    bought = buy(tmp_path, prompts, model(**RAY))
    thread.join()
    assert killed, "it ended before a replica could be killed"
    assert not psutil.pid_exists(killed[0]) or killed[0] not in replicas()
    assert bought.new == PROBLEMS * SAMPLES
    assert bought.rows.equals(expected)
    rows = pl.concat([pl.read_parquet(part) for part in parts(tmp_path)])
    assert rows.height == rows.select("prompt_hash", "sample_index").n_unique() == PROBLEMS * SAMPLES
    assert set(rows["engine"]) == {"ray"}
    assert rows["error"].null_count() == rows.height
    assert ends(lambda: not replicas())


def test_a_replica_without_restarts_stops_the_run_and_its_samples_are_kept(
    cluster: None, prompts: pl.DataFrame, expected: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purchase, "FLUSH_ROWS", 100)
    thread, _ = kill_one(tmp_path, after=3)
    with pytest.raises(RuntimeError, match="engine: ray: ActorDiedError: The actor died unexpectedly"):
        buy(tmp_path, prompts, model(**RAY | {"replicas": 1, "max_restarts": 0}))
    thread.join()
    rows = pl.concat([pl.read_parquet(part) for part in parts(tmp_path)])
    assert 0 < rows.height < PROBLEMS * SAMPLES
    keys = ["problem_id", "sample_index"]
    held = rows.join(prompts, on="prompt").select(*keys, "completion").sort(keys)
    assert held.equals(expected.join(held, on=keys, how="semi").select(*keys, "completion").sort(keys))


def test_an_option_that_vllm_refuses_stops_the_run_with_its_name(cluster: None) -> None:
    """No replica remains after the error."""
    engine = open_engine(model(engine_kwargs={"max_seqs": 3}))
    with pytest.raises(ValueError, match=r"a replica cannot load the model: ValueError: engine_options: .*'max_seqs'"):
        next(engine.stream([Request("p", "x", (0,))], SAMPLING))
    assert ends(lambda: not replicas())


SCRIPT = """
    import sys
    from pathlib import Path
    import polars as pl
    from cos_assets.storage import tables as store
    from cos_assets.generation import generate as purchase
    from cos_assets.generation.types import Model
    from cos_assets.generation.types import Sampling
    from cos_assets.tiny import shipped

    purchase.FLUSH_ROWS = 100
    prompts = pl.read_parquet(sys.argv[2])
    options = {options}
    model = Model(str(shipped("wc")), "wc", "ray", engine_options=options)
    sampling = Sampling.model_validate_json({sampling!r})
    bought = purchase.generate(model, prompts, {samples}, sampling, purchase.Buyer(Path(sys.argv[1]), "s", "sampling"))
    bought.rows.write_parquet(sys.argv[3])
    print(bought.new)
"""


def test_a_run_after_a_killed_driver_continues_and_buys_nothing_twice(
    expected: pl.DataFrame, prompts: pl.DataFrame, tmp_path: Path
) -> None:
    root, asked, table = tmp_path / "root", tmp_path / "prompts.parquet", tmp_path / "table.parquet"
    prompts.write_parquet(asked)
    options = RAY | {"replicas": 1}
    script = SCRIPT.format(options=options, sampling=SAMPLING.model_dump_json(), samples=SAMPLES)
    command = [sys.executable, "-c", textwrap.dedent(script), str(root), str(asked), str(table)]
    driver = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    assert ends(lambda: len(parts(root)) >= 3 or driver.poll() is not None, 200)
    below = [psutil.Process(pid) for pid in replicas(psutil.Process(driver.pid))]
    assert driver.poll() is None, "it ended before it could be killed"
    driver.kill()
    driver.wait()
    assert below
    assert ends(lambda: not any(replica.is_running() for replica in below)), "replicas end with the driver"
    written = pl.concat([pl.read_parquet(part) for part in parts(root)]).height
    for journal in root.rglob(".journal-*"):  # usually of a part that was not yet written
        if not journal.with_name(journal.stem.removeprefix(".journal-")).exists():
            written += journal.read_text().count("}\n")
    assert 0 < written < PROBLEMS * SAMPLES
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) == PROBLEMS * SAMPLES - written
    assert pl.read_parquet(table).equals(expected)
    rows = pl.concat([pl.read_parquet(part) for part in parts(root)])
    assert rows.height == rows.select("prompt_hash", "sample_index").n_unique() == PROBLEMS * SAMPLES


def test_a_replica_that_does_not_fit_the_cluster_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """A local cluster cannot grow; another one may."""
    engine = open_engine(model(resources={"A100": 1}))
    assert engine._resources({"CPU": 2})["resources"] == {"A100": 1}
    assert "replica needs 1 A100, but the cluster has 0; waiting" in caplog.text
    for options, message in [
        ({"resources": {"A100": 1}}, "engine_options.resources.A100: 1 is more than the 0 of this machine"),
        ({"cpus_per_replica": 3}, "engine_options.cpus_per_replica: 3 is more than the 2 of this machine"),
        ({"gpus_per_replica": 0.5}, "engine_options.gpus_per_replica: 0.5 is more than the 0 of this machine"),
    ]:
        engine = open_engine(model(**options))
        engine._alone = True
        with pytest.raises(ValueError, match=re.escape(message)):
            engine._resources({"CPU": 2})


def test_a_replica_requests_the_gpus_of_its_parallel_sizes() -> None:
    spread = open_engine(model(engine_kwargs={"tensor_parallel_size": 4, "pipeline_parallel_size": 2}))
    assert spread._resources({"CPU": 64, "GPU": 16})["num_gpus"] == 8
    assert open_engine(model())._resources({"CPU": 64, "GPU": 16})["num_gpus"] == 1
    assert open_engine(model())._resources({"CPU": 64})["num_gpus"] == 0
    assert open_engine(model(gpus_per_replica=0.5))._resources({"CPU": 64, "GPU": 16})["num_gpus"] == 0.5


def test_the_samples_of_a_prompt_are_in_one_batch() -> None:
    requests = [Request(f"p{i}", f"prompt {i}", tuple(range(7))) for i in range(100)]

    def sizes(**options: Any) -> list[int]:
        tables = _batches(requests, Options.read(options))
        asked = [(row["prompt"], i) for table in tables for row in table.to_pylist() for i in row["indices"]]
        assert asked == [(request.prompt, i) for request in requests for i in request.indices]
        return [sum(map(len, table["indices"].to_pylist())) for table in tables]

    assert sizes() == [133, 133, 133, 133, 133, 35]
    assert sizes(replicas=4) == [49] * 14 + [14]
    assert sizes(replicas=4, batch_size=5)[:4] == [5, 7, 7, 7]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replica": 2}, "engine_options.replica: Extra inputs are not permitted; allowed: address, replicas"),
        ({"replicas": 0}, "engine_options.replicas: Input should be greater than or equal to 1"),
        ({"replicas": 3, "max_replicas": 2}, "max_replicas: 2 is not allowed; at least replicas: 3"),
        ({"engine_kwargs": {"model": "x"}}, "engine_options.engine_kwargs: .*model is set by the engine"),
        ({"max_num_seqs": 3}, "arguments of vLLM belong under engine_kwargs"),
    ],
)
def test_invalid_options_are_refused_before_ray_starts(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_engine(model(**options))


def test_a_study_refuses_invalid_ray_options_with_the_key() -> None:
    from cos_assets.study import StudyError, parse

    wrong = {"model": "x/y", "params": 1e9, "engine": "ray", "engine_options": {"replica": 2}}
    study = {"name": "s", "task": "arithmetic", "models": {"wc": wrong}, "budgets": {"low": {"wc": 1}}}
    with pytest.raises(StudyError, match=r"study: models.wc.engine_options.replica: .*allowed: address"):
        parse(study)


def test_missing_ray_is_reported_with_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=re.escape("install it with `pip install -e '.[ray]'`")):
        open_engine(model())
