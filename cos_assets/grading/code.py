"""Is a program right? It is, when its tests run to their end in the sandbox (see `sandbox`).

The gold is JSON:

    {"prompt": "def add(a, b):\\n", "test": "assert add(1, 2) == 3", "entry_point": "add"}

`prompt` is code that a bare continuation continues, or ""; `test` a program that raises or leaves when the solution is
wrong; `entry_point` the name that a whole program defines and a continuation does not, or null. Names that answer and
prompt define are the tests' to use. Only the standard library is there.
"""

from __future__ import annotations

import ast
import json
import platform
import re
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

from cos_assets import progress
from cos_assets.grading.sandbox import Part, require, run

if TYPE_CHECKING:
    from cos_assets.grading.answers import Grade

# A longer text is not read as Python here, only in the sandbox, where it cannot use up memory or the stack.
MAX_CHARACTERS = 100_000
_PARSER = threading.Lock()

_BLOCK = re.compile(r"^([ \t]*)```[ \t]*([A-Za-z0-9+]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_BODIES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def grade_programs(pairs: Sequence[tuple[str | None, str]], workers: int) -> list[Grade]:
    """The grade of each (gold, answer), in order: one sandbox each, `workers` of them at a time.

    "correct" when the tests ran to their end. Else "wrong", and `reason` says what happened, in one line: the error
    and its line in the solution or the tests, or which limit was reached. "grader_error" where the gold is to blame, or
    the sandbox failed. Raises RuntimeError where there is no sandbox, with what to install.
    """
    if not pairs:
        return []
    require()
    with ThreadPoolExecutor(workers) as threads:
        grades = threads.map(_grade, *zip(*pairs, strict=True))
        return list(progress.counted("running programs", grades, len(pairs)))


def code_of(completion: str) -> str | None:
    """The program in a completion: its first block of Python in a Markdown fence, or else its first block; without
    one, what stands before [DONE] (and after [BEGIN], if the model repeats that). None where that is blank."""
    blocks = [(kind.lower(), _unindented(text, indent)) for indent, kind, text in _BLOCK.findall(completion)]
    tagged = [text for kind, text in blocks if kind.startswith("py")]
    code = [*tagged, *(text for _, text in blocks)][0] if blocks else completion.split("[DONE]", 1)[0]
    code = code.removeprefix("[BEGIN]\n")
    return code.replace("\r\n", "\n").rstrip() + "\n" if code.strip() else None


def _unindented(text: str, indent: str) -> str:
    return "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))


def canonical(code: str) -> str:
    """The program without comments, docstrings and formatting: equal for two programs that differ in nothing else.

    A bare function body is read too. What is not Python stands for itself, without the white space around it.
    """
    tree = _parse(code) or _parse(f"def body():\n{code}")
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
    from cos_assets.grading.answers import Grade

    say = partial(Grade, grader=f"tests, Python {platform.python_version()}")
    try:
        wanted = _gold(gold or "")
        if not answer.strip():
            return say("wrong", "no answer")
        result = run(_parts(wanted, answer))
    except (ValueError, RuntimeError) as error:
        return say("grader_error", str(error))
    if result.outcome == "ok":
        return say("correct", None)
    return say("grader_error" if result.part == "prompt" else "wrong", result.reason)


def _parts(gold: _Gold, answer: str) -> list[Part]:
    """The program to run: a whole one keeps the prompt in front, for its imports and helpers, as a part of its own."""
    if gold.entry_point is None or gold.entry_point not in _defined(answer):
        return [("solution", gold.prompt + answer), ("tests", gold.test)]
    if _parse(gold.prompt) is not None:
        return [("prompt", gold.prompt), ("solution", answer), ("tests", gold.test)]
    imports = [line for line in gold.prompt.splitlines() if line.startswith(("import ", "from "))]
    return [("prompt", "\n".join(imports)), ("solution", answer), ("tests", gold.test)]


def _defined(code: str) -> set[str]:
    """The functions and classes that a program defines."""
    tree = _parse(code)
    return {node.name for node in tree.body if isinstance(node, _BODIES[1:])} if tree else set()


@lru_cache(maxsize=4096)
def _gold(text: str) -> _Gold:
    """Raises ValueError where the gold is not as it has to be."""
    try:
        gold = _Gold(**json.loads(text))
        if not (isinstance(gold.prompt, str) and isinstance(gold.test, str) and gold.test.strip()):
            raise TypeError("prompt and test have to be text")
    except (ValueError, TypeError) as error:
        shape = '{"prompt": "...", "test": "...", "entry_point": "..." or null}'
        raise ValueError(f"the gold {text[:60]!r} is not tests ({error}); expected {shape}") from None
    if _parse(gold.test) is None:
        raise ValueError("the tests of the gold are not Python")
    return gold


def _parse(code: str) -> ast.Module | None:
    """The syntax tree, or None for what is not Python, or not read here."""
    if len(code) > MAX_CHARACTERS:
        return None
    try:
        # Python's parser counts its depth for all threads together, and mistakes one for another ("AST constructor
        # recursion depth mismatch").
        with _PARSER, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of "\d" in a string
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
