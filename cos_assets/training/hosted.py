"""method: hosted: finetuning by the API that serves the model (OpenAI's fine-tuning API).

    targets:
      nano: {model: gpt-4.1-nano-2025-04-14, engine: openai, chat: true}
    finetune:
      method: hosted
      steps: 200
      batch_size: 16
      hosted:
        learning_rate_multiplier: 2                                 # default: the API's own
        price: {training: 1.5, currency: USD, date: 2026-11-30}     # per million tokens trained on
        poll_seconds: 30                                            # between two looks at the job
        cancel_when_stopped: false      # true: cancel the job when the run is stopped (Ctrl-C, Terminate)
        extra_body: {}                  # further fields of the job; null omits one of ours

The uploaded file holds steps x batch_size rows in the order in which our own trainer uses them, and the job trains one
epoch with that batch size. All arms are therefore trained for the same number of steps, as with the other methods. The
API may shuffle the rows.

The job's metadata (key `cos_assets`) and the suffix of the model's name identify the training. After a kill, the next
run finds the job on the server and waits for it. A job that failed or was cancelled is not taken up. The result is a
folder with `served.json`, which holds the name of the model; the API keeps the weights.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from cos_assets.generation.model import SERVED, hash_folder
from cos_assets.generation.types import Model
from cos_assets.training.data import schedule, trained_on
from cos_assets.training.external import as_messages
from cos_assets.training.job import Base, Job, write_json
from cos_assets.training.settings import Hosted

_OURS = "cos_assets"  # the metadata's key
_JOB = "hosted.json"
_LOST = ("failed", "cancelled")
_TRIES = 20  # attempts per call; about a quarter of an hour including waits

Told = Callable[[str, int, float | None], None]
"""Called with the stage (the job's status), the number of finished steps and the last loss."""


def make(job: Job, work: Path, inputs: str, on_status: Told) -> dict[str, Any]:
    """Train by the API, and write the model's name to `work/chosen/model`.

    Returns the fields of `sft.Trained`, without `flops`.

    `inputs` is the hash of the training's inputs. The job's identifier is in `work/hosted.json` as soon as it is known.

    Raises ValueError for rows that the API cannot take, and for a server that refuses the key or has no such API.
    Raises RuntimeError if the job fails or is cancelled, or if the server does not answer for a quarter of an hour.
    """
    lines = _lines(job)
    client = _Client(job.base)
    name = _name(job.base, inputs)
    state = work / _JOB
    try:
        made, losses = asyncio.run(client.train(job, name, lines, state, on_status))
    except BaseException as stop:
        cancels = job.settings.hosted is not None and job.settings.hosted.cancel_when_stopped
        if not isinstance(stop, Exception) and state.is_file() and cancels:
            asyncio.run(client.cancel(_known(state)))
        raise
    model = work / "chosen" / "model"
    model.mkdir(parents=True, exist_ok=True)
    write_json(model / SERVED, {"model": made.fine_tuned_model, "base": job.base.name, "job": made.id})
    return {
        "hash": hash_folder(model),
        "base": job.base.name,
        "method": job.settings.method,
        "steps": job.steps,
        "learning_rate": None,
        "chosen_step": job.steps,
        "validation_accuracy": None,
        "tokens": made.trained_tokens,
        "completion_tokens": None,
        "seconds": float(made.finished_at - made.created_at) if made.finished_at else 0.0,
        "examples": job.rows.height,
        "too_long": 0,
        "epochs": job.steps * job.settings.batch_size / job.rows.height,
        "curve": _curve(job, losses),
    }


def preflight(base: Base) -> None:
    """Check that the server has a fine-tuning API, without buying anything.

    Raises ValueError if it has none or refuses the key, and RuntimeError if it does not answer.
    """
    asyncio.run(_Client(base).look())


def _name(base: Base, inputs: str) -> str:
    asked = json.dumps([base.name, base.chat.system if base.chat else None, inputs])
    return hashlib.sha256(asked.encode()).hexdigest()[:32]


def _known(state: Path) -> str | None:
    return str(json.loads(state.read_text(encoding="utf-8"))["job"]) if state.is_file() else None


def _lines(job: Job) -> bytes:
    """Return the file of the training: JSON lines of {"messages": [...]}, in the order of the schedule."""
    rows = trained_on(job.rows)
    talks = list(as_messages(rows, job.base))
    if any("reasoning_content" in turn for talk in talks for turn in talk):
        raise ValueError(
            "method: hosted: the rows have reasoning, which the fine-tuning API does not take; give the source"
            " reasoning: strip"
        )
    texts = [json.dumps({"messages": talk}, ensure_ascii=False) for talk in talks]
    plan = schedule([len(text) for text in texts], job.steps, job.settings.batch_size, job.seed)
    return "".join(texts[row] + "\n" for row in plan.ravel()).encode()


def _curve(job: Job, losses: Mapping[int, float]) -> list[dict[str, Any]]:
    """Return the mean loss between evenly spaced steps, as for other trainings."""
    found, before = [], 0
    for step in job.settings.checkpoint_steps(job.steps):
        part = [loss for at, loss in losses.items() if before < at <= step]
        mean = sum(part) / len(part) if part else None
        found.append({"learning_rate": None, "step": step, "loss": mean, "validation_accuracy": None})
        before = step
    return found


class _Client:
    """The fine-tuning API that serves a base model."""

    def __init__(self, base: Base) -> None:
        from cos_assets.generation.engines.openai.api import Api

        self.api = Api(Model(base.name, "", "openai", chat=base.chat, engine_options=dict(base.options)))
        self.url = self.api.options.urls[0]

    async def look(self) -> None:
        async with self.api.client(self.url) as client:
            await self._call(lambda: client.fine_tuning.jobs.list(limit=1), tries=3)

    async def cancel(self, name: str | None) -> None:
        async with self.api.client(self.url) as client:
            await self._call(lambda: client.fine_tuning.jobs.cancel(name), tries=3)

    async def train(
        self, job: Job, name: str, lines: bytes, state: Path, on_status: Told
    ) -> tuple[Any, dict[int, float]]:
        """Return the finished job and its losses by step."""
        hosted = job.settings.hosted or Hosted()
        async with self.api.client(self.url) as client:
            made = await self._taken_up(client, name, state) or await self._create(client, job, name, lines)
            retrieve = partial(client.fine_tuning.jobs.retrieve, made.id)
            write_json(state, {"job": made.id})
            losses: dict[int, float] = {}
            while made.status not in ("succeeded", *_LOST):
                losses = await self._losses(client, made.id, job.steps)
                step = max(losses, default=0)
                on_status("train" if step else made.status, step, losses.get(step))
                await asyncio.sleep(hosted.poll_seconds)
                made = await self._call(retrieve)
            if made.status in _LOST or not made.fine_tuned_model:
                state.unlink()
                why = made.error and (made.error.message or made.error.code)
                raise RuntimeError(f"method: hosted: {self.url}: the job {made.id} {_ending(made.status, why)}")
            return made, await self._losses(client, made.id, job.steps)

    async def _taken_up(self, client: Any, name: str, state: Path) -> Any:
        """Return the job of an earlier run, or None: the one in `state`, or one with the same metadata."""
        from openai import NotFoundError

        if known := _known(state):
            with suppress(NotFoundError):
                made = await self._call(lambda: client.fine_tuning.jobs.retrieve(known), missing=NotFoundError)
                if made.status not in _LOST:
                    return made
            state.unlink()
        return await self._find(client, name)

    async def _find(self, client: Any, name: str) -> Any:
        from cos_assets.generation.engines.openai.calls import listed

        for made in await self._call(lambda: listed(client.fine_tuning.jobs.list(limit=100))):
            suffix = (made.model_extra or {}).get("user_provided_suffix")
            ours = (made.metadata or {}).get(_OURS) == name or suffix == _suffix(name)
            if ours and made.status not in _LOST:
                return made
        return None

    async def _create(self, client: Any, job: Job, name: str, lines: bytes) -> Any:
        hosted = job.settings.hosted or Hosted()
        file = await self._call(
            lambda: client.files.create(file=(f"{_suffix(name)}.jsonl", lines), purpose="fine-tune")
        )
        asked: dict[str, Any] = {"n_epochs": 1, "batch_size": job.settings.batch_size}
        if hosted.learning_rate_multiplier is not None:
            asked["learning_rate_multiplier"] = hosted.learning_rate_multiplier
        body = {
            "method": {"type": "supervised", "supervised": {"hyperparameters": asked}},
            "seed": job.seed,
            "suffix": _suffix(name),
            "metadata": {_OURS: name},
            **hosted.extra_body,
        }
        body = {key: value for key, value in body.items() if value is not None}
        sent = False

        async def create() -> Any:
            nonlocal sent
            if sent and (made := await self._find(client, name)):  # the response was lost, but the job may exist
                return made
            sent = True
            return await client.fine_tuning.jobs.create(model=job.base.name, training_file=file.id, extra_body=body)

        return await self._call(create)

    async def _losses(self, client: Any, name: str, steps: int) -> dict[int, float]:
        """Return the training loss by step. The steps are scaled if the API counts others."""
        from cos_assets.generation.engines.openai.calls import listed

        found: dict[int, float] = {}
        for event in await self._call(lambda: listed(client.fine_tuning.jobs.list_events(name, limit=100))):
            data = event.data if event.type == "metrics" and isinstance(event.data, Mapping) else {}
            step, loss, total = data.get("step"), data.get("train_loss"), data.get("total_steps") or steps
            if isinstance(step, int) and isinstance(loss, (int, float)):
                found[min(steps, max(1, round(step * steps / total)))] = float(loss)
        return dict(sorted(found.items()))

    async def _call(
        self, ask: Callable[[], Awaitable[Any]], tries: int | None = None, missing: type[Exception] | tuple[()] = ()
    ) -> Any:
        """Call the server; errors that may pass are tried again. `missing` is an error that the caller handles."""
        from openai import APIStatusError

        from cos_assets.generation.engines.openai.calls import call
        from cos_assets.generation.engines.openai.online import fatal
        from cos_assets.generation.engines.openai.replies import message_of, passing

        try:
            return await call(ask, tries or _TRIES)
        except missing:
            raise
        except Exception as error:
            said = self.api.clean(message_of(error))
            if isinstance(error, APIStatusError) and error.status_code in (404, 405, 501):
                raise ValueError(
                    f"method: hosted: {self.url}: {said}; expected a server with a fine-tuning API (/fine_tuning/jobs)"
                ) from None
            if isinstance(error, APIStatusError) and fatal(error):
                raise ValueError(self.api.refusal(self.url, error)) from None
            if passing(error):
                raise RuntimeError(
                    f"method: hosted: {self.url}: {said}; a job that exists continues there, and the next run finds it"
                ) from None
            if isinstance(error, APIStatusError):
                raise ValueError(f"method: hosted: {self.url}: {said}") from None
            raise


def _suffix(name: str) -> str:
    """Return the suffix of the model's name, such as `ft:gpt-4.1-nano:org:cos-0123456789ab:…`."""
    return f"cos-{name[:12]}"


def _ending(status: str, why: str | None) -> str:
    if status == "succeeded":
        return "succeeded, but names no model"
    return f"{'was cancelled' if status == 'cancelled' else 'failed'}: {why or 'the server gives no reason'}"
