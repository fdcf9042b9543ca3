"""Grading of programs: a program is right if its tests run to their end in the sandbox (see `sandbox`).

The gold is JSON:

    {"prompt": "def add(a, b):\\n", "test": "assert add(1, 2) == 3", "entry_point": "add"}

`prompt` is code that a bare continuation continues, or "". `test` is a program that raises or exits if the solution
is wrong. `entry_point` is the name that a whole program defines and a continuation does not, or null. Tests can use
the names that the answer and the prompt define. Only the standard library is available.
"""

from __future__ import annotations

import ast
import builtins
import json
import platform
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import NamedTuple

from cos_assets import progress
from cos_assets.grading.grade import Grade
from cos_assets.grading.programs import defined_names, free_names, parse, stated_program
from cos_assets.grading.sandbox import Part, Result, require, run

_BODIES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def grade_programs(pairs: Sequence[tuple[str | None, str]], workers: int) -> list[Grade]:
    """Grade programs by their tests. Each runs in its own sandbox.

    Parameters
    ----------
    pairs : sequence of tuple
        (gold, answer): the gold as the module's docstring describes it, and the program.
    workers : int
        The number of programs that run at a time, at most one per usable core.

    Returns
    -------
    list of Grade
        One grade per pair, in order. The verdict is "correct" if the tests ran to their end. Otherwise it is "wrong",
        and `reason` gives the cause in one line: the error and its line in the solution or the tests, or the limit that
        was reached. It is "grader_error" if the gold is at fault, the machine interrupted the program twice, or the
        sandbox failed.

    Raises
    ------
    RuntimeError
        If there is no sandbox. The message says what to install.
    """
    if not pairs:
        return []
    require()
    with ThreadPoolExecutor(workers) as threads:
        grades = threads.map(_grade, *zip(*pairs, strict=True))
        return list(progress.counted("running programs", grades, len(pairs)))


def untested(golds: Sequence[tuple[str, str | None]], workers: int) -> Iterator[str | None]:
    """Yield the defect of the tests of each problem, in order; None if they have none.

    An empty program has to fail, and so has a program whose functions return an arbitrary value. The reference solution
    has to pass.

    Parameters
    ----------
    golds : sequence of tuple
        (gold, reference solution or None).
    workers : int
        The number of programs that run at a time, at most one per usable core.

    Raises
    ------
    RuntimeError
        If there is no sandbox. The message says what to install.
    """
    require()
    with ThreadPoolExecutor(workers) as threads:
        yield from progress.counted("trying tests", threads.map(_untested, *zip(*golds, strict=True)), len(golds))


def _untested(text: str, reference: str | None) -> str | None:
    gold = _gold(text)

    def result(program: str) -> Result:
        return run(_parts(gold, program), entry_point=gold.entry_point)

    def stub(value: str) -> str:
        names = sorted({gold.entry_point} if gold.entry_point else _called(gold.test))
        return "".join(f"def {name}(*args, **named): return {value}\n" for name in names)

    empty = result("")
    if empty.outcome == "form":
        return empty.reason
    if empty.outcome == "ok":
        return "an empty program passes these tests"
    if result(stub("None")).outcome == "ok" and result(stub("object()")).outcome == "ok":
        return "functions that return anything pass these tests"
    if reference is not None and (found := result(reference)).outcome != "ok":
        return f"the reference solution fails these tests: {found.reason}"
    return None


def code_of(reply: str, gold: str | None = None) -> str | None:
    r"""Return the program that a reply states for the tests of a problem (see `programs`).

    Parameters
    ----------
    reply : str
        A reply without its reasoning.
    gold : str, optional
        The gold of the problem. Without it, or if it is not tests, the program is the last one that defines a function.

    Returns
    -------
    str or None
        The program or, where the reply continues the problem's prompt, its continuation. None if it contains no code.

    Examples
    --------
    >>> code_of("Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nDone.")
    'def add(a, b):\n    return a + b\n'
    """
    try:
        prompt, _, entry_point = wanted = _gold(gold or "")
    except ValueError:
        return stated_program(reply)
    return stated_program(reply, [entry_point] if entry_point else _called(wanted.test), prompt)


@lru_cache(maxsize=4096)
def _called(test: str) -> frozenset[str]:
    """Return the names that tests use and do not define, which the program therefore has to define.

    In the sandbox, the program is the module `solution`.
    """
    tree = parse(test)
    if tree is None:
        return frozenset()
    used = free_names(tree)
    imported = {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "solution"
        for name in node.names
    }
    return frozenset((used - set(dir(builtins))) | imported or used)


def canonical(code: str) -> str:
    r"""Return the program without comments, docstrings and formatting.

    The results are equal for two programs that differ in nothing else. A bare function body is accepted too. Text that
    is not Python is returned without the white space around it.

    Examples
    --------
    >>> canonical("def add(a,b):  # sum\n    return (a+b)")
    'def add(a, b):\n    return a + b'
    """
    tree = parse(code) or parse(f"def body():\n{code}")
    if tree is None:
        return code.strip()
    for node in ast.walk(tree):
        if isinstance(node, _BODIES) and node.body and isinstance(node.body[0], ast.Expr):
            first = node.body[0].value
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                node.body[:1] = [] if len(node.body) > 1 else [ast.Pass()]
    try:
        return ast.unparse(tree)
    except RecursionError:
        return code.strip()


class _Gold(NamedTuple):
    prompt: str
    test: str
    entry_point: str | None


def _grade(gold: str | None, answer: str) -> Grade:
    say = partial(Grade, grader=f"tests, Python {platform.python_version()}")
    try:
        wanted = _gold(gold or "")
        if not answer.strip():
            return say("wrong", "no answer")
        result = run(_parts(wanted, answer), entry_point=wanted.entry_point)
    except (ValueError, RuntimeError) as error:
        return say("grader_error", str(error))
    if result.outcome == "ok":
        return say("correct", None)
    blameless = result.part == "prompt" or result.outcome in ("form", "interrupted")
    return say("grader_error" if blameless else "wrong", result.reason)


def _parts(gold: _Gold, answer: str) -> list[Part]:
    """Return the parts to run. Before a whole program, the prompt is a part of its own, for its imports and helpers."""
    if gold.entry_point is None or gold.entry_point not in defined_names(answer):
        return [("solution", gold.prompt + answer), ("tests", gold.test)]
    if parse(gold.prompt) is not None:
        return [("prompt", gold.prompt), ("solution", answer), ("tests", gold.test)]
    imports = [line for line in gold.prompt.splitlines() if line.startswith(("import ", "from "))]
    return [("prompt", "\n".join(imports)), ("solution", answer), ("tests", gold.test)]


@lru_cache(maxsize=4096)
def _gold(text: str) -> _Gold:
    """Parse a gold. Raises ValueError if it does not have the required form."""
    try:
        gold = _Gold(**json.loads(text))
        if not (isinstance(gold.prompt, str) and isinstance(gold.test, str) and gold.test.strip()):
            raise TypeError("prompt and test have to be text")
    except (ValueError, TypeError) as error:
        shape = '{"prompt": "...", "test": "...", "entry_point": "..." or null}'
        raise ValueError(f"the gold {text[:60]!r} is not tests ({error}); expected {shape}") from None
    if parse(gold.test) is None:
        raise ValueError("the tests of the gold are not Python")
    return gold
