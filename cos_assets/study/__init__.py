"""The YAML of a study: its pydantic models (`spec`, `models`, `published`), the rules between its keys (`rules`), and
the error messages (`errors`).

To add a key, add a field in `spec` and a line in docs/study.md.
"""

from cos_assets.study.errors import StudyError
from cos_assets.study.parsing import parse
from cos_assets.study.spec import StudySpec

__all__ = ["StudyError", "StudySpec", "parse"]
