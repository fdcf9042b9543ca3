"""vLLM on a Ray cluster, with a configurable number of replicas on this machine or on others.

    engine: ray
    engine_options:
      address: auto              # of a running cluster; default RAY_ADDRESS, else a local cluster is started
      replicas: 2                # number of copies of the model
      max_replicas: 8            # upper limit while there is work and room for more
      gpus_per_replica: 1        # default 1 (or tensor x pipeline parallel size) if the cluster has GPUs, else 0
      cpus_per_replica: 1
      resources: {A100: 1}       # other Ray resources per replica
      batch_size: 128            # samples per batch; samples of one prompt stay together
      batches_in_flight: 16      # per replica; together more samples than it runs at once, so that it is never idle
      max_restarts: 10           # per replica; -1 for no limit
      runtime_env: {...}         # Ray's runtime_env, for workers that lack this package
      engine_kwargs: {...}       # vLLM's engine arguments

Ray Data distributes batches of requests over a pool of actors. Each actor runs the project's own vLLM engine from one
queue, so that seeds, token counts and the fingerprint in the ledger are those of engine vllm. Ray Data's LLM stage is
not used, because its rows contain neither the finish reason of a sample nor its cached tokens.

A batch is returned and recorded when its last sample has finished. If a replica dies, Ray restarts it on the same or
another node, and its unfinished batches are requested again; batches that were returned are not. `seconds` is measured
in the replica. A local model folder must be on a disk that all nodes can read.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, fields, replace
from math import prod
from typing import Any

from cos_assets.generation.completions import share
from cos_assets.generation.engines import Descriptor
from cos_assets.generation.engines.ray_options import Options
from cos_assets.generation.types import Completion, Model, Request, Sampling

_LOG = logging.getLogger(__name__)
_MISSING = "engine: ray needs the package ray, which is not installed here; install it with `pip install -e '.[ray]'`"
_AUTH_LOG = "ray._private.authentication.authentication_token_setup"
_BATCHES = 4  # minimum per replica, if there are enough samples


class RayEngine:
    """A pool of vLLM replicas for one model. Each call of `stream` starts its own replicas.

    Parameters
    ----------
    model : Model
        A hub id, or a folder on a disk that all nodes can read. The module's docstring lists its `engine_options`.

    Raises
    ------
    ValueError
        If an engine option is wrong.
    """

    name = "ray"
    starts_cheaply = False  # every stream starts new replicas

    def __init__(self, model: Model) -> None:
        self._options = Options.read(model.engine_options)
        self._model = replace(model, engine="vllm", engine_options=self._options.engine_kwargs)
        self._connected = self._alone = False

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """Yield completions in batches as they arrive (see `Engine.stream`).

        A prompt that vLLM refuses gives error completions.

        Raises
        ------
        ValueError
            If a replica cannot load the model, or if a local cluster lacks the resources of a replica.
        RuntimeError
            If replicas have died too often.
        """
        if not requests:
            return
        self._connect()
        import ray
        from ray.util.annotations import RayDeprecationWarning

        options = self._options
        dataset = ray.data.from_arrow(_batches(requests, options))
        dataset.context.enable_progress_bars = False
        dataset.context.print_on_execution_start = False
        with warnings.catch_warnings():
            # Ray takes max_restarts only in this deprecated way. Without it a fatal prompt would crash vLLM forever.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            answers = dataset.map_batches(
                Replica,
                fn_constructor_kwargs={"model": self._model, "sampling": sampling},
                batch_size=None,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(
                    min_size=options.replicas,
                    max_size=options.max_replicas or options.replicas,
                    max_tasks_in_flight_per_actor=options.batches_in_flight,
                    max_concurrent_calls_per_actor=options.batches_in_flight,
                    enable_true_multi_threading=True,
                ),
                max_restarts=options.max_restarts,
                **self._resources(ray.cluster_resources()),
            )
        try:
            tables: Iterator[Any] = iter(
                answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
            )
            for table in tables:
                if "broken" in table.column_names:
                    raise ValueError(f"engine: ray: a replica cannot load the model: {table['broken'][0]}")
                yield [Completion(**row) for row in table.to_pylist()]
        except ray.exceptions.RayError as error:
            first = next(line for line in str(error).splitlines() if line.strip())
            raise RuntimeError(f"engine: ray: {type(error).__name__}: {first} (see Ray's logs)") from None

    def close(self) -> None:
        """Disconnect from the cluster. A cluster that was started for this engine ends."""
        if self._connected:
            import ray

            ray.shutdown()
            self._connected = self._alone = False

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
        import ray.data

        # Errors are raised. These loggers would also print them, and normal events, over the progress display.
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        logging.getLogger(_AUTH_LOG).setLevel(logging.ERROR)
        if ray.is_initialized():  # by the caller, who also shuts it down
            return
        address = self._options.address or os.environ.get("RAY_ADDRESS") or "local"
        self._alone = address == "local"
        more: dict[str, Any] = {"include_dashboard": False} if self._alone else {}
        ray.init(
            address,
            runtime_env=self._options.runtime_env or None,
            logging_level=logging.WARNING,
            log_to_driver=False,
            **more,
        )
        self._connected = True

    def _resources(self, cluster: Mapping[str, float]) -> dict[str, Any]:
        """Return the resources per replica. Raises ValueError if a local cluster, which cannot grow, lacks them."""
        options = self._options
        gpus = options.gpus_per_replica
        if gpus is None:
            shards = [options.engine_kwargs.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "pipeline")]
            gpus = prod(shards) if cluster.get("GPU") else 0
        wanted = {"CPU": options.cpus_per_replica, "GPU": gpus, **options.resources}
        for name, amount in wanted.items():
            had = cluster.get(name, 0)
            if amount > had and self._alone:
                key = f"{name.lower()}s_per_replica" if name in ("CPU", "GPU") else f"resources.{name}"
                raise ValueError(
                    f"engine_options.{key}: {amount:g} is more than the {had:g} of this machine;"
                    " lower it, or give the address: of a cluster"
                )
            if amount > had:
                _LOG.warning(f"a replica needs {amount:g} {name}, but the cluster has {had:g}; waiting for more")
        return {"num_cpus": options.cpus_per_replica, "num_gpus": gpus, "resources": options.resources or None}


class _Batch:
    """The requests of one batch, and their completions so far."""

    def __init__(self, requests: list[Request]) -> None:
        self.requests = requests
        self.answer: Future[list[Completion]] = Future()
        self._left = sum(len(request.indices) for request in requests)
        self._done: list[Completion] = []

    def add(self, completion: Completion) -> None:
        self._done.append(completion)
        self._left -= 1
        if not self._left:
            self.answer.set_result(self._done)


class Replica:
    """A Ray actor that runs vLLM in a separate thread and maps batches of requests to batches of completions.

    If the model cannot be loaded, every call returns a table with one column, `broken`, which holds the reason.
    """

    def __init__(self, model: Model, sampling: Sampling) -> None:
        from cos_assets.generation.engines import vllm

        self._sampling = sampling
        self._broken = ""
        try:
            self._engine = vllm.ENGINE.open(model)
            self._engine.load()
        except Exception as error:  # reported in the reply, since Ray wraps an actor's exception in pages of text
            self._broken = f"{type(error).__name__}: {error}"
        self._asked: queue.SimpleQueue[_Batch] = queue.SimpleQueue()
        threading.Thread(target=self._run_or_die, daemon=True).start()

    def __call__(self, table: Any) -> Any:
        """Map a table of requests to a table of completions. Called from one thread per batch in flight."""
        import pyarrow as pa

        if self._broken:
            return pa.table({"broken": [self._broken]})
        batch = _Batch([Request(row["problem_id"], row["prompt"], tuple(row["indices"])) for row in table.to_pylist()])
        self._asked.put(batch)
        return pa.Table.from_pylist([asdict(completion) for completion in batch.answer.result()], schema=_answers())

    def _run_or_die(self) -> None:
        try:
            self._run()
        except BaseException:  # vLLM cannot recover: Ray restarts the actor and resends its batches
            traceback.print_exc()
            os._exit(1)

    def _run(self) -> None:
        waiting: deque[tuple[Request, int]] = deque()
        batches: dict[tuple[str, str, int], _Batch] = {}
        since = time.perf_counter()
        while True:
            while not batches or not self._asked.empty():
                batch = self._asked.get()
                since = since if batches else time.perf_counter()  # idle time counts for no sample
                asked = [(request, index) for request in batch.requests for index in request.indices]
                batches |= {(request.problem_id, request.prompt, index): batch for request, index in asked}
                waiting += asked
            ended: list[Completion] = []
            while waiting and self._engine.room > 0:
                if refusal := self._engine.submit(*waiting.popleft(), self._sampling):
                    ended.append(refusal)
            ended += self._engine.step()
            if ended:
                for completion in share(ended, since):
                    batches.pop((completion.problem_id, completion.prompt, completion.index)).add(completion)
                since = time.perf_counter()


class _Descriptor(Descriptor):
    gpu = False  # Ray assigns its own devices
    options = Options

    def open(self, model: Model) -> RayEngine:
        from importlib.util import find_spec

        if find_spec("ray") is None:
            raise ModuleNotFoundError(_MISSING, name="ray")
        return RayEngine(model)


ENGINE = _Descriptor()


def _batches(requests: Sequence[Request], options: Options) -> list[Any]:
    """Split requests into tables [problem_id, prompt, indices] of about `batch_size` samples.

    Tables are smaller if there are too few samples for all replicas. The samples of a prompt stay together, so that one
    replica processes the prompt once, unless they are more than `batch_size`.
    """
    import pyarrow as pa

    total = sum(len(request.indices) for request in requests)
    size = max(1, min(options.batch_size, total // (_BATCHES * (options.max_replicas or options.replicas))))
    rows: list[dict[str, Any]] = []
    tables: list[Any] = []
    room = size
    for request in requests:
        for start in range(0, len(request.indices), options.batch_size):
            indices = request.indices[start : start + options.batch_size]
            rows.append({"problem_id": request.problem_id, "prompt": request.prompt, "indices": indices})
            room -= len(indices)
            if room <= 0:
                tables.append(pa.Table.from_pylist(rows))
                rows, room = [], size
    return [*tables, pa.Table.from_pylist(rows)] if rows else tables


def _answers() -> Any:
    """Return the schema of a table of completions."""
    import pyarrow as pa

    kinds = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    kinds["FinishReason"] = pa.string()
    return pa.schema([(field.name, kinds[str(field.type).removesuffix(" | None")]) for field in fields(Completion)])
