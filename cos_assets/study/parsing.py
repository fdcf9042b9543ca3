"""Parsing of the attributes of a study's YAML into its spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cos_assets.study.environment import Written
from cos_assets.study.errors import StudyError, check
from cos_assets.study.rules import disagreements
from cos_assets.study.spec import StudySpec


def parse(attributes: Any, where: str = "study", written: Written | None = None) -> StudySpec:
    """Return the study that the attributes of a YAML describe.

    `where` names the file in error messages. `written` maps expanded texts to the texts with environment variables
    (see `environment.expand`). Raises StudyError with one line per mistake.
    """
    if not isinstance(attributes, Mapping):
        raise StudyError(
            f"{where}: attributes: expected a mapping with name, task, models and budgets, found {attributes!r}"
        )
    spec = check(StudySpec, attributes, where)
    if lines := list(disagreements(spec)):
        raise StudyError("\n".join(f"{where}: {line}" for line in lines))
    if written:
        spec._written = written
    return spec
