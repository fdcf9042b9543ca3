"""Environment variables in a study's YAML: `{{ env('NAME') }}` and `{{ env('NAME', 'default') }}`.

Only these two forms are expanded. Every other text of the YAML, with its braces, quotes and line ends, is data. Nothing
in it is evaluated. Reports and metadata show a text as it was written, never the value of the variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")
_QUOTED = r"""(?:'([^'{}]*)'|"([^"{}]*)")"""
_CALL = re.compile(rf"\{{\{{\s*env\(\s*{_QUOTED}\s*(?:,\s*{_QUOTED}\s*)?\)\s*\}}\}}")
_SHORTEST = 4  # characters of a value that is searched for inside other texts; shorter ones occur there by chance


class MissingVariable(ValueError):
    """A variable that a study needs is not set; one line for each."""


@dataclass(frozen=True)
class Written:
    """Texts of a YAML that hold variables: the expanded text -> the text as it was written."""

    texts: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, value: T) -> T:
        """`value`, with each expanded text in it as it was written. Lists and mappings are gone through."""
        return self._of(value) if self.texts else value

    def _of(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self._of(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._of(one) for one in value]
        if not isinstance(value, str):
            return value
        if value in self.texts:
            return self.texts[value]
        # The longest first: one expanded text may be a part of another.
        for expanded in sorted(self.texts, key=len, reverse=True):
            if len(expanded) >= _SHORTEST and not expanded.isdecimal():
                value = value.replace(expanded, self.texts[expanded])
        return value


def expand(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], Written]:
    """The attributes with variables in place, and how their texts were written.

    Raises MissingVariable, with one line for each text (its key, the variable), where a variable without a default is
    not set.
    """
    texts: dict[str, str] = {}
    missing: list[str] = []

    def walk(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, Mapping):
            return {key: walk(one, (*path, str(key))) for key, one in value.items()}
        if isinstance(value, list):
            return [walk(one, (*path, str(position))) for position, one in enumerate(value)]
        if not isinstance(value, str) or not _CALL.search(value):
            return value
        unset = list(_unset(value))
        missing.extend(f"{'.'.join(path)}: the environment variable {name} is not set" for name in unset)
        expanded = value if unset else _CALL.sub(_value, value)
        if expanded:
            texts[expanded] = value
        return expanded

    expanded = walk(attributes, ())
    if missing:
        raise MissingVariable("\n".join(missing))
    return expanded, Written(texts)


def _name(call: re.Match[str]) -> str:
    return call[1] if call[1] is not None else call[2]


def _default(call: re.Match[str]) -> str | None:
    return call[3] if call[3] is not None else call[4]


def _unset(text: str) -> Iterator[str]:
    return (_name(call) for call in _CALL.finditer(text) if _name(call) not in os.environ and _default(call) is None)


def _value(call: re.Match[str]) -> str:
    return os.environ.get(_name(call), _default(call) or "")
