"""An OpenAI-compatible server with a fine-tuning API: files, jobs, events and cancellation.

Each request for a job's status moves the job to its next state. A model that was finetuned is served under its name; it
answers prompts that it was trained on with the text that it learned, and others by `reply`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from support.openai_server import Received, Reply, Server, completion, echo, error, form, page

CREATE, STATUS = "POST /v1/fine_tuning/jobs", "GET /v1/fine_tuning/jobs/*"
STATES = ("validating_files", "queued", "running", "running", "running", "succeeded")


class FineTuningServer(Server):
    """`ends` gives the last state of a job by its number, from 0: "succeeded", or ("failed", a message).

    `jobs` holds the jobs, oldest first, and `files` the uploads. With `echoes` false, jobs have no metadata.
    """

    def reset(self, reply: Reply = echo, models: Sequence[str] = ("org/model",)) -> None:
        super().reset(reply, models)
        self.models = list(models)
        self.ends: Callable[[int], Any] = lambda number: "succeeded"
        self.echoes = True
        self.files: dict[str, bytes] = {}
        self.jobs: list[dict[str, Any]] = []
        self.routes["GET /v1/models"] = lambda request: {"object": "list", "data": [{"id": m} for m in self.models]}
        self.routes["POST /v1/chat/completions"] = self._answer
        self.routes |= {
            "POST /v1/files": self._upload,
            CREATE: self._create,
            "POST /v1/fine_tuning/jobs/*/cancel": self._cancel,
            "GET /v1/fine_tuning/jobs/*/events": self._events,
            "GET /v1/fine_tuning/jobs": lambda request: page(self.jobs, request),
            STATUS: lambda request: self._look(request.path.rpartition("/")[2]),
        }

    def adopt(self, other: FineTuningServer) -> None:
        """Continue with the state of a server that has stopped."""
        self.files, self.jobs, self.models = other.files, other.jobs, other.models

    def learned(self, model: str) -> dict[str, str]:
        """Return the replies that a finetuned model learned, by prompt."""
        (job,) = (job for job in self.jobs if job["fine_tuned_model"] == model)
        talks = [json.loads(line)["messages"] for line in self.files[job["training_file"]].split(b"\n") if line]
        return {talk[-2]["content"]: talk[-1]["content"] for talk in talks}

    def _answer(self, request: Received) -> Any:
        model = request.body["model"]
        if model not in self.models:
            return error(404, f"the model {model!r} does not exist", "model_not_found")
        text = self.learned(model).get(request.prompt) if model.startswith("ft:") else None
        return self.reply(request) if text is None else completion(request, text)

    def _upload(self, request: Received) -> dict[str, Any]:
        fields = form(request)
        assert fields["purpose"] == b"fine-tune"
        name = f"file-{len(self.files)}"
        self.files[name] = fields["file"]
        return {"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "x", "purpose": "fine-tune"}

    def _create(self, request: Received) -> Any:
        asked = dict(request.body)
        if asked["training_file"] not in self.files:
            return error(400, "the training file does not exist")
        number = len(self.jobs)
        job = {
            **asked,
            "id": f"ftjob-{number}",
            "object": "fine_tuning.job",
            "created_at": 100,
            "finished_at": None,
            "status": STATES[0],
            "at": 0,
            "fine_tuned_model": None,
            "trained_tokens": None,
            "error": None,
            "user_provided_suffix": asked.get("suffix"),
        }
        if not self.echoes:
            job["metadata"] = None
        self.jobs.append(job)
        return job

    def _job(self, name: str) -> dict[str, Any] | None:
        return next((job for job in self.jobs if job["id"] == name), None)

    def _look(self, name: str) -> Any:
        job = self._job(name)
        if job is None:
            return error(404, f"no job {name}")
        if job["status"] in ("succeeded", "failed", "cancelled"):
            return job
        job["at"] += 1
        job["status"] = STATES[job["at"]]
        if job["status"] == "succeeded":
            end = self.ends(self.jobs.index(job))
            if isinstance(end, tuple):
                job |= {"status": end[0], "error": {"code": "x", "message": end[1], "param": None}}
                return job
            content = self.files[job["training_file"]]
            model = f"ft:{job['model']}:org:{job['suffix']}:{name}"
            job |= {"fine_tuned_model": model, "trained_tokens": len(content) // 4, "finished_at": 160}
            self.models.append(model)
        return job

    def _events(self, request: Received) -> dict[str, Any]:
        job = self._job(request.path.split("/")[-2])
        assert job is not None
        done = max(0, job["at"] - STATES.index("running") + 1)
        steps = len([line for line in self.files[job["training_file"]].split(b"\n") if line])
        steps //= job["method"]["supervised"]["hyperparameters"]["batch_size"]
        reached = min(steps, steps * done // 3)
        said = [{"step": step, "train_loss": 1 / step, "total_steps": steps} for step in range(1, reached + 1)]
        events = [
            {
                "id": f"event-{data['step']}",
                "object": "fine_tuning.job.event",
                "created_at": 1,
                "level": "info",
                "message": f"Step {data['step']}",
                "type": "metrics",
                "data": data,
            }
            for data in said
        ]
        return page(events, request, size=100)

    def _cancel(self, request: Received) -> Any:
        job = self._job(request.path.split("/")[-2])
        assert job is not None
        job["status"] = "cancelled"
        return job
