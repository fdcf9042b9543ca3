"""Dagster's instance and code location for the command line, the same that the UI uses."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import dagster as dg

from cos_assets.orchestration import pools
from cos_assets.storage import paths, tables
from cos_assets.storage.paths import Place

CODE_LOCATION = "dagster_project.definitions"
CONFIG = Path(__file__).with_name("dagster.yaml")
_FORMER_LAUNCHER = "module: cos_assets.launcher"


def prepare(root: str | Place | None = None) -> Place:
    """Set COS_HOME and, unless the user has set it, DAGSTER_HOME in this process and its children; return the root.

    The instance is stored in <root>/dagster, or in the local copy of a root on an object store. An existing
    dagster.yaml is kept, apart from names of this package that have changed. Raises PlaceError for an object store that
    cannot be written.
    """
    root = paths.place(root) if root else tables.home()
    paths.check(root)
    os.environ["COS_HOME"] = str(root)
    if not os.environ.get("DAGSTER_HOME"):
        home = paths.local(root) / "dagster"
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "dagster.yaml").exists():
            shutil.copy(CONFIG, home / "dagster.yaml")
        os.environ["DAGSTER_HOME"] = str(home)
    _update(Path(os.environ["DAGSTER_HOME"]) / "dagster.yaml")
    return root


def _update(config: Path) -> None:
    """Update the module of the run launcher in a dagster.yaml that an earlier version wrote."""
    if config.is_file() and _FORMER_LAUNCHER in (text := config.read_text(encoding="utf-8")):
        new = text.replace(_FORMER_LAUNCHER, "module: cos_assets.orchestration.run_launcher")
        paths.replace(config, lambda file: file.write_text(new, encoding="utf-8"))


def definitions(module: str = CODE_LOCATION) -> dg.Definitions:
    """Load the code location. Raises StudyError for a defs.yaml with mistakes."""
    loaded = importlib.import_module(module).defs
    return loaded() if callable(loaded) else loaded


def new_log(study: str) -> Path:
    """Return a new file, in DAGSTER_HOME, for the output of the processes of one `cos run`."""
    folder = Path(os.environ["DAGSTER_HOME"]) / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{study}-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as instance:
        pools.set_limit(instance)
        yield instance
