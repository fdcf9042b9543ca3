"""Analysis of the tests of a program: how their author ran them, and whether they can run apart from the solution."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from cos_assets.grading.programs import free_names, parse

# Names that give access to the interpreter of the solution. Tests that use one of them run in its process.
_REACHING = {
    *("patch", "mock", "Mock", "MagicMock", "monkeypatch", "capsys", "redirect_stdout", "redirect_stderr"),
    *("stdout", "stderr", "stdin", "input", "sys", "inspect", "getsource", "signature", "settrace", "gc", "weakref"),
    *("globals", "locals", "vars", "exec", "eval", "importlib", "dataclasses", "asdict", "astuple", "pickle"),
}
_CASES = frozenset({"TestCase", "IsolatedAsyncioTestCase"})
_RUNNERS = frozenset({"main", "TextTestRunner"})
Plan = dict[str, Any]
NO_TESTS: Plan = {"apart": False, "after": [], "classes": []}


@lru_cache(maxsize=4096)
def plan(tests: str, entry_point: str | None = None) -> Plan:
    """Return how to run tests: `apart`, `after` and `classes`.

    `apart` is true if the tests can run in a process of their own. `after` lists what remains to be done once the
    tests were executed, as (form, name, argument): test cases of unittest, classes and functions as pytest finds
    them, and a function `check` as in HumanEval. What the tests run themselves is not listed. The form "none" marks
    what cannot be run, with the reason as its argument. `classes` are the names of the solution's classes in the
    tests: names that begin with a capital.
    """
    tree = parse(tests)
    if tree is None:
        return NO_TESTS
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    classes = sorted(name for name in _of_solution(tree) if name[:1].isupper())
    return {"apart": _apart(tree), "after": list(_after(tree, used, entry_point)), "classes": classes}


def _apart(tree: ast.Module) -> bool:
    nodes = list(ast.walk(tree))
    solutions = _of_solution(tree)
    names = {getattr(node, "id", getattr(node, "attr", "")) for node in nodes}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {part for alias in node.names for part in alias.name.split(".")}
    # The methods of a class that derives from a class of the solution run in the solution's process.
    bases = {getattr(base, "id", "") for node in nodes if isinstance(node, ast.ClassDef) for base in node.bases}
    reaching = any(isinstance(node, ast.AsyncFor | ast.AsyncWith | ast.Global) for node in nodes)
    return not (reaching or names & _REACHING or bases & solutions)


def _of_solution(tree: ast.Module) -> set[str]:
    """Return the names of the solution in the tests: used there, but neither defined nor imported from elsewhere."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "solution"]
    imported = {alias.asname or alias.name for node in imports for alias in node.names}
    return (free_names(tree) - set(dir(builtins))) | imported


def _after(tree: ast.Module, used: set[str], entry_point: str | None) -> Iterator[tuple[str, str, str]]:
    if any(isinstance(node, ast.Attribute) and node.attr in _RUNNERS for node in ast.walk(tree)):
        return  # the tests start a runner themselves
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            names = {getattr(base, "attr", getattr(base, "id", "")) for base in node.bases}
            methods = [each.name for each in node.body if isinstance(each, _FUNCTIONS) and each.name.startswith("test")]
            if names & _CASES:
                yield "unittest", node.name, ""
            elif node.name.startswith("Test") and methods and node.name not in used:
                yield "class", node.name, " ".join(methods)
        elif isinstance(node, _FUNCTIONS) and node.name not in used:
            needed = len(node.args.posonlyargs + node.args.args) - len(node.args.defaults)
            if node.name == "check" and needed == 1:
                if entry_point:
                    yield "call", node.name, entry_point
                else:
                    yield "none", node.name, "the function check(candidate) is never called"
            elif node.name.startswith("test") and needed == 0:
                yield "call", node.name, ""
            elif node.name.startswith("test_"):
                yield "none", node.name, f"{node.name} takes arguments, and no pytest is there to give them"


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
