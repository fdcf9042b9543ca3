"""Dagster's instance and code location, as the command line finds them: the same ones the UI shows."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from cos_assets import places, pools, store
from cos_assets.places import Place

CODE_LOCATION = "dagster_project.definitions"
CONFIG = Path(__file__).with_name("dagster.yaml")


def prepare(root: str | Place | None = None) -> Place:
    """Set COS_HOME and, unless the user has set it, DAGSTER_HOME in this process and its children; return the root.

    The instance lies in <root>/dagster, or in the local copy of a root on an object store. A dagster.yaml that is there
    already is left as it is. Raises PlaceError for an object store that cannot be written.
    """
    root = places.place(root) if root else store.home()
    places.check(root)
    os.environ["COS_HOME"] = str(root)
    if not os.environ.get("DAGSTER_HOME"):
        home = places.local(root) / "dagster"
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "dagster.yaml").exists():
            shutil.copy(CONFIG, home / "dagster.yaml")
        os.environ["DAGSTER_HOME"] = str(home)
    return root


def definitions(module: str = CODE_LOCATION) -> dg.Definitions:
    """Load the code location. Raises StudyError where a defs.yaml has mistakes."""
    loaded = importlib.import_module(module).defs
    return loaded() if callable(loaded) else loaded


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as instance:
        pools.set_limit(instance)
        yield instance
