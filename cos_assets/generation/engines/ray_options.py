"""What `engine_options:` of a model with `engine: ray` may say; the engine's module says what it means."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from cos_assets.spec import Count, Spec, Text

_OWN = ("model", "tokenizer", "revision", "tokenizer_revision")


class Options(Spec):
    """`engine_options:` of a model with `engine: ray`."""

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

    @field_validator("engine_kwargs")
    @classmethod
    def _not_ours(cls, given: dict[str, Any]) -> dict[str, Any]:
        for key in given:
            if key in _OWN:
                raise ValueError(f"{key} is set by the engine; leave it out")
        return given

    @model_validator(mode="after")
    def _grows(self) -> Options:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas: {self.max_replicas} is less than replicas: {self.replicas}")
        return self


def read_options(given: Any) -> Options:
    """Raises ValueError with one line that names the option at fault."""
    try:
        return Options.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["engine_options", *map(str, first["loc"])])
        allowed = f"; allowed: {', '.join(Options.model_fields)}" if first["type"] == "extra_forbidden" else ""
        hint = "; vLLM's own arguments go under engine_kwargs" if allowed else ""
        raise ValueError(f"{key}: {first['msg']}{allowed}{hint}") from None
