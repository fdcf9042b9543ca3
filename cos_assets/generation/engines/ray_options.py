"""Schema of `engine_options:` for `engine: ray`. The docstring of the module `ray` explains the options."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from cos_assets.fields import Count, EngineOptions, Text

_OWN = ("model", "tokenizer", "revision", "tokenizer_revision")


class Options(EngineOptions):
    """`engine_options:` of a model with `engine: ray`."""

    elsewhere: ClassVar[str] = "; arguments of vLLM belong under engine_kwargs"

    address: Text | None = None
    replicas: Count = 1
    max_replicas: Count | None = None
    cpus_per_replica: float = Field(1, ge=0)
    gpus_per_replica: float | None = Field(None, ge=0)
    resources: dict[str, float] = {}
    batch_size: Count = 128
    batches_in_flight: Count = Field(16, le=256)
    max_restarts: int = Field(10, ge=-1)
    runtime_env: dict[str, Any] = {}
    engine_kwargs: dict[str, Any] = {}
    chat_template_kwargs: dict[str, Any] = {}

    @field_validator("engine_kwargs")
    @classmethod
    def _not_ours(cls, given: dict[str, Any]) -> dict[str, Any]:
        for key in given:
            if key == "chat_template_kwargs":
                raise ValueError(f"{key} is not an argument of vLLM; move it out of engine_kwargs, to engine_options")
            if key in _OWN:
                raise ValueError(f"{key} is set by the engine; leave it out")
        return given

    @model_validator(mode="after")
    def _grows(self) -> Options:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas: {self.max_replicas} is not allowed; at least replicas: {self.replicas}")
        return self
