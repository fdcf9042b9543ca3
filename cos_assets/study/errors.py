"""Error messages for mistakes in a YAML file: one line each, with the key, the value and what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from cos_assets import tasks

M = TypeVar("M", bound=BaseModel)
_NOT_EXPANDED = re.compile(r"\{\{\s*env\b[^{}]*\}\}")
_SHOWN = 100
_BOUNDS = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
# Prefix of a pydantic error type -> description of the allowed values.
_KINDS = {
    "int_": "a whole number",
    "float_": "a number",
    "finite_number": "a finite number",
    "string_too_short": "text that is not empty",
    "string_": "text",
    "bool_": "true or false",
    "dict_": "a mapping",
    "list_": "a list",
    "tuple_": "a list",
    "date_": "a date such as 2026-11-21",
}


class StudyError(ValueError):
    """A mistake in a study's YAML; one line per mistake."""


def check(model: type[M], attributes: Mapping[str, Any], where: str) -> M:
    """Validate `attributes` as a `model`.

    Raises StudyError with one line per mistake. `where` names the file in each line.
    """
    lines = list(_not_expanded(attributes))
    try:
        if not lines:
            return model.model_validate(dict(attributes))
    except ValidationError as error:
        lines = list(_lines(error, model, attributes))
    raise StudyError("\n".join(f"{where}: {line}" for line in lines))


def check_duplicates(text: str, where: str) -> None:
    """Raise StudyError if a key occurs twice in one mapping of a YAML text, or if the text is not YAML.

    YAML itself would silently keep the last value of the key.
    """
    import yaml

    def walk(node: yaml.Node, path: tuple[str, ...], inside: tuple[yaml.Node, ...]) -> Iterator[str]:
        if node in inside:  # an alias of a node that contains it
            return
        if isinstance(node, yaml.MappingNode):
            first: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                here = path
                if isinstance(key, yaml.ScalarNode):
                    here, line = (*path, key.value), key.start_mark.line + 1
                    if (key.tag, key.value) in first:
                        name = ".".join(here).removeprefix("attributes.")
                        earlier = first[key.tag, key.value]
                        yield f"{where}: line {line}: {name}: duplicate key; the first one is on line {earlier}"
                    first.setdefault((key.tag, key.value), line)
                yield from walk(value, here, (*inside, node))
        elif isinstance(node, yaml.SequenceNode):
            for position, value in enumerate(node.value):
                yield from walk(value, (*path, str(position)), (*inside, node))

    try:
        documents = [document for document in yaml.compose_all(text, yaml.SafeLoader) if document]
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise StudyError(f"{where}: {line}{error.problem}; expected YAML") from None
    lines = [line for document in documents for line in walk(document, (), ())]
    if lines:
        raise StudyError("\n".join(lines))


def _not_expanded(given: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield an error for each environment variable in an unsupported form. Unexpanded, it would be used literally,
    for example as the name of a model on the hub."""
    if isinstance(given, Mapping):
        for key, value in given.items():
            if key != "engine_options":  # may hold a chat template, which is meant for the engine
                yield from _not_expanded(value, (*path, str(key)))
    elif isinstance(given, list):
        for position, value in enumerate(given):
            yield from _not_expanded(value, (*path, str(position)))
    elif isinstance(given, str) and (found := _NOT_EXPANDED.search(given)):
        allowed = "{{ env('NAME') }} and {{ env('NAME', 'default') }}"
        yield f"{'.'.join(path)}: {found[0]} is not expanded; allowed: {allowed}"


def _lines(error: ValidationError, model: type[BaseModel], given: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line per mistake: the path of the key, the value and the allowed values."""
    for item in error.errors():
        loc = tuple(str(part) for part in item["loc"] if part != "[key]")
        where, value = ".".join(loc), item.get("input")
        cause = item["ctx"]["error"] if item["type"] == "value_error" else None
        if item["type"] == "extra_forbidden":
            keys = list(_model_at(model, loc[:-1], given).model_fields)
            close = difflib.get_close_matches(loc[-1], keys, 1)
            meant = f" did you mean {close[0]}?" if close else ""
            yield f"{where}: unknown key;{meant} allowed: {', '.join(keys)}"
        elif item["type"] == "missing":
            yield f"{where}: is missing; it is required"
        elif cause is not None and not where:  # a mistake between keys already names its keys
            yield from str(cause).splitlines()
        elif cause is not None:
            shown = f"{value!r}: " if isinstance(value, (str, int, float)) else ""
            yield f"{where}: {shown}{cause}"
        else:
            allowed = _allowed(dict(item), _model_at(model, loc, given))
            yield f"{where}: {'is empty' if value is None else _shown(value) + ' is not allowed'}; allowed: {allowed}"


def _allowed(item: dict[str, Any], model: type[BaseModel]) -> str:
    """Describe the values that pydantic would have accepted."""
    kind, context = item["type"], item.get("ctx", {})
    for key, words in _BOUNDS.items():
        if key in context:
            whole = isinstance(context[key], int)
            return f"{'a whole number' if whole else 'a number'} {words} {context[key]:g}"
    if kind == "literal_error":
        return str(context["expected"])
    if kind == "model_type":
        return f"a mapping with the keys {', '.join(model.model_fields)}"
    if kind in ("too_short", "too_long"):
        least = kind == "too_short"
        count = context["min_length" if least else "max_length"]
        return f"at {'least' if least else 'most'} {count} {'entry' if count == 1 else 'entries'}"
    plain = (words for start, words in _KINDS.items() if kind.startswith(start))
    return next(plain, item["msg"][0].lower() + item["msg"][1:])


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _model_at(model: type[BaseModel], loc: tuple[str, ...], given: Any) -> type[BaseModel]:
    """Return the model that validates the value at `loc` of `given`."""
    for part in loc:
        if isinstance(given, list) and part.isdigit():
            given = given[int(part)]
        else:
            given = given.get(part) if isinstance(given, Mapping) else None
        field = model.model_fields.get(part)
        # A key of a mapping is not a field: the model found before it validates the values of the mapping.
        model = (_model_in(field.annotation) if field else None) or model
        if model is tasks.Task and isinstance(given, Mapping):
            model = tasks.find(given.get("name"))
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
