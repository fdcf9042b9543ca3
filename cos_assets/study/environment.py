"""Environment variables in a study's YAML: `{{ env('NAME') }}` and `{{ env('NAME', 'default') }}`.

Only these two forms are expanded. All other text of the YAML, including braces, quotes and line endings, is data and
is never evaluated. Reports and metadata show a text as it was written, never the value of the variable.
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
_SHORTEST = 4  # characters; shorter values are not replaced inside other texts, where they occur by chance


class MissingVariable(ValueError):
    """An environment variable that a study needs is not set. The message has one line per variable."""


@dataclass(frozen=True)
class Written:
    """A mapping from expanded texts to the texts as written in the YAML, for the texts that contain variables."""

    texts: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, value: T) -> T:
        """Return `value` with each expanded text replaced by the text as written, also inside lists and mappings."""
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
        # Longest first, because one expanded text may be a part of another.
        for expanded in sorted(self.texts, key=len, reverse=True):
            if len(expanded) >= _SHORTEST and not expanded.isdecimal():
                value = value.replace(expanded, self.texts[expanded])
        return value


def expand(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], Written]:
    """Return the attributes with their variables expanded, and the mapping from expanded texts to the written ones.

    Raises MissingVariable if a variable without a default is not set. Its message has one line per missing variable,
    with the path of the key and the name of the variable.
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
