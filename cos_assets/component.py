"""The two Dagster components for a defs.yaml: a study, and the tiny models that the demo studies use."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel, ConfigDict

from cos_assets import study
from cos_assets.assets import build_study
from cos_assets.assets.tiny import TinyModelsSpec, build_tiny_models
from cos_assets.orchestration import schedule
from cos_assets.study import environment
from cos_assets.study.errors import check, check_duplicates

UNAVAILABLE: dict[str, str] = {}
"""Study -> message, for studies that were left out because an environment variable is not set."""


class _Attributes(BaseModel):
    """Accepts every key, so that the spec itself validates them and reports the allowed ones. Subclasses return the
    schema of their spec."""

    model_config = ConfigDict(extra="allow")


class _StudyAttributes(_Attributes):
    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return study.StudySpec.model_json_schema(*args, **kwargs)


class _TinyModelsAttributes(_Attributes):
    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return TinyModelsSpec.model_json_schema(*args, **kwargs)


class Study(dg.Component):
    """One experiment: samplers, budgets, data sources, targets. See `cos_assets/study/spec.py` for the keys."""

    def __init__(self, spec: study.StudySpec | None) -> None:
        """`spec` is None for a study that was left out (`UNAVAILABLE`)."""
        self.spec = spec

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return _StudyAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Study:
        expanded = _expanded(attributes, context)
        if expanded is None:
            return cls(None)
        spec = study.parse(expanded[0], _where(context), expanded[1])
        schedule.check(spec, _where(context))
        for line in spec.warnings:
            logging.getLogger(__name__).warning(f"{_where(context)}: {line}")
        return cls(spec)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        if self.spec is None:
            return dg.Definitions()
        return dg.Definitions(assets=build_study(self.spec), sensors=schedule.sensors(self.spec))


class TinyModels(dg.Component):
    """Small models trained from scratch, as checkpoints that studies refer to."""

    def __init__(self, spec: TinyModelsSpec | None) -> None:
        self.spec = spec

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return _TinyModelsAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> TinyModels:
        expanded = _expanded(attributes, context)
        return cls(check(TinyModelsSpec, expanded[0], _where(context)) if expanded else None)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions(assets=build_tiny_models(self.spec) if self.spec else [])


def _expanded(
    attributes: BaseModel | None, context: dg.ComponentLoadContext
) -> tuple[dict[str, Any], environment.Written] | None:
    """Check for duplicate keys, and return the attributes with environment variables expanded.

    Returns None where a variable is not set. That is logged as a warning and kept in `UNAVAILABLE`, and the other
    studies load.
    """
    file = _file(context)
    if file.is_file():
        check_duplicates(file.read_text(encoding="utf-8"), _where(context))
    given = attributes.model_dump() if attributes else {}
    name = str(given.get("name", _where(context)))
    UNAVAILABLE.pop(name, None)
    try:
        return environment.expand(given)
    except environment.MissingVariable as error:
        lines = [f"{_where(context)}: {name}: {line}" for line in str(error).splitlines()]
        UNAVAILABLE[name] = "\n".join(lines)
        for line in lines:
            logging.getLogger(__name__).warning(f"{line}; the study is left out")
        return None


def _where(context: dg.ComponentLoadContext) -> str:
    """Return the path of the YAML file for messages, relative to the working directory where possible."""
    file = _file(context)
    try:
        return str(file.relative_to(Path.cwd()))
    except ValueError:
        return str(file)


def _file(context: dg.ComponentLoadContext) -> Path:
    path = Path(context.path)
    return path / "defs.yaml" if path.is_dir() else path
