"""The docs contain every key of a study, and their links have targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from cos_assets.storage import schemas
from cos_assets.study.models import CheckpointRef, Judge, JudgeSpec, ModelSpec, Price, TargetSpec
from cos_assets.study.published import Published
from cos_assets.study.spec import CapSpec, PilotSpec, SamplingSpec, ScheduleSpec, StudySpec
from cos_assets.training.scoring import EvaluationSpec
from cos_assets.training.settings import Finetune, Lora
from cos_assets.training.sft_sets import SourceSpec

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCKS: list[type[BaseModel]] = [
    *(StudySpec, ModelSpec, CheckpointRef, Price, TargetSpec, Judge, JudgeSpec, PilotSpec, CapSpec, SamplingSpec),
    *(SourceSpec, Finetune, Lora, EvaluationSpec, Published, ScheduleSpec),
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_every_key_is_explained(block: type[BaseModel]) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / "docs" / "study.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    code = " ".join(re.findall(r"`([^`]+)`", text))
    missing = [key for key in block.model_fields if not re.search(rf"\b{key}\b", code)]
    assert not missing


def test_every_column_is_explained() -> None:
    assert (ROOT / "docs" / "columns.md").read_text(encoding="utf-8") == schemas.page()


def heading(line: str) -> str:
    """The anchor of a heading on GitHub."""
    return re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_has_a_target(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            lines = file.read_text(encoding="utf-8").splitlines()
            assert anchor in {heading(line) for line in lines if line.startswith("#")}, f"{page.name}: {target}"
