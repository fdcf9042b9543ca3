"""The docs contain every key of a study; their links have targets, and the commands that they show exist."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from cos_assets.cli import main
from cos_assets.storage import catalog, schemas
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


def commands(page: Path, program: str) -> list[list[str]]:
    """The commands of a program that a page shows, in code blocks and within sentences, split as a shell does."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"^ {4}(\S.*)", text, flags=re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
    found = [line.removeprefix("$ ").removeprefix(".venv/bin/") for line in (*lines, *spans)]
    split = [shlex.split(line, comments=True) for line in found if line.startswith(f"{program} ")]
    return [words for words in split if not any(word.startswith("[") for word in words)]  # a synopsis


def parse(command: click.Command, arguments: list[str], parent: click.Context | None = None) -> None:
    """Parse the arguments as `cos` does, without running anything. A sentence may name a command or
    an option without its argument."""
    context = click.Context(command, parent=parent, info_name=command.name)
    with suppress(click.MissingParameter, click.BadOptionUsage):
        rest = command.parse_args(context, list(arguments))
        if isinstance(command, click.Group):
            _, inner, rest = command.resolve_command(context, [*context._protected_args, *rest])
            assert inner is not None
            parse(inner, rest, context)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_documented_command_exists_with_its_options(page: Path, tmp_path: Path) -> None:
    for _, *arguments in commands(page, "cos"):
        parse(main, arguments)
        is_query = arguments[0] == "sql" and len(arguments) > 1 and not arguments[1].startswith(("-", "my_", "NAME"))
        if is_query and (query := catalog.meant(arguments[1])):
            catalog.query(tmp_path, query)  # on views without rows
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for _, *targets in commands(page, "make"):
        for target in targets:
            assert "=" in target or re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target
    for _, script, *_ in commands(page, "python"):
        assert script.startswith("-") or (ROOT / script).exists(), script
