"""A user's project in a separate folder, and `cos` run in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, *studies: dict[str, Any]) -> None:
    """Write the project with one `defs.yaml` for the attributes of each study."""
    for attributes in studies:
        place = folder / "dagster_project" / "defs" / attributes["name"]
        place.mkdir(parents=True, exist_ok=True)
        contents = {"type": "cos_assets.Study", "attributes": attributes}
        (place / "defs.yaml").write_text(yaml.safe_dump(contents), encoding="utf-8")
    for file in ("pyproject.toml", "dagster_project/__init__.py", "dagster_project/definitions.py"):
        (folder / file).write_text((ROOT / file).read_text(encoding="utf-8"), encoding="utf-8")


def cos(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `cos` in the project; its tables are in `folder / "home"`."""
    surroundings = os.environ | {"COS_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    surroundings.pop("DAGSTER_HOME", None)
    command = [sys.executable, "-m", "cos_assets.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True)
