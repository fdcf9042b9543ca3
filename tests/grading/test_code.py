"""Programs graded by their tests: verdicts, reasons, and resistance to cheating."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import polars as pl
import pytest

from cos_assets.grading import sandbox
from cos_assets.grading.answers import grade
from cos_assets.grading.code import canonical, code_of, grade_programs
from cos_assets.grading.grade import Grade
from cos_assets.grading.programs import MAX_CHARACTERS


def gold(test: str = "assert add(1, 2) == 3", prompt: str = "", entry_point: str | None = None) -> str:
    return json.dumps({"prompt": prompt, "test": test, "entry_point": entry_point})


ADD = "def add(a, b): return a + b"
HEAD = "import math\n\ndef add(a, b):\n    '''Their sum.'''\n"
FLOORS = gold("assert add(1, 2.5) == 3", HEAD, "add")
UNREAD = gold(prompt="import math; from math import *\nadd = \\\n", entry_point="add")
BARE = gold(prompt="import sys\ndef add(a, b):\n", entry_point="add")
HELPED = gold("assert two() == add(1, 1)", "def two():\n    return 2\n\ndef add(a, b):\n    'Their sum.'", "add")

# --- grades ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(
    ("wanted", "answer", "verdict", "reason"),
    [
        (gold(), ADD, "correct", None),
        (gold(), "def add(a, b):\r\n\treturn a + b\r\n", "correct", None),
        (gold(), "from __future__ import annotations\nimport math\nadd = lambda a, b: a + b", "correct", None),
        (gold(), "def add(a, b): return a - b", "wrong", "AssertionError (line 1 of the tests: assert add(1, 2) == 3)"),
        (gold(), "def sub(a, b): return a - b", "wrong", "NameError: name 'add' is not defined"),
        (gold(), "Sure! Here is the code:", "wrong", "SyntaxError"),
        (gold(), "", "wrong", "no answer"),
        (gold(), " \n", "wrong", "no answer"),
        (gold(), "\0", "wrong", "SyntaxError: source code string cannot contain null bytes"),
        (gold(), "x" * 10_000_000, "wrong", "NameError"),
        (gold(), "def add(a, b): return a + b\nimport sys; sys.exit(0)", "wrong", "SystemExit: 0"),
        (gold(), "print('all tests passed')\nimport os; os._exit(0)", "wrong", "ended before its last line"),
        (gold(), "import atexit, os; atexit.register(os._exit, 0)", "wrong", "NameError: name 'add' is not defined"),
        (gold(), "def add(a, b): return bytearray(10 * 2**30)", "wrong", "memory limit: MemoryError (line 1"),
        (gold(), "import os\ndef add(a, b):\n  while 1: os.fork()", "wrong", "process limit: "),
        (gold(), "def add(a, b):\n  while 1: print(9)", "wrong", "output limit: "),
        # Continuations of the prompt, and complete programs that use the imports of the prompt.
        (FLOORS, "    return math.floor(a + b)\n", "correct", None),
        (FLOORS, "    return floor(a + b)\n\ndef floor(x):\n    return math.floor(x)\n", "correct", None),
        (FLOORS, "  return 0\n", "wrong", "IndentationError: "),
        (FLOORS, "def add(x, y):\n  return math.floor(x + y)", "correct", None),
        (FLOORS, "from __future__ import annotations\ndef add(a: no, b): return math.floor(a + b)", "correct", None),
        (UNREAD, "lambda a, b: int(floor(a + b))", "correct", None),
        (UNREAD, "def add(a, b): return int(floor(a + b))", "correct", None),
        (BARE, "    return a + b + len(sys.argv[3:])", "correct", None),
        (BARE, f"{ADD} + len(sys.argv[3:])", "correct", None),
        (HELPED, ADD, "correct", None),
        # Errors of the gold.
        ("", "x = 1", "grader_error", "is not tests"),
        ("[1]", "x = 1", "grader_error", "is not tests"),
        ('{"test": "x"}', "x = 1", "grader_error", "is not tests"),
        (gold(test=" "), "x = 1", "grader_error", "prompt and test have to be text"),
        (gold(test="assert"), "x = 1", "grader_error", "the tests of the gold are not Python"),
        (gold(prompt="import numpy\n", entry_point="add"), ADD, "grader_error", "No module named 'numpy'"),
    ],
)  # fmt: skip
def test_programs_get_the_expected_verdict_and_reason(
    wanted: str, answer: str, verdict: str, reason: str | None
) -> None:
    (found,) = grade_programs([(wanted, answer)], 1)
    assert found.verdict == verdict
    assert found.grader is not None and found.grader.startswith("tests, Python 3.")
    if reason is None:
        assert found.reason is None
    else:
        assert reason in (found.reason or "") and "\n" not in (found.reason or "")


@pytest.mark.usefixtures("sandbox")
def test_a_program_cannot_find_the_token_among_its_variables() -> None:
    """It searches every frame and object, and reports every string that might be the token."""
    answer = """
import gc, os, sys
def add(a, b):
    seen, frame = [], sys._getframe()
    while frame:
        seen += [*frame.f_locals.values(), *frame.f_globals.values(), *frame.f_code.co_consts]
        frame = frame.f_back
    seen += gc.get_objects()
    tokens = {x for x in map(str, sys.argv + [x for x in seen if isinstance(x, (str, bytes))]) if len(x) in (64, 67)}
    for token in tokens:
        for fd in range(64):
            try: os.write(fd, token.encode())
            except OSError: pass
    os._exit(0)
"""
    (found,) = grade_programs([(gold(), answer)], 1)
    assert found.verdict == "wrong"


@pytest.mark.usefixtures("sandbox")
def test_verdicts_keep_the_order_with_any_number_of_workers() -> None:
    pairs = [(gold(f"assert x == {n % 3}"), f"x = {n % 2}") for n in range(24)]
    expected = ["correct" if n % 3 == n % 2 else "wrong" for n in range(24)]
    for workers in (1, 4):
        assert [g.verdict for g in grade_programs(pairs, workers)] == expected
    assert grade_programs([], 1) == []


@pytest.mark.usefixtures("sandbox")
def test_samples_with_programs_get_verdicts() -> None:
    rows = pl.DataFrame(
        {
            "gold": [gold()] * 4,
            "answer": [ADD, ADD, None, "add = 1"],
            "finish_reason": ["stop", "length", "stop", "stop"],
        }
    )
    out = grade(rows, "tests", workers=2)
    assert out["verdict"].to_list() == ["correct", "truncated", "no_answer", "wrong"]
    assert out["reason"][3] == "TypeError: 'int' object is not callable (line 1 of the tests: assert add(1, 2) == 3)"


def test_grading_without_a_sandbox_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("COS_SANDBOX_URL", raising=False)
    sandbox._try.cache_clear()
    with pytest.raises(RuntimeError, match="apt-get install bubblewrap"):
        grade_programs([(gold(), ADD)], 1)


@pytest.mark.usefixtures("sandbox")
def test_a_sandbox_failure_is_a_grader_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("bwrap cannot make a sandbox here (no space)")

    sandbox.require()
    monkeypatch.setattr(sandbox, "_local", fail)
    (found,) = grade_programs([(gold(), ADD)], 1)
    assert found == Grade("grader_error", "bwrap cannot make a sandbox here (no space)", found.grader)


@pytest.mark.parametrize(
    ("times", "verdict", "reason"),
    [(1, "correct", None), (2, "grader_error", "the program was killed (SIGKILL)")],
)
@pytest.mark.usefixtures("sandbox")
def test_an_interrupted_program_runs_once_more_and_alone(
    monkeypatch: pytest.MonkeyPatch, times: int, verdict: str, reason: str | None
) -> None:
    """The first runs of one program are interrupted; test_sandbox.py does this with real signals."""
    local, turns, left = sandbox._local, [], times

    def interrupted(parts: Sequence[sandbox.Part], limits: sandbox.Limits) -> sandbox.Result:
        nonlocal left
        result = local(parts, limits)
        if "slow" in str(parts) and left:
            left -= 1
            return replace(result, outcome="interrupted", reason="the program was killed (SIGKILL)")
        return result

    def core(*, alone: bool = False) -> AbstractContextManager[None]:
        turns.append(alone)
        return nullcontext()

    sandbox.require()
    monkeypatch.setattr(sandbox, "_local", interrupted)
    monkeypatch.setattr(sandbox, "core", core)
    grades = grade_programs([(gold(), ADD), (gold(), ADD + "  # slow"), (gold(), "add = 1")], 1)
    assert [grade.verdict for grade in grades] == ["correct", verdict, "wrong"]
    assert grades[1].reason == reason
    assert turns == [False, False, True, False]


# --- code in replies (the rule itself is tested in test_programs.py) -------------------------------------------------


def block(code: str) -> str:
    return f"```python\n{code}\n```\n"


@pytest.mark.parametrize(
    ("test", "program", "other"),
    [
        ("assert add(1, 2) == 3", ADD, "def sub(a, b): return a - b"),
        ("one = 1\nassert add(one, len([])) == 1", ADD, "one = 2\ndef sub(a, b): return a - b"),
        ("def check(candidate):\n    assert candidate(1, 2) == 3\ncheck(add)", ADD, "def check(f): return f(1, 2)"),
        ("from solution import add\nassert add(1, 2) == 3", ADD, "def test(): assert add(1, 2) == 3"),
        ("import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(add(1, 2), 3)", ADD,
         "class T: pass"),
        ("assert math.isclose(add(1, 2), 3)", f"import math\n{ADD}", "def close(a, b): return abs(a - b) < 1"),
        ("assert sum(1, 2) == 3", "def sum(a, b): return a + b", "def add(a, b): return sum(a, b)"),
        ("assert P(1).x == 1", "class P:\n  def __init__(self, x): self.x = x", "def show(p): return str(p)"),
        ("assert x == 3", "x = 3", "def x_of(y): return y"),
    ],
)  # fmt: skip
def test_the_program_with_the_names_in_the_tests_is_taken(test: str, program: str, other: str) -> None:
    assert code_of(block(program) + "And:\n" + block(other), gold(test)) == program + "\n"


def test_names_in_the_tests_may_be_defined_in_two_blocks() -> None:
    found = code_of(block("import math") + block(ADD), gold("assert math.isclose(add(1, 2), 3)"))
    assert found == f"import math\n{ADD}\n"


def test_the_entry_point_and_the_prompt_are_taken_from_the_gold() -> None:
    assert code_of("    return math.floor(a + b)\n\nThat is it.", FLOORS) == "    return math.floor(a + b)\n"
    assert code_of(f"{block(ADD)}{block('def floor(x): return int(x)')}", FLOORS) == ADD + "\n"
    assert code_of("lambda a, b: int(floor(a + b))", UNREAD) == "lambda a, b: int(floor(a + b))\n"


@pytest.mark.parametrize("wanted", [None, "", "[1]", gold(test="assert")])
def test_the_last_function_is_taken_without_readable_tests(wanted: str | None) -> None:
    assert code_of(block(ADD) + block("print(add(1, 2))"), wanted) == ADD + "\n"


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("wanted", [gold(), FLOORS.replace("2.5", "2"), HELPED, BARE])
@pytest.mark.parametrize(
    "reply",
    [
        f"{block(ADD)}Use it:\n{block('print(add(1, 2))')}Output:\n```\n3\n```\n",
        f"{block('def plus(x, y): return x + y')}Then:\n{block('def add(a, b): return plus(a, b)')}",
        f"{block('def add(a, b): return a - b')}Wrong sign.\n{block(ADD)}",
        f"Sure!\n\n{ADD}\n\nExplanation\n\nIt's a sum (see above.",
        f"{ADD}\n```\nThis adds.",
        f"~~~python\r\n{ADD}\r\n~~~\r\n",
        block("from operator import add"),
        block("add = lambda a, b: a + b"),
    ],
)  # fmt: skip
def test_programs_of_replies_pass(wanted: str, reply: str) -> None:
    (found,) = grade_programs([(wanted, code_of(reply, wanted) or "")], 1)
    assert found.verdict == "correct", found.reason


# --- canonical programs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("def f(x):\n    return x+1  # more", "def f( x ) :\n\n  return (x + 1)\n", True),
        ('def f(x):\n  """Doc."""\n  return 1', "def f(x):\n  return 1", True),
        ('"""Doc."""\nclass A:\n  "Doc."', "class A: pass", True),
        ("async def f():\n  'Doc.'\n  await g()", "async def f(): await g()", True),
        ("x = 'a'", 'x = "a"', True),
        ("    return 1\n", "\treturn (1)  # a body", True),
        ("def f(x): return x", "def f(y): return y", False),
        ("f = 1", "f = 1.0", False),
        ("is not python", " is not python\n", True),
        ("not a program", "not a  program", False),
        (r"x = '\d'", r"x = '\\d'", True),
    ],
)
def test_programs_are_equal_after_canonicalization(one: str, other: str, same: bool) -> None:
    assert (canonical(one) == canonical(other)) is same


@pytest.mark.parametrize(
    "text", ["(" * 50_000, "-" * 90_000 + "1", "a" + ".a" * 45_000, "not " * 24_000 + "1", "x = [" * 20_000, "\0", "\\"]
)
def test_texts_that_break_the_parser_have_a_canonical_form(text: str) -> None:
    assert canonical(text)


def test_a_text_above_the_limit_is_not_parsed() -> None:
    text = "x = 1\n" * (MAX_CHARACTERS // 6 + 1)
    assert canonical(text) == text.strip()
