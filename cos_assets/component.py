"""The two things a defs.yaml can ask for: a study, and the tiny models that the demo studies are about."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel, ConfigDict

from cos_assets import automation, study
from cos_assets.assets import build_study
from cos_assets.assets.tiny import TinyModelsSpec, build_tiny_models


class _Attributes(BaseModel):
    """Takes every key, so that the spec itself checks them and says what is allowed; its schema is the spec's."""

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
    """One experiment: samplers, budgets, data sources, targets. See `cos_assets/study.py` for the keys."""

    spec: study.StudySpec

    def __init__(self, spec: study.StudySpec) -> None:
        self.spec = spec

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return _StudyAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Study:
        spec = study.parse(_resolved(attributes, context), _where(context))
        automation.check(spec, _where(context))
        for line in spec.warnings:
            logging.getLogger(__name__).warning(f"{_where(context)}: {line}")
        return cls(spec)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions(assets=build_study(self.spec), sensors=automation.sensors(self.spec))


class TinyModels(dg.Component):
    """Small models trained from scratch, as checkpoints that studies refer to."""

    def __init__(self, spec: TinyModelsSpec) -> None:
        self.spec = spec

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return _TinyModelsAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> TinyModels:
        return cls(study.check(TinyModelsSpec, _resolved(attributes, context), _where(context)))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions(assets=build_tiny_models(self.spec))


def _resolved(attributes: BaseModel | None, context: dg.ComponentLoadContext) -> dict[str, Any]:
    """The attributes with `{{ env.X }}` and other templates filled in, after a look for keys that stand twice."""
    file = _file(context)
    if file.is_file():
        study.check_duplicates(file.read_text(encoding="utf-8"), _where(context))
    given = attributes.model_dump() if attributes else {}
    return {key: context.resolution_context.at_path(key).resolve_value(value) for key, value in given.items()}


def _where(context: dg.ComponentLoadContext) -> str:
    """The YAML file as its reader knows it."""
    file = _file(context)
    try:
        return str(file.relative_to(Path.cwd()))
    except ValueError:
        return str(file)


def _file(context: dg.ComponentLoadContext) -> Path:
    path = Path(context.path)
    return path / "defs.yaml" if path.is_dir() else path
