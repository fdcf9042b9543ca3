"""One page over all studies: what each found, with its picture, and the way to its own page."""

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
"""Beside a study's page: what the overview says of it."""


def answer(spec: StudySpec, verdicts: list[dict[str, str]]) -> str:
    """What stands in a study's `ANSWER`; `verdicts` are {budget, better, sentence}."""
    facts = {
        "study": spec.name,
        "description": spec.as_written(spec.description),
        "task": spec.task.name,
        "match": spec.match,
    }
    return json.dumps(facts | {"verdicts": verdicts}, indent=1, ensure_ascii=False) + "\n"


def build(root: Place) -> Place:
    """Write <root>/overview.html anew, of all studies that have a report there."""
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
