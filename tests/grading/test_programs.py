"""The program in a reply: the choice of the block, its surroundings, and names from other blocks."""

from __future__ import annotations

import ast

import pytest

from cos_assets.grading.programs import MAX_REPLY, defined_names, free_names, stated_program

ADD = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return a - b\n"
PLUS = "def plus(x, y):\n    return x + y\n"
CALLS = "def add(a, b):\n    return plus(a, b)\n"
HEAD = 'def add(a, b):\n    """Add."""\n'
LONG = "def add(a, b):\n    if not b:\n        return a\n    return a + b\n"


def block(code: str, info: str = "python") -> str:
    return f"```{info}\n{code}```\n"


def of(reply: str, prompt: str = "") -> str | None:
    return stated_program(reply, ["add"], prompt)


# --- the choice of the block -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "after",
    [
        block("print(add(1, 2))\n"),
        block("assert add(1, 2) == 3\n"),
        block("from solution import add\n\nprint(add(1, 2))\n"),
        block("import math\nfrom my_code import add\nprint(add(1, 2), math.pi)\n"),
        block("def test_add():\n    assert add(1, 2) == 3\n\ntest_add()\n"),
        block("import unittest\n\nclass TestAdd(unittest.TestCase):\n    def test(self):\n        add(1, 2)\n"),
        block("result = add(int(input()), 2)\nprint(result)\n"),
        block("3\n", ""),
        block("Result: 3\nDone\n", "text"),
        block('{"a": 1, "b": 2}\n', "json"),
        block("python add.py\n", "bash"),
        block("function add(a, b) { return a - b; }\n", "javascript"),
        block("def add(a, b)\n  a - b\nend\n", "ruby"),
        block("def add(a, b):\n    ...\n"),
        block("def add(a, b):\n    pass\n"),
        block('def add(a, b):\n    """The sum."""\n'),
        block("def add(a, b):\n    raise NotImplementedError\n"),
        block("def add(a, b):\n"),
        block("def add(a, b:\n    return a - b\n"),
        "It is `add`, or `def add(a, b): return a - b` in short.",
        block("add(1, 2)\n") + "gives\n" + block("3\n", "") + block("add(2, 2)\n"),
    ],
)
def test_text_after_the_program_is_ignored(after: str) -> None:
    assert of(f"Here:\n{block(ADD)}And:\n{after}") == ADD


@pytest.mark.parametrize("first", [block(WRONG), block(WRONG, ""), block(WRONG) * 3, f"{WRONG}```\n", block(LONG)])
@pytest.mark.parametrize("last", [block(ADD), block(ADD, ""), block(ADD, "py") + "Done."])
def test_the_last_version_of_a_function_is_taken(first: str, last: str) -> None:
    assert of(f"{first}No, this is better:\n{last}") == ADD


def test_the_beginning_of_a_function_is_not_a_new_version() -> None:
    assert of(block(LONG) + "The first lines:\n" + block("".join(LONG.splitlines(True)[:3]))) == LONG
    assert of(block(LONG) + "In short:\n" + block("def add(a, b):\n    if not b:\n        return a\n    ...\n")) == LONG


@pytest.mark.parametrize(
    "code",
    [
        "add = lambda a, b: a + b\n",
        "from operator import add\n",
        f"{PLUS}\nadd = plus\n",
        "async def add(a, b):\n    return a + b\n",
        "class add(int):\n    pass\n",
        f"if True:\n    {ADD.replace(chr(10), chr(10) + '    ').rstrip()}\n",
        "@staticmethod\ndef add(a, b):\n    return a + b\n",
        "def add(\n    a,\n    b,\n):\n\treturn a + b\n",
        "try:\n    import numpy\nexcept ImportError:\n    numpy = None\n\n" + ADD,
    ],
)
def test_a_name_may_be_defined_in_any_form(code: str) -> None:
    assert of(f"So:\n{block(code)}Use:\n{block('add(1, 2)' + chr(10))}") == code
    assert of(f"So it is:\n\n{code}\nThat is it, really.\n") == code


def test_the_last_function_is_taken_without_wanted_names() -> None:
    assert stated_program(block(PLUS) + block(ADD) + block("add(1, 2)\n")) == ADD
    assert stated_program("    def sub(x):\n        return -x\n    return a - sub(b)\n") == (
        "    def sub(x):\n        return -x\n    return a - sub(b)\n"
    )


# --- names from other blocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "program"),
    [
        (block(PLUS) + block(CALLS), f"{PLUS.rstrip()}\n{CALLS}"),
        (block(CALLS) + "where\n" + block(PLUS), f"{PLUS.rstrip()}\n{CALLS}"),
        (block("import operator\n") + block("def add(a, b):\n    return operator.add(a, b)\n"),
         "import operator\ndef add(a, b):\n    return operator.add(a, b)\n"),
        (block("ZERO = 0\n") + block("def add(a, b):\n    return a + b + ZERO\n") + block("ZERO = 5\n"),
         "ZERO = 0\ndef add(a, b):\n    return a + b + ZERO\n"),
        (block(f"{PLUS}\nprint(plus(1, unknown))\n") + block(CALLS), f"{PLUS.rstrip()}\n{CALLS}"),
        (block("def plus(x, y):\n    return 0\n") + block(PLUS) + block(CALLS), f"{PLUS.rstrip()}\n{CALLS}"),
        (block("def minus(x): return -x\n") + block("def plus(x, y): return x - minus(y)\n") + block(CALLS),
         f"def minus(x): return -x\ndef plus(x, y): return x - minus(y)\n{CALLS}"),
        (block(f"def plus(x, y):\n    return x\n\n{CALLS}") + "Corrected:\n" + block(PLUS),
         f"def plus(x, y):\n    return x\n\n{CALLS}\n{PLUS}"),
        (block("def sum(x):\n    return x[0] + x[1]\n") + block("def add(a, b):\n    return sum([a, b])\n"),
         "def sum(x):\n    return x[0] + x[1]\ndef add(a, b):\n    return sum([a, b])\n"),
        (block("sum = add(1, 2)\n") + block("def add(a, b):\n    return sum([a, b])\n"),
         "def add(a, b):\n    return sum([a, b])\n"),
        (f"{PLUS}\nThat is the helper. Now\n{block(CALLS)}", f"{PLUS.rstrip()}\n\n{CALLS}"),
    ],
)  # fmt: skip
def test_helpers_are_taken_from_other_blocks(reply: str, program: str) -> None:
    found = of(reply)
    assert found is not None and found.replace("\n\n", "\n") == program.replace("\n\n", "\n")


def test_all_wanted_names_are_collected() -> None:
    node, height = "class Node:\n    left = None\n", "def height(root):\n    return 1\n"
    reply = block(node) + block("def height(root):\n    return 0\n") + block(height)
    assert stated_program(reply, ["Node", "height"]) == node + height


# --- fences, marks and prose -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        "```python\n{}",
        "```python\n{}\nThis function adds two numbers.",
        "{}```",
        "{}```\nThis adds two numbers.\n",
        "```Python3\n{}```",
        "``` python\n{}```",
        "```python {{linenos=true}}\n{}```",
        "```{{.python #add}}\n{}```",
        '```python title="add.py"\n{}```',
        "````markdown\n```python\n{}```\n````",
        "~~~python\n{}~~~",
        "~~~~\n{}~~~~",
        "```\n```python\n{}```\n```\n",
        "```python\n```python\n{}```",
        "Here it is: ```python\n{}```",
        "python\n```\n{}```",
        "[BEGIN]\n{}[DONE]",
        " [BEGIN]\n{}[DONE]\n",
        "Sure:\n[BEGIN]\n{}[DONE]\nBye",
        "{}[DONE]\nMore",
        "[BEGIN]{}[DONE]",
        "[BEGIN]\n```python\n{}```\n[DONE]",
        "```python\n[BEGIN]\n{}[DONE]\n```",
        "[PYTHON]\n{}[/PYTHON]\n[TESTS]\nx\n[/TESTS]",
        "[CODE]\n{}[/CODE]",
        "<code>\n{}</code>",
        "<code>{}</code>",
        '<pre><code class="language-python">{}</code></pre>',
        "<answer>\n```python\n{}```\n</answer>",
        "<python>\n{}</python>",
        "<|python_tag|>{}",
        "{}<|file_sep|>test.py\nimport add\n",
        "'''python\n{}'''\nThis adds.",
        "pythonCopy code\n{}",
        "\\boxed{{\n```python\n{}```\n}}",
        "\\begin{{code}}\n{}\\end{{code}}\n",
        "[BEGIN]\n{}[DONE]\n\nYou are an expert. Write sub.\n[BEGIN]\ndef sub(a, b):\n    return a - b\n[DONE]",
        "Sure!\n\n{}\nThis adds.\n",
        "## Solution\n\n{}\n### Explanation\n\nIt returns the sum.\n",
        "{}\nDone",
        "Code\n\n{}",
        "{}\nExplanation\n\nIt is a sum.",
        "{}\nNote: important\n",
        "{}\nIt's simple (see above.\n",
        " {}",
        "{}\nExplanation:\n- a is one number\n- b is the other\n\n1. add\n2. return",
        "Sure! {}",
        "```python\n{}\n>>> add(1, 2)\n3\n```",
        "```python\n{}\nadd(1, 2) -> 3\n```",
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_fences_marks_and_prose_around_the_program_are_removed(reply: str, ends: str) -> None:
    found = of(reply.format(ADD).replace("\n", ends))
    assert found is not None and ast.unparse(ast.parse(found)) == ADD.strip()


@pytest.mark.parametrize(
    "reply",
    [
        "1. Step\n\n   ```python\n   def add(a, b):\n       return a + b\n   ```\n",
        "- ```python\n  def add(a, b):\n      return a + b\n  ```",
        "\t```\n\tdef add(a, b):\n\t    return a + b\n\t```",
        "> ```python\n> def add(a, b):\n>\n>     return a + b\n> ```\n",
        "```python\n    def add(a, b):\n        return a + b\n```",
        "Here it is:\n\n    def add(a, b):\n        return a + b\n\nEnjoy the day!",
        ">>> def add(a, b):\n...     return a + b\n...\n>>> print(add(1, 2))\n3\n",
        block(">>> def add(a, b):\n...     return a + b\n"),
        "```python\ndef add(a, b):\n    return a + b```",
        "```def add(a, b): return a + b```",
        "```python def add(a, b): return a + b```",
        "Use `def add(a, b): return a + b` here.",
    ],
)
def test_indented_and_inline_code_is_read(reply: str) -> None:
    found = of(reply)
    assert found is not None
    scope: dict[str, object] = {}
    exec(found, scope)
    assert scope["add"](1, 2) == 3  # type: ignore[operator]


@pytest.mark.parametrize(
    "code",
    [
        'def add(a, b):\n    """Add.\n\n    ```python\n    add(1, 2)\n    ```\n    """\n    return a + b\n',
        "def add(a, b):\n    '''Add.\n\n    ```\n    1\n    ```\n    ```\n    3\n    ```\n    '''\n    return a + b\n",
        "def add(a, b):\n    # ```\n    # add(1, 2)\n    # ```\n    return a + b\n",
        "def add(a, b):\n    fence = '```'\n    return a + b\n",
        "def add(a, b):\n    text = '''\n```\n'''\n    return a + b\n",
        "def add(a, b):\n    tag = '<code>' + '</code>' + '[DONE]'\n    return a + b\n",
        "def add(a, b):\n    '''\nAdd two numbers.\n\n  Really\n'''\n    return a + b\n",
    ],
)
def test_marks_in_strings_and_comments_are_kept(code: str) -> None:
    for reply in (
        code,
        block(code),
        f"~~~\n{code}~~~\nBye",
        f"Sure.\n\n{code}\nThis is it.",
        f"[BEGIN]\n{code}[DONE]\n",
    ):
        assert of(reply) == code


# --- continuations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        ("    return a + b", "    return a + b\n"),
        ("\treturn a + b\n\n\n", "\treturn a + b\n"),
        ("    return a + b\n\nThis works because + adds.", "    return a + b\n"),
        ("    return a + b\n```\nThis works.", "    return a + b\n"),
        ("```python\n    return a + b\n```\nA sum:\n```\n3\n```", "    return a + b\n"),
        ("```python\nreturn a + b\n```", "    return a + b\n"),
        ("```python\nc = a + b\nreturn c\n```\nThe sum.", "    c = a + b\n    return c\n"),
        ("return a + b", "    return a + b\n"),
        ("    # c\n    return a + b\n\n# d\nprint(1)\n\nThat is it.", "    # c\n    return a + b\n\n# d\nprint(1)\n"),
        ("# c\n    return a + b\n\nThat is it.", "# c\n    return a + b\n"),
        ("<code>    return a + b</code>", "    return a + b\n"),
        ("[BEGIN]\n    return a + b\n[DONE]", "    return a + b\n"),
        ("```python\ndef add(a, b):\n```\n```python\n    return a + b\n```", "    return a + b\n"),
        ("c = a\n    return c + b", "    c = a\n    return c + b\n"),
        ("   return a + b", "    return a + b\n"),
        ("Here is the body:\n    return a + b\n\nIt adds.", "    return a + b\n"),
        ("```python\n    return a - b\n```\nNo:\n```python\n    return a + b\n```\n", "    return a + b\n"),
        ("```python\n    return a + b\n```\n```python\nprint(add(1, 2))\n```", "    return a + b\n"),
        (f"    return a + b\n\n{PLUS}", f"    return a + b\n\n{PLUS}"),
        ("    return plus(a, b)\n\ndef plus(a, b):\n    return a + b\n\nThat is all.",
         "    return plus(a, b)\n\ndef plus(a, b):\n    return a + b\n"),
        ("    return a + b\n\nExplanation\n", "    return a + b\n"),
        (block(HEAD + "    return b + a\n") + "So:\n" + block("    return a + b\n"), HEAD + "    return b + a\n"),
        (block(ADD), ADD),
    ],
)  # fmt: skip
def test_continuations_of_the_prompt_are_read(reply: str, body: str) -> None:
    prompt = HEAD.replace("    ", "\t") if body.startswith("\t") else HEAD
    assert of(reply, prompt) == body
    ast.parse(prompt + body)


@pytest.mark.parametrize("body", ["  x = a\n  return x + b\n", "        x = a\n    return x + b\n"])
def test_a_wrong_indentation_is_not_repaired(body: str) -> None:
    found = of(body, HEAD)
    assert found == body
    with pytest.raises(IndentationError):
        ast.parse(HEAD + found)


# --- empty and excessive replies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply", ["", " \n\t", "I cannot do this.", "```python\n```", "```\n3\n```", "Use `add`.", "Done"]
)
def test_a_reply_without_code_gives_none(reply: str) -> None:
    assert of(reply) is None and of(reply, HEAD) is None


@pytest.mark.parametrize(
    ("reply", "program"),
    [
        ("```python\ndef add(a, b:\n    return a + b\n```\nBye", "def add(a, b:\n    return a + b\n"),
        ("def add(a, b:\n    return a + b", "def add(a, b:\n    return a + b\n"),
        (f"{block(PLUS)}{block('plus(1, 2)' + chr(10))}", PLUS),
        (f"Sure.\n\n{PLUS}\nThat is it.", PLUS),
    ],
)
def test_a_program_that_does_not_define_the_name_is_taken(reply: str, program: str) -> None:
    assert of(reply) == program


def test_a_broken_function_is_not_read_as_a_continuation() -> None:
    assert of("def add(a, b:\n    return a + b\n", HEAD) == "def add(a, b:\n    return a + b\n"


@pytest.mark.parametrize(
    "text",
    [
        "```",
        "```\n",
        "``` a ",
        "```\na\n",
        "[DONE] x\n",
        '"""\n',
        "(\n",
        "@\n",
        "def add(\n",
        "<code ",
        "`a` ",
        "a: ",
        "> ```\n",
        "def add(a): 1\n",
        "```\ndef add(a): 1\n",
        "It's one (see `add`).\n\n",
        "\n ",
        "x = 1\n",
        "(",
    ],
)
@pytest.mark.parametrize("size", [MAX_REPLY, 20 * MAX_REPLY])
def test_degenerate_replies_are_read(text: str, size: int) -> None:
    reply = text * (size // len(text))
    for prompt in ("", HEAD):
        found = of(reply, prompt)
        assert found is None or found.strip() in reply


def test_a_reply_that_is_too_long_is_one_program() -> None:
    reply = "x = 1\n" * MAX_REPLY
    assert of(reply) == reply


# --- names -----------------------------------------------------------------------------------------------------------


def test_defined_and_free_names_are_found() -> None:
    code = "import os.path as p, sys\nfrom my_code import add\nx, (y, *z) = [i for i in w]\ndef f(a): return a + b\n"
    assert defined_names(code) == {"p", "sys", "x", "y", "z", "f"}
    assert defined_names("not python") == frozenset()
    assert free_names(ast.parse(code)) == {"w", "b"}
