"""Field types and base models of all blocks of a study's YAML. Unknown keys are errors, and names use one alphabet."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Folders next to the studies in the table tree (see storage/tables.py).
_FOLDERS = ("checkpoints", "dagster", "ledger")


def _check_name(name: str) -> str:
    # Names become partition keys, asset keys, folder names and hive values: one alphabet fits all four.
    if not _NAME.fullmatch(name):
        raise ValueError("allowed are letters, digits and _, starting with a letter")
    return name


def _check_study_name(name: str) -> str:
    if name.casefold() in _FOLDERS:
        raise ValueError(f"is the name of another folder of COS_HOME; allowed: any name except {', '.join(_FOLDERS)}")
    return name


def reject_bool(value: Any) -> Any:
    # YAML reads yes and on as true, and true would count as 1.
    if isinstance(value, bool):
        raise ValueError("allowed is a whole number")
    return value


def one_of(name: str, allowed: Iterable[str]) -> str:
    """Return a registered name. Raises an error with pydantic's message for a literal if it is not registered."""
    if name not in (known := list(allowed)):
        raise PydanticCustomError("literal_error", "unknown name", {"expected": ", ".join(map(repr, known))})
    return name


Name = Annotated[str, AfterValidator(_check_name)]
StudyName = Annotated[Name, AfterValidator(_check_study_name)]
Count = Annotated[int, Field(ge=1), BeforeValidator(reject_bool)]
Text = Annotated[str, Field(min_length=1)]


class Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EngineOptions(Spec):
    """`engine_options:` of a model. Each engine has its own subclass."""

    elsewhere: ClassVar[str] = ""
    """Text after the allowed keys in the message for an unknown key: where other keys belong."""

    @classmethod
    def read(cls, given: Any) -> Self:
        """Validate options. Raises ValueError with one line that names the faulty option."""
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(["engine_options", *map(str, first["loc"])])
            unknown = first["type"] == "extra_forbidden"
            allowed = f"; allowed: {', '.join(cls.model_fields)}{cls.elsewhere}" if unknown else ""
            raise ValueError(f"{key}: {first['msg']}{allowed}") from None
