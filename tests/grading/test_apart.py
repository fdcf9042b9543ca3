# ruff: noqa: E501 (programs)
"""Tests and solution in two processes: correct programs pass as in one process, and no wrong program can pass."""

from __future__ import annotations

import pytest

from cos_assets.grading.harness import plan
from cos_assets.grading.sandbox import run

pytestmark = pytest.mark.usefixtures("sandbox")
TESTS = "assert f(1) == 2\nassert f(5) == 6"


# --- wrong programs that try to pass ---------------------------------------------------------------------------------

_FRAMES = "import sys\nframe = sys._getframe()\nframes = []\nwhile frame:\n    frames.append(frame)\n    frame = frame.f_back\n"
FORGERIES = {
    "exec is replaced": "import builtins\nbuiltins.exec = lambda *a, **k: None",
    "compile is replaced": "import builtins\nc = compile\nbuiltins.compile = lambda *a, **k: c('', 'x', 'exec')",
    "exec of the main module is replaced": "import __main__\n__main__.exec = lambda *a, **k: None",
    "lists in frames are cleared": _FRAMES
    + "for frame in frames:\n    for value in list(frame.f_locals.values()):\n        if isinstance(value, list): value.clear()",
    "parts in frames are replaced": _FRAMES
    + "for frame in frames:\n    frame.f_locals['parts'] = []\n    frame.f_globals['parts'] = []",
    "objects are found by gc": "import gc\nfor found in gc.get_objects():\n    if type(found) is dict: found.pop('tests', 0)",
    "modules are replaced": "import sys\nfor name in list(sys.modules): sys.modules[name] = None",
    "the pipes get answers": "import os, marshal\nfor fd in range(3, 16):\n    for value in (True, 2, 6, None, []):\n"
    "        data = marshal.dumps(('done', ('data', value), None))\n"
    "        try: os.write(fd, len(data).to_bytes(8, 'big') + data)\n        except OSError: pass",
    "the pipes get text": "import os\nfor fd in range(3, 16):\n    try: os.write(fd, b'ready\\n' + b'0' * 64)\n"
    "    except OSError: pass",
    "the answers are all true": _FRAMES + "peers = [v for frame in frames for v in list(frame.f_locals.values())"
    " if type(v).__name__ == 'Peer']\nfor peer in peers: peer._answer = lambda *a: peer._send(('done', ('data', True), None))",
    "what equals all": "class Any:\n    def __eq__(self, other): return True\ndef f(n): return Any()",
    "a number that equals all": "class Any(int):\n    def __eq__(self, other): return True\ndef f(n): return Any(0)",
    "a class that equals all": "class f:\n    def __init__(self, n): pass\n    def __eq__(self, other): return True",
    "a metaclass that equals all": "class M(type):\n    def __eq__(self, other): return True\n    __hash__ = type.__hash__\n"
    "class A(metaclass=M): pass\ndef f(n): return A",
    "exits": "import sys\ndef f(n): sys.exit(0)",
    "exits at once": "import os\ndef f(n): os._exit(0)",
    "raises AssertionError": "def f(n): raise AssertionError",
    "asks to be skipped": "import unittest\ndef f(n): raise unittest.SkipTest('no')",
    "traces": "import sys\nsys.settrace(lambda *a: None)\ndef f(n): return 0",
    "forks": "import os\ndef f(n):\n    if os.fork() == 0: os._exit(0)\n    return 0",
}  # fmt: skip


@pytest.mark.parametrize("source", FORGERIES.values(), ids=FORGERIES)
def test_a_program_cannot_forge_a_verdict(source: str) -> None:
    assert run([("solution", source), ("tests", TESTS)]).outcome == "error"


def test_a_class_of_the_solution_cannot_forge_an_inequality() -> None:
    near = "class Near:\n    def __sub__(self, other): return self\n    def __abs__(self): return self\n"
    near += "    def __lt__(self, other): return True\ndef f(n): return Near()"
    assert run([("solution", near), ("tests", "assert abs(f(1) - 2.5) < 1e-6")]).outcome == "error"


NUMBER = "class Number:\n    def __init__(self, n=0): pass\n    def __eq__(self, other): return True\n"
NUMBER += "".join(f"    def __{name}__(self, *a): return 0\n" for name in ("sub", "rsub", "abs", "round", "add", "mod"))
NUMBER += (
    "    def __contains__(self, other): return True\n    def __iter__(self): return iter([])\ndef f(n): return Number()"
)


@pytest.mark.parametrize(
    "tests",
    [
        "assert abs(f(1) - 2.5) < 1e-6",
        "assert abs(2.5 - f(1)) < 1e-6",
        "assert round(f(1) - 2.5, 6) == 0",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertAlmostEqual(f(1), 2.5)",
        "assert 2 in f(1)",
        "assert f(1) in (2, 3)",
        "import math\nassert math.isclose(f(1), 2.5)",
        "assert f(1) % 3 == 2",
    ],
)
def test_a_class_of_the_solution_cannot_forge_a_calculation(tests: str) -> None:
    assert run([("solution", NUMBER), ("tests", tests)]).outcome == "error"


def test_operators_of_classes_that_the_tests_use_are_executed() -> None:
    source = (
        "class Vector:\n    def __init__(self, x): self.x = x\n    def __mul__(self, n): return Vector(self.x * n)\n"
        "    def __rmul__(self, n): return self * n\n    def __abs__(self): return abs(self.x)\n"
        "    def __eq__(self, other): return self.x == other.x\n    def __contains__(self, n): return n == self.x"
    )
    tests = "assert Vector(2) * 3 == Vector(6) == 3 * Vector(2)\nassert abs(Vector(-2) * 2) == 4 and 5 in Vector(5)"
    result = run([("solution", source), ("tests", tests)])
    assert (result.outcome, result.reason) == ("ok", None)


def test_the_solution_cannot_read_the_process_of_the_tests() -> None:
    source = (
        "import os\n"
        "for name in ('mem', 'maps', 'environ', 'fd/3', 'fd/4', 'fd/5'):\n"
        "    for pid in (1, 2, os.getppid()):\n"
        "        try: open(f'/proc/{pid}/{name}', 'rb').read(1)\n"
        "        except OSError: continue\n"
        "        raise ValueError(name)\n"
    )
    assert run([("solution", source)]).outcome == "ok"


def test_a_function_from_the_tests_can_be_called_but_not_inspected() -> None:
    source = (
        "def f(g):\n"
        "    for name in ('__globals__', '__code__', '__closure__', '__defaults__', '__builtins__'):\n"
        "        try: return getattr(g, name)\n"
        "        except AttributeError: continue\n"
        "    return g(20)\n"
    )
    result = run([("solution", source), ("tests", "secret = 21\nassert f(lambda n: n + 1) == secret")])
    assert (result.outcome, result.reason) == ("ok", None)


_PEER = (
    _FRAMES
    + "peer = next(v for frame in frames for v in list(frame.f_locals.values()) if type(v).__name__ == 'Peer')\n"
)


@pytest.mark.parametrize(
    "request_",
    [
        "peer.ask('special', g, '__getattribute__', ('__globals__',), {})",
        "peer.ask('special', g, '__reduce_ex__', (2,), {})",
        "peer.ask('get', g, '__globals__')",
        "peer.ask('special', os, '__getattribute__', ('getpid',), {})",
        "peer.ask('get', os, 'getpid')",
        "peer.ask('special', type, '__call__', ('X', (), {}), {})",
        "peer.ask('execute', 'x', 'y = 1')",
    ],
)
def test_requests_for_internals_of_an_object_of_the_tests_are_refused(request_: str) -> None:
    """The solution writes valid requests to the pipes itself."""
    source = f"{_PEER}import os\ndef f(g):\n    try: return ['got', str({request_})]\n    except (AttributeError, KeyError): return 'refused'"
    result = run([("solution", source), ("tests", "assert f(lambda n: n + 1) == 'refused'")])
    assert (result.outcome, result.reason) == ("ok", None)


def test_operators_of_a_class_with_an_imported_name_are_not_executed() -> None:
    source = NUMBER.replace("Number", "Fraction")
    tests = (
        "from fractions import Fraction\nassert abs(f(1) - Fraction(5, 2)) < Fraction(1, 9) and abs(f(1) - 2.5) < 1e-6"
    )
    assert run([("solution", source), ("tests", tests)]).outcome == "error"


# --- right programs --------------------------------------------------------------------------------------------------

HONEST = {
    "mutates": ("def f(x):\n    x.sort()\n    x.append([9])\n    x[-1].append(8)", "a = [3, 1]\nb = a\nf(a)\nassert b == [1, 3, [9, 8]]"),
    "mutates a dictionary and a set": ("def f(d, s): d['b'] = d.pop('a'); s.add(2)",
                                       "d, s = {'a': [1]}, {1}\nf(d, s)\nassert d == {'b': [1]} and s == {1, 2}"),
    "types": ("def f(n): return [True, 1, 1.0, 'a', b'a', (1,), {1}, frozenset([1]), {1: 2}, None, 1j, ...][n]",
              "assert [type(f(n)).__name__ for n in range(10)] == "
              "['bool', 'int', 'float', 'str', 'bytes', 'tuple', 'set', 'frozenset', 'dict', 'NoneType']\nassert f(9) is None"),
    "standard library": ("import collections, fractions, decimal, datetime\ndef f(n): return [collections.Counter('aab'), "
                         "collections.OrderedDict(a=1), collections.deque([1], 2), collections.defaultdict(list, a=[1]), "
                         "fractions.Fraction(1, 2), decimal.Decimal('1.50'), datetime.date(2020, 1, 2), range(3)][n]",
                         "from fractions import Fraction\nimport datetime\nassert f(0) == {'a': 2, 'b': 1}\nassert f(1)['a'] == 1\n"
                         "assert list(f(2)) == [1]\nassert f(3)['new'] == []\nassert f(4) == Fraction(1, 2) == 0.5\n"
                         "assert str(f(5)) == '1.50'\nassert f(6) == datetime.date(2020, 1, 2)\nassert f(7) == range(3)"),
    "objects": ("class P:\n    count = 0\n    def __init__(self, x): self.x = x; P.count += 1\n    def __add__(self, o): return P(self.x + o.x)\n"
                "    def __eq__(self, o): return self.x == o.x\n    def __hash__(self): return self.x\n    def __len__(self): return 7\n"
                "    def __getitem__(self, i): return i\n    def __repr__(self): return f'P({self.x})'\n    @property\n    def twice(self): return 2 * self.x\n"
                "    def __enter__(self): return self\n    def __exit__(self, *error): return True",
                "p = P(1) + P(2)\nassert p.x == 3 and p == P(3) and p != P(4) and len({P(1), P(1)}) == 1\nassert len(p) == 7 and p[5] == 5\n"
                "assert str([p]) == '[P(3)]' and p.twice == 6 and isinstance(p, P) and not isinstance(3, P)\np.x = 4\nassert p.x == 4\n"
                "with p as q: raise ValueError\nassert q is p and P.count > 3\nassert hasattr(p, 'x') and not hasattr(p, 'y')"),
    "call back": ("def f(g, x, key=None): return sorted((g(i) for i in x), key=key)",
                  "assert f(lambda i: i * 2, [1, 2], key=lambda n: -n) == [4, 2]\nassert f(len, ['a'], key=abs) == [1]"),
    "objects of the tests": ("def total(node): return 0 if node is None else node.value + total(node.next)\ndef grow(node): node.value = 10",
                             "class Node:\n    def __init__(self, value, next=None): self.value, self.next = value, next\n"
                             "n = Node(1, Node(2))\nassert total(n) == 3\ngrow(n)\nassert n.value == 10 and total(n) == 12"),
    "objects of the solution go back": ("class Node:\n    def __init__(self, v, n=None): self.v, self.n = v, n\ndef total(n): return 0 if n is None else n.v + total(n.n)",
                                        "nodes = [Node(3), Node(4)]\nnodes[0].n = nodes[1]\nassert total(nodes[0]) == 7 and total(nodes[1]) == 4"),
    "iterators": ("def f(n):\n    for i in range(n): yield i\ndef g():\n    i = 0\n    while True:\n        i += 1\n        yield i",
                  "import itertools\nassert list(f(3)) == [0, 1, 2] and sum(f(4)) == 6\nassert list(itertools.islice(g(), 2)) == [1, 2]\n"
                  "assert next(f(2)) == 0 and dict(zip('ab', f(2))) == {'a': 0, 'b': 1}"),
    "errors": ("class E(ValueError):\n    def __init__(self, n): super().__init__(f'no {n}'); self.n = n\ndef f(n):\n    if n: raise E(n)\n    return {}['a']",
               "try: f(1)\nexcept E as error: assert str(error) == 'no 1' and error.n == 1 and isinstance(error, ValueError)\nelse: raise AssertionError\n"
               "try: f(0)\nexcept KeyError as error: assert error.args == ('a',)\nelse: raise AssertionError"),
    "errors of the standard library": ("import json\ndef f(t): return json.loads(t)",
                                       "import json\ntry: f('{')\nexcept json.JSONDecodeError as error: assert error.pos == 1\nelse: raise AssertionError"),
    "named tuples and enumerations": ("from collections import namedtuple\nfrom enum import Enum, IntEnum\nQ = namedtuple('Q', 'a b')\nclass C(Enum): RED = 1\n"
                                      "class D(IntEnum): ONE = 1\ndef f(n): return [Q(1, 2), C.RED, D.ONE][n]",
                                      "assert f(0) == (1, 2) and (1, 2) == f(0) and f(0).a == 1 and isinstance(f(0), tuple)\nassert f(1) is C.RED and f(1) != C(1).value\n"
                                      "assert f(2) == 1 and f(2) + 1 == 2 and f(2) < 2"),
    "functions": ("import functools\ndef adder(n): return lambda m: n + m\n@functools.lru_cache\ndef fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)",
                  "assert adder(2)(3) == 5 and fib(30) == 832040 and fib.__name__ == 'fib' and callable(fib)"),
    "decorators": ("def twice(f):\n    def g(*a): return 2 * f(*a)\n    return g", "@twice\ndef one(n): return n\nassert one(3) == 6"),
    "asynchronous": ("import asyncio\nasync def f(n):\n    await asyncio.sleep(0)\n    return n + 1", "import asyncio\nassert asyncio.run(f(1)) == 2"),
    "modules and types": ("import math\ndef f(n): return [int, ValueError, math][n]", "import math\nassert f(0) is int and f(1) is ValueError and f(2).pi == math.pi"),
    "names": ("_private, N = 3, 4\ndef f(): return N", "from solution import *\nfrom solution import _private as p\nimport solution\nassert p + N + f() + solution.f() == 15"),
    "numbers that do not end": ("def f(): return float('nan'), float('inf'), 10 ** 400", "import math\na, b, c = f()\nassert math.isnan(a) and b > c // c and c == 10 ** 400"),
    "prints": ("def f():\n    print('x' * 10)\n    return 1", "print('tests')\nassert f() == 1"),
    "large values": ("def f(n): return list(range(n))", "assert sum(f(200_000)) == 19999900000\nassert len(f(3) * 10 ** 5) == 300_000"),
}  # fmt: skip


@pytest.mark.parametrize(("source", "tests"), HONEST.values(), ids=HONEST)
def test_correct_programs_pass_in_a_separate_process(source: str, tests: str) -> None:
    assert plan(tests)["apart"]
    result = run([("solution", source), ("tests", tests)])
    assert (result.outcome, result.reason) == ("ok", None)


@pytest.mark.parametrize(
    "tests",
    [
        "from unittest.mock import patch\nwith patch('builtins.input', return_value='3'): assert f() == '3'",
        "import io, sys\nsys.stdin = io.StringIO('3\\n')\nassert f() == '3'",
        "import inspect\nassert inspect.signature(f).parameters == {}\nimport builtins\nbuiltins.input = lambda: '3'\nassert f() == '3'",
        "import contextlib, io, sys\nsys.stdin = io.StringIO('3')\nout = io.StringIO()\nwith contextlib.redirect_stdout(out): print(f())\nassert out.getvalue() == '3\\n'",
    ],
)  # fmt: skip
def test_tests_that_use_the_interpreter_run_in_the_process_of_the_solution(tests: str) -> None:
    assert not plan(tests)["apart"]
    assert run([("solution", "def f(): return input()"), ("tests", tests)]).outcome == "ok"
    assert run([("solution", "def f(): return '4'"), ("tests", tests)]).outcome == "error"


def test_tests_with_a_subclass_of_the_solution_run_in_its_process() -> None:
    tests = "class Dog(Animal):\n    def noise(self): return 'wow'\nassert Dog().speak() == 'wow!'"
    assert not plan(tests)["apart"]
    assert (
        run([("solution", "class Animal:\n    def speak(self): return self.noise() + '!'"), ("tests", tests)]).outcome
        == "ok"
    )


# --- forms of tests --------------------------------------------------------------------------------------------------

CASE = "import unittest\nclass T(unittest.TestCase):\n    def setUp(self): self.two = 2\n    def test_f(self):\n        self.assertEqual(f(1), self.two)\n"
FORMS = {
    "assertions": "assert f(1) == 2",
    "unittest": CASE,
    "unittest.main": CASE + "unittest.main()",
    "unittest.main behind a guard": CASE + "if __name__ == '__main__':\n    unittest.main()",
    "unittest, subtests": "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        for n in (1, 5):\n            with self.subTest(n=n): self.assertEqual(f(n), n + 1)",
    "unittest, asynchronous": "import unittest\nclass T(unittest.IsolatedAsyncioTestCase):\n    async def test(self): self.assertEqual(f(1), 2)",
    "a guard": "def check():\n    assert f(1) == 2\nif __name__ == '__main__':\n    check()",
    "pytest, functions": "def test_f():\n    assert f(1) == 2\ndef test_g():\n    assert f(5) == 6",
    "pytest, a class": "class TestF:\n    def setup_method(self): self.two = 2\n    def test_f(self): assert f(1) == self.two",
    "pytest, asynchronous": "async def test_f():\n    assert f(1) == 2",
    "called by the tests": "def test_f():\n    assert f(1) == 2\ntest_f()",
    "HumanEval": "def check(candidate):\n    assert candidate(1) == 2",
    "HumanEval, called": "def check(candidate):\n    assert candidate(1) == 2\ncheck(f)",
}  # fmt: skip


@pytest.mark.parametrize("tests", FORMS.values(), ids=FORMS)
def test_every_form_of_tests_is_executed(tests: str) -> None:
    right = run([("solution", "def f(n): return n + 1"), ("tests", tests)], entry_point="f")
    assert (right.outcome, right.reason) == ("ok", None)
    for wrong in ("def f(n): return n", "", "import sys\ndef f(n): sys.exit(0)", "raise SystemExit(0)"):
        assert run([("solution", wrong), ("tests", tests)], entry_point="f").outcome == "error"


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        ("def check(candidate):\n    assert candidate(1) == 2", "the function check(candidate) is never called"),
        ("def test_f(tmp_path):\n    assert f(1) == 2", "test_f takes arguments, and no pytest is there to give them"),
    ],
)
def test_a_form_of_tests_that_cannot_run_gives_no_wrong_verdict(tests: str, reason: str) -> None:
    result = run([("solution", "def f(n): return n + 1"), ("tests", tests)])
    assert result.outcome == "form"
    assert reason in (result.reason or "")
