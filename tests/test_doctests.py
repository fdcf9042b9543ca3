"""The examples in docstrings give their output, and every function of the documented packages has one."""

from __future__ import annotations

import ast
import doctest
import importlib
from collections.abc import Iterator

import pytest
from support import ROOT

from cos_assets import tasks

# Packages, with all of their modules, or single modules. Each of their public functions needs an example.
DOCUMENTED = (
    *("cos_assets.metrics", "cos_assets.budget", "cos_assets.tasks._task", "cos_assets.tasks._public"),
    *(f"cos_assets.generation.{name}" for name in ("adapters", "completions", "ledger", "parts")),
    *(f"cos_assets.generation.engines.transformers.{name}" for name in ("caches", "decoding", "drawing")),
    *(f"cos_assets.generation.{name}" for name in ("replies", "spend", "tokens", "types")),
)


def sources(name: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the source of a module, or of each module in a package. Nothing is imported."""
    path = ROOT.joinpath(*name.split("."))
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield module, file.read_text(encoding="utf-8")


def shows_examples(source: str) -> bool:
    nodes = ast.walk(ast.parse(source)) if ">>>" in source else ()
    documented = (node for node in nodes if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef))
    return any(">>>" in (ast.get_docstring(node) or "") for node in documented)


# Modules without an example are not imported: some are scripts that run in the sandbox.
WITH_EXAMPLES = [name for name, source in sources("cos_assets") if shows_examples(source)]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_give_the_output_they_show(name: str) -> None:
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    # Examples of the task interface make a task, which its own modules cannot import.
    result = doctest.testmod(importlib.import_module(name), optionflags=flags, extraglobs={"make": tasks.make})
    assert result.attempted and not result.failed


@pytest.mark.parametrize("name", DOCUMENTED)
def test_public_functions_have_an_example_and_public_classes_a_docstring(name: str) -> None:
    lacking = []
    for module, source in sources(name):
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                text = ast.get_docstring(node) or ""
                examples = text.partition("\nExamples\n--------\n")[2]
                if not (text if isinstance(node, ast.ClassDef) else ">>>" in examples):
                    lacking.append(f"{module}.{node.name}")
    assert not lacking, f"an example (functions) or a docstring (classes) is missing: {', '.join(lacking)}"
