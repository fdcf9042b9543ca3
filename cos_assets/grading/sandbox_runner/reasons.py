"""The reason why a program failed, in one line, with the line of the program at which it failed."""

SOURCES: dict[str, str] = {}
"""The sources that this process has executed, by name."""


def reason(error: BaseException) -> str:
    """Return for example `ValueError: message (line 3 of the tests: assert f(2) == 4)`.

    The line is the innermost one that belongs to the program or its tests.
    """
    told = type(error).__name__
    if text := text_of(error):
        told += f": {text[:200]}"
    place = None
    if isinstance(error, SyntaxError):
        place = error.filename, error.lineno
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.strip("<>") in SOURCES:
            place = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next
    if place is None or not place[1]:
        return told
    name, number = str(place[0]).strip("<>"), place[1]
    lines = SOURCES.get(name, "").splitlines()
    line = lines[number - 1].strip()[:200] if number <= len(lines) else ""
    return f"{told} (line {number} of the {name}: {line})"


def text_of(error: BaseException) -> str:
    try:
        return " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    except BaseException:  # the program's own `__str__` may raise anything
        return ""
