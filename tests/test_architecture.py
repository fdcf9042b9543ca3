"""The architecture: imports point down, and heavy packages are imported only where they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cos_assets"
# From top to bottom; packages on one line do not import one another. See docs/architecture.md.
LAYERS = [
    "cli",
    "component",
    "assets",
    "orchestration",
    "report",
    "study",
    "training",
    "judging",
    "generation",
    "tasks",
    "tiny",
    "grading",
    "budget",
    "metrics",
    "storage",
    "progress fields readers escape",
]
LOOSE = {"cli", "component", "progress", "fields", "readers", "escape"}
DAGSTER_ENDS = "orchestration"  # layers below do not import Dagster
GRADERS = ("math_verify", "nltk", "lm_eval")
HEAVY = (
    "torch",
    "transformers",
    "vllm",
    "openai",
    "ray",
    "trl",
    "peft",
    "datasets",
    "matplotlib",
    "scipy.stats",
    *GRADERS,
)
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names.split())


def imports(path: Path) -> set[str]:
    """Every module that a file imports anywhere, `from a import b` as a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_six_modules_are_outside_of_the_packages() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", *LOOSE}


def test_no_modules_import_one_another_in_a_cycle() -> None:
    """This includes imports for types only and indirect cycles."""
    files = {module(path): path for path in MODULES}
    graph = {name: imported_modules(path, set(files)) for name, path in files.items()}
    while ends := [name for name, below in graph.items() if not below]:
        graph = {name: below - {*ends} for name, below in graph.items() if name not in ends}
    assert graph == {}


def module(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(path: Path, names: set[str]) -> set[str]:
    """The modules of the package that a file imports; of `from package import module` the module only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in names else node.module)
    return found & names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_order_of_the_layers(path: Path) -> None:
    own = layer(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))
    parts = {name.split(".")[1] for name in imports(path) if name.startswith("cos_assets.")}
    for part in parts & {name for names in LAYERS for name in names.split()}:
        assert layer(part) >= own, f"{path.name} imports {part}, which is above it"
    if own > LAYERS.index(DAGSTER_ENDS):
        assert not [name for name in imports(path) if name.split(".")[0] == "dagster"]


def test_private_modules_of_dagster_are_imported_in_one_place() -> None:
    users = {path.name for path in MODULES if any(name.startswith("dagster._") for name in imports(path))}
    assert users == {"dagster_private.py"}


def test_each_test_module_has_a_unique_name() -> None:
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))  # pytest imports them by name


def test_loading_the_code_location_imports_no_heavy_package() -> None:
    load = "from dagster_project.definitions import defs; defs().resolve_asset_graph()"
    code = f"{load}; import sys; print(*[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
