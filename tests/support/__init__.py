"""What several tests need: servers, daemons, a browser, a project of a user's own, small trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""


class Silent:
    """Watches a run and says nothing."""

    def started(self, batch: Any, assets: Any) -> None: ...
    def progress(self, batch: Any, now: Any) -> None: ...
    def finished(self, batch: Any, outcome: Any) -> None: ...
    def skipped(self, batch: Any, why: str) -> None: ...
