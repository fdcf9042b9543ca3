"""Helpers for several tests: servers, daemons, a browser, a user's project, small trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""


class Silent:
    """A silent observer of a run."""

    def started(self, batch: Any, assets: Any) -> None: ...
    def progress(self, batch: Any, now: Any) -> None: ...
    def finished(self, batch: Any, outcome: Any) -> None: ...
    def skipped(self, batch: Any, why: str) -> None: ...
