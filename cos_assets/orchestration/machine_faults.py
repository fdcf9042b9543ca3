"""One-line messages for errors that the machine or its files cause: disks, databases, dagster.yaml, object stores."""

from __future__ import annotations

import os
from sqlite3 import DatabaseError

from yaml import YAMLError

from cos_assets.storage.paths import PlaceError


def message_of(error: BaseException | None) -> str | None:
    """Return a one-line message if an error was caused by the machine or its files, else None."""
    home = os.environ.get("DAGSTER_HOME", "")
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, PlaceError):
            return str(error)
        if isinstance(error, DatabaseError):
            damaged = "malformed" in str(error) or "not a database" in str(error)
            advice = "; move this folder away. It contains only runs and events, no tables and no samples"
            return f"{home}: {error}{advice if damaged else ''}"
        if isinstance(error, YAMLError) or type(error).__name__ == "DagsterInvalidConfigError":
            return f"{home}/dagster.yaml: {' '.join(str(error).split())[:300]}"
        if isinstance(error, OSError) and error.strerror:
            file = error.filename2 or error.filename or os.environ.get("COS_HOME", "")
            return f"{file}: {error.strerror}; no purchase or result is lost. Run the same command again to continue"
        error = error.__cause__ or error.__context__
    return None
