"""The overview page of all studies: the verdicts of each with its figure, and a link to its own page."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from cos_assets.report.page import environment
from cos_assets.storage.paths import Place, folders, replace
from cos_assets.study import StudySpec

NAME = "overview.html"
ANSWER = "answer.json"
"""The file beside a study's page that holds what the overview shows of it."""


def answer(spec: StudySpec, verdicts: list[dict[str, str]]) -> str:
    """Return the content of a study's `ANSWER`. `verdicts` are {budget, better, sentence}."""
    facts = {
        "study": spec.name,
        "description": spec.as_written(spec.description),
        "task": spec.task.name,
        "match": spec.match,
    }
    return json.dumps(facts | {"verdicts": verdicts}, indent=1, ensure_ascii=False) + "\n"


def build(root: Place) -> Place:
    """Write <root>/overview.html for all studies that have a report there, and return its path."""
    found = [_read(root / f"{study}/report") for study in folders(root)]
    html = environment().get_template("overview.html.j2").render(studies=[one for one in found if one])
    replace(root / NAME, partial(_write, html))
    return root / NAME


def _read(place: Place) -> dict[str, Any] | None:
    from markupsafe import Markup

    try:
        found: dict[str, Any] = json.loads((place / ANSWER).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        picture = (place / "answer.svg").read_text(encoding="utf-8")
    except FileNotFoundError:
        picture = ""
    return found | {"picture": Markup(picture)}  # drawn here, escaped by matplotlib


def _write(text: str, file: Path) -> None:
    file.write_text(text, encoding="utf-8")
