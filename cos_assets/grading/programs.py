"""Extraction of the program that a reply states.

Code fences and marks such as [BEGIN] and <code> divide a reply into blocks. It does not matter which mark opens a
block and which closes it, so unclosed and stray marks do no harm. The program is the last block that is Python and
defines a wanted name. Names that it uses and does not define are taken from the other blocks. Later definitions of
its functions replace its own.

If no block is such a program, the search continues in this order:

    1. the last block that continues the prompt, as the body of its function
    2. the same two searches in the parts of blocks that are Python: runs of lines between lines of prose
    3. the runs of lines of the whole reply, and code in single backticks
    4. the last block that defines any function, else the last one that is or looks like Python: the tests then report
       the error

The time is linear in the length of the reply, and at most `MAX_PARSED` characters of its parts are parsed.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
import textwrap
import threading
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

# A longer text is parsed only in the sandbox, where it cannot exhaust memory or the stack.
MAX_CHARACTERS = 100_000
# A longer reply is taken as one program. Of the parts of a shorter one, this many characters are parsed at most.
MAX_REPLY = 200_000
MAX_PARSED = 2_000_000
_PER_PARSE = 200  # in characters: the fixed cost of parsing a short text
_MAX_BLOCKS = 200
# The maximum number of marks in the strings of a block, and of lines at the margin in a statement.
_MAX_INSIDE = 20

_PARSER = threading.Lock()
_BUILTINS = frozenset(dir(builtins))
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_SCOPES = (*_DEFINITIONS, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_EFFECTS = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)

_MARKED_LINE = re.compile(r"^.*(?:```|~~~|\[/?[A-Z]|<[/|a-zA-Z]|\'\'\'py|\"\"\"py).*$", re.MULTILINE)
_MARK = re.compile(
    r"""
    (?: `{3,} | ~{3,} ) (?: [^`]* $ )?                                  # a fence, perhaps with an info string
    | \[ (?: BEGIN | DONE | /[A-Z]+ ) \]
    | ^ [ \t]* \[ (?: END | PYTHON | CODE | ANSWER | SOLUTION ) \]      # could be a list elsewhere
    | < /? (?i: pre | code | python | program | solution | answer ) (?: \s [^<>]* )? >
    | <\| \w+ \|>                                                      # a special token
    | ^ [ \t]* (?: \'{3} | "{3} ) (?: python | py ) [ \t]* $            # quotes in place of a fence
    """,
    re.VERBOSE,
)
_LEAD = re.compile(r"[ \t]*(?:>[ \t]?)*(?:(?:[-*+]|[0-9]{1,9}[.)])[ \t]+)*")  # of a fence in a quote or a list
_LANGUAGE = re.compile(r"\s*(?:python3?|py)\s+", re.IGNORECASE)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LOOKS_LIKE_CODE = re.compile(
    r"""
    ^ [ \t]* (?: (?: async [ \t]+ )? def | class ) [ \t]+ \w+ [ \t]* [(:]
    | ^ [ \t]* (?: import [ \t]+ \w | from [ \t]+ [\w.]+ [ \t]+ import \b )
    | ^ [ \t]* return \b
    """,
    re.VERBOSE | re.MULTILINE,
)
# "Sure! def add(a, b):"
_AFTER_PROSE = re.compile(r"^(\w.*?[.:!?]) +(?=def \w+ ?\()", re.MULTILINE)
# Excludes the head of a statement with a mistake: what is indented below it is not a program of its own.
_PROSE_ABOVE = re.compile(r"(?!\s|@|(?:async|class|def|for|if|try|while|with)\b)")
# A line that does not begin a statement at the margin.
_GOES_ON = re.compile(r"[\s)\]}#]|(?:else|elif|except|finally)\b|\Z")


def parse(code: str) -> ast.Module | None:
    """Return the syntax tree; None for text that is not Python or longer than `MAX_CHARACTERS`."""
    if len(code) > MAX_CHARACTERS:
        return None
    try:
        # Python's parser counts its recursion depth for all threads together, so concurrent calls fail ("AST
        # constructor recursion depth mismatch").
        with _PARSER, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of "\d" in a string
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def stated_program(reply: str, wanted: Iterable[str] = (), prompt: str = "") -> str | None:
    """Return the program that a reply states, or the text that continues `prompt`; None if it contains no code.

    `wanted` are the names that the tests use. A program has to define one of them, by any statement. If `wanted` is
    empty, any function or class counts. A function whose body is omitted, such as a repeated head, does not count.
    """
    if len(reply) > MAX_REPLY or not reply.strip():
        return reply if reply.strip() else None
    reply = reply.replace("\r\n", "\n").replace("\r", "\n")
    names, parser = frozenset(wanted), _Parser()
    blocks = [_block(texts, parser) for texts in _texts(reply)]
    parts = [part for b in blocks for part in ([b] if b.code else _partial(_runs(b.text, parser), parser))]

    def continuation(blocks: Sequence[_Block]) -> str | None:
        return _continuation(blocks, prompt, names, parser) if prompt else None

    found = (
        _whole(parts, names, partial=False)
        or continuation(blocks)
        or _whole(parts, names)
        or continuation(parts)
        or _whole(_partial(_runs(reply, parser), parser), names)
        or _whole(_partial(_INLINE.findall(reply)[-_MAX_BLOCKS:], parser), names)
        or (None if prompt else _whole(parts, frozenset()))
    )
    if found is None:
        left = sorted(filter(_is_code, blocks), key=lambda block: any(s.defines for s in block.statements))
        found = left[-1].text if left else None
    return found and found.rstrip() + "\n"


def defined_names(code: str) -> frozenset[str]:
    """Return the names that a program binds at its top level; the empty set for text that is not Python."""
    tree = parse(code)
    return frozenset[str]().union(*map(_binds, tree.body)) if tree else frozenset()


def free_names(tree: ast.AST) -> set[str]:
    """Return the names that a program uses and does not bind anywhere, including builtins."""
    nodes = list(ast.walk(tree))
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return used - set(_bound(nodes))


class _Parser:
    """`parse` for the parts of one reply. After `MAX_PARSED` characters, it returns None for any text."""

    def __init__(self) -> None:
        self.left = MAX_PARSED

    def __call__(self, code: str) -> ast.Module | None:
        self.left -= len(code) + _PER_PARSE
        return parse(code) if self.left > 0 else None


# --- programs in blocks ----------------------------------------------------------------------------------------------


class _Statement(NamedTuple):
    """A statement at the top level of a program, and the names that it binds."""

    code: str
    node: ast.stmt
    names: frozenset[str]

    @property
    def defines(self) -> bool:
        return isinstance(self.node, _DEFINITIONS)


class _Block(NamedTuple):
    """A part of a reply: its original text and, if that is Python, the program in it."""

    text: str
    code: str = ""
    statements: tuple[_Statement, ...] = ()
    partial: bool = False


def _partial(texts: Iterable[str], parser: _Parser) -> list[_Block]:
    return [_block([text], parser)._replace(partial=True) for text in texts]


def _block(texts: Sequence[str], parser: _Parser) -> _Block:
    """Return the block of the first of `texts` that is Python, or else of the first text.

    `texts` end at the first mark, at the second mark, and so on. A longer one is tried only if the text before ends
    in a string, because a mark in a string does not end a block.
    """
    for text in texts:
        for code in dict.fromkeys(_readings(text)):
            tree = parser(code)
            if tree and not any(isinstance(node, ast.Return) for statement in tree.body for node in _own(statement)):
                return _Block(text, *_program(code, tree))
        if not _in_string(text):
            break
    return _Block(texts[0])


def _in_string(text: str) -> bool:
    line = text[text.rfind("\n") + 1 :]
    return _in_long_string(text) or any(line.count(quote) % 2 for quote in "\"'")


def _readings(text: str) -> Iterator[str]:
    """Yield the possible readings of a text as code.

    They are: unchanged, dedented, without leading white space, without the name of the language on the line of the
    code, and as an interactive session.
    """
    yield text
    yield textwrap.dedent(text)
    yield text.lstrip()
    yield _LANGUAGE.sub("", text, count=1)
    if text.lstrip().startswith(">>>"):
        lines = (line.lstrip() for line in text.split("\n"))
        yield "\n".join(line[4:] for line in lines if line.startswith((">>>", "...")))


def _program(code: str, tree: ast.Module) -> tuple[str, tuple[_Statement, ...]]:
    """Return the program and its statements, without prose on lines of its own.

    A heading such as "Explanation" would be an unknown name when the program runs.
    """
    lines = code.split("\n")
    statements, idle, kept = [], set[int](), set[int]()
    for node in tree.body:
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
        place = range(first - 1, node.end_lineno or first)
        if _is_idle(node) and any(isinstance(part, ast.Name) for part in ast.walk(node)):
            idle.update(place)
            continue
        kept.update(place)
        names = frozenset[str]() if _is_left_out(node) else _binds(node)
        statements.append(_Statement("\n".join(lines[place.start : place.stop]), node, names))
    code = "\n".join("" if number in idle - kept else line for number, line in enumerate(lines))
    return code, tuple(statements)


def _whole(blocks: Sequence[_Block], wanted: frozenset[str], partial: bool = True) -> str | None:
    """Return the program of the last block that defines a wanted name. Blocks that are `partial` may be excluded.

    Definitions that it needs from other blocks come before it, and later definitions that correct it come after it.
    """
    bound = defaultdict[str, list[tuple[int, int, _Statement]]](list)
    main = None
    for place, block in enumerate(blocks):
        for number, statement in enumerate(block.statements):
            names = {name for name in statement.names if not _is_excerpt(statement, bound[name])}
            for name in names:
                bound[name].append((place, number, statement))
            if (names & wanted if wanted else names and statement.defines) and (partial or not block.partial):
                main = place
    if main is None:
        return None

    own = blocks[main].statements
    before: dict[tuple[int, int], str] = {}
    known = frozenset[str]().union(*(statement.names for statement in own))
    missing = (wanted | frozenset[str]().union(*(free_names(statement.node) for statement in own))) - known
    while missing:
        known |= missing
        used = set[str]()
        for name in missing:
            found = [f for f in bound[name] if f[0] != main and (f[2].defines or name not in _BUILTINS)]
            if found:  # prefer the last function or class, then the last variable of an earlier block
                place, number, statement = max(found, key=lambda f: (f[2].defines, f[2].defines or f[0] < main, f[:2]))
                before[place, number] = statement.code
                used |= free_names(statement.node)
        missing = frozenset(used) - known
    after = {
        (place, number): statement.code
        for name in {name for statement in own if statement.defines for name in statement.names}
        for place, number, statement in bound[name]
        if place > main and statement.defines
    }
    codes = [*(before[key] for key in sorted(before)), blocks[main].code, *(after[key] for key in sorted(after))]
    return "\n".join(codes)


def _is_excerpt(statement: _Statement, earlier: Sequence[tuple[int, int, _Statement]]) -> bool:
    """Return whether a statement repeats the beginning of an earlier function, in order to explain it."""
    if not (statement.defines and earlier):
        return False
    code = earlier[-1][2].code
    return len(code) > len(statement.code) and code.startswith(statement.code)


def _continuation(blocks: Sequence[_Block], prompt: str, wanted: frozenset[str], parser: _Parser) -> str | None:
    """Return the last block that gives the prompt's function a body.

    The block is tried as it is, and then with the indentation that a block or the start of a reply loses.
    """
    tree = parser(prompt)
    heads = [node for node in tree.body if isinstance(node, _DEFINITIONS)] if tree else []
    line = prompt.split("\n")[heads[-1].body[0].lineno - 1] if heads else ""
    margin = line[: len(line) - len(line.lstrip())] or "    "
    readings: list[Callable[[str], str]] = [
        lambda text: text,
        lambda text: textwrap.indent(text, margin),
        lambda text: text if text.startswith(margin) else margin + text.lstrip(),
    ]
    for reading in readings:
        for block in reversed(blocks):
            text = reading(block.text)
            if (whole := parser(prompt + text)) is None:
                continue
            code, statements = _program(prompt + text, whole)
            bodies = [statement.node for statement in statements if statement.names & wanted]
            if bodies and (text == block.text or any(isinstance(part, ast.Return) for part in ast.walk(bodies[-1]))):
                return code.removeprefix(prompt)
    return None


def _is_code(block: _Block) -> bool:
    if _LOOKS_LIKE_CODE.search(block.text) or len(block.text) > MAX_CHARACTERS:
        return True
    return any(not _is_idle(statement.node) for statement in block.statements)


# --- parts of a reply ------------------------------------------------------------------------------------------------


def _texts(reply: str) -> Iterator[list[str]]:
    """Yield, for each mark, the text up to the next mark, and the longer texts that contain the marks after it."""
    marks = [(0, 0, ""), *_marks(reply), (len(reply), len(reply), "")]
    for number, (_, begin, indent) in enumerate(marks[:-1]):
        first, *more = (end for end, *_ in marks[number + 1 : number + 2 + _MAX_INSIDE])
        if reply[begin:first].strip():
            ends = [first, *(end for end in more if end - begin <= MAX_CHARACTERS)]
            yield [_unindented(reply[begin:end], indent) for end in ends]


def _marks(reply: str) -> Iterable[tuple[int, int, str]]:
    """Return (start, end, indentation of the following lines) of the last marks.

    Marks with nothing between them are merged, and marks in a comment are ignored.
    """
    marks: deque[tuple[int, int, str]] = deque(maxlen=_MAX_BLOCKS)
    for line in _MARKED_LINE.finditer(reply):
        found = list(_MARK.finditer(line[0]))
        for mark in found:
            start, end, indent = line.start() + mark.start(), line.start() + mark.end(), ""
            if mark is found[0]:
                lead = line[0][: mark.start()]
                if "#" in lead:
                    break
                if _LEAD.fullmatch(lead):
                    start, indent = line.start(), re.sub(r"[^\s>]", " ", lead)
            if mark is found[-1] and not line[0][mark.end() :].strip():
                end = min(line.end() + 1, len(reply))
            if marks and not reply[marks[-1][1] : start].strip():
                start = marks.pop()[0]
            marks.append((start, end, indent))
    return marks


def _unindented(text: str, indent: str) -> str:
    """Remove the indentation if the first line has it, and the ">" of a quote on blank lines."""
    if not indent or not text.lstrip("\n").startswith(indent.rstrip() or indent):
        return text
    lines = text.split("\n")
    return "\n".join(line.removeprefix(indent if line.startswith(indent) else indent.rstrip()) for line in lines)


def _runs(text: str, parser: _Parser) -> list[str]:
    """Return the longest runs of lines that are Python, and the texts indented below a line of prose.

    A run is extended statement by statement.
    """
    lines = _AFTER_PROSE.sub(r"\1\n", text).split("\n")
    starts = sorted({0, *(number for number, line in enumerate(lines) if not _GOES_ON.match(line)), len(lines)})
    runs: list[list[str]] = [[]]
    at = 0
    while at < len(starts) - 1 and parser.left > 0:
        after = _statement_end(lines, starts, at, parser)
        if after is not None:
            runs[-1] += lines[starts[at] : starts[after]]
            at = after
        else:
            head, *below = lines[starts[at] : starts[at + 1]]
            runs += [below if _PROSE_ABOVE.match(head) else [], []]
            at += 1
    return [run for run in map("\n".join, runs) if run.strip()]


def _statement_end(lines: list[str], starts: list[int], at: int, parser: _Parser) -> int | None:
    """Return the end of the statement that begins at `starts[at]`, as an index of `starts`; None if there is none."""
    statement = lines[starts[at] : starts[at + 1]]
    first = next((line for line in statement if line.strip() and not line.lstrip().startswith("#")), "")
    head = "if True:\n" if first[:1] in (" ", "\t") else ""  # comments at the margin may precede indented lines
    for after in range(at + 1, min(at + 1 + _MAX_INSIDE, len(starts))):
        text = "\n".join(lines[starts[at] : starts[after]])
        if parser(head + text) is not None:
            return after
        brackets = sum(map(text.count, "([{")) - sum(map(text.count, ")]}"))
        if not (brackets > 0 or text.startswith("@") or _in_long_string(text)):
            return None
    return None


def _in_long_string(text: str) -> bool:
    return any(count % 2 for count in map(text.count, ('"""', "'''")))


# --- statements ------------------------------------------------------------------------------------------------------


def _bound(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, (*_DEFINITIONS, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
            if node.name:
                yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest


def _binds(statement: ast.stmt) -> frozenset[str]:
    """Return the names that a statement binds in its own scope."""
    return frozenset(_bound(_own(statement)))


def _own(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield the nodes of a statement that belong to no function inside it.

    An import from a module that the sandbox does not have is omitted: a demonstration imports the program from a
    file.
    """
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop()
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if any(module.partition(".")[0] not in sys.stdlib_module_names for module in modules):
            continue
        yield node
        if not isinstance(node, _SCOPES):
            todo.extend(ast.iter_child_nodes(node))


def _is_idle(node: ast.stmt) -> bool:
    """Return whether a statement is an expression without effect or a declaration of a variable ("Note: important")."""
    if isinstance(node, ast.AnnAssign):
        return node.value is None
    return isinstance(node, ast.Expr) and not any(isinstance(part, _EFFECTS) for part in ast.walk(node))


def _is_left_out(node: ast.stmt) -> bool:
    """Return whether a statement is a function whose body, or a part of it, is omitted."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return False
    if any(isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant) and n.value.value is ... for n in node.body):
        return True
    return all(
        isinstance(n, ast.Pass) or _is_idle(n) or (isinstance(n, ast.Raise) and "NotImplemented" in ast.unparse(n))
        for n in node.body
    )
