"""The YAML of a study.

    spec, models, published     its pydantic models
    rules                       the rules between keys
    parsing, errors             from YAML to a `StudySpec`, or to one line per mistake
    environment                 environment variables in values

To add a key, add a field in `spec` or `models`, a rule in `rules`, and a line in docs/study.md.
"""

from cos_assets.study.errors import StudyError
from cos_assets.study.parsing import parse
from cos_assets.study.spec import StudySpec

__all__ = ["StudyError", "StudySpec", "parse"]
