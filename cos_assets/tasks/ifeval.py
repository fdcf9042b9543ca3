"""IFEval: prompts with instructions that a program can check (Zhou et al. 2023, arXiv 2311.07911, Apache-2.0).

    Write a 300+ word summary of the wikipedia page "https://en.wikipedia.org/wiki/Raymond_III,_Count_of_Tripoli". Do
    not use any commas and highlight at least 3 sections that has titles in markdown format, for example *highlighted
    section part 1*, *highlighted section part 2*, *highlighted section part 3*.
    instruction_id_list: punctuation:no_comma, detectable_format:number_highlighted_sections,
    length_constraints:number_words

All prompts are in the test split. `path:` is a folder with `input_data.jsonl`, or such a file. Two sizes are
published: 541 prompts on the hub, and 540 in a copy that lacks key 2785. There are no reference replies. `answer`
contains the input of `grading.instructions`, and a reply is correct if it follows every instruction, strictly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import polars as pl

from cos_assets.grading.grade import Kind
from cos_assets.tasks import PROBLEMS, text
from cos_assets.tasks._prompts import Prompts

PUBLISHED = (540, 541)


class Ifeval(Prompts):
    """IFEval; the only split is test."""

    name: str = "ifeval"
    dataset: str = "google/IFEval"

    files: ClassVar[Mapping[str, tuple[str, ...]]] = {"test": ("input_data", "ifeval_input_data", "en_input_data")}
    answer_kind: ClassVar[Kind | None] = "instructions"

    def hub(self, part: str) -> tuple[str, str | None, str, str | None]:
        return self.dataset, self.config, "train", self.revision  # the only split on the hub

    def problems(self) -> pl.DataFrame:
        """Return all problems; `subject` lists the kinds of instructions in a prompt, `level` is their number."""
        problems: dict[str, dict[str, Any]] = {}
        for where, row in self.rows("test"):
            problem = _problem(where, row)
            if problems.setdefault(problem["problem_id"], problem) is not problem:
                raise ValueError(f"{where}: key {row['key']} is a duplicate; expected one row per key")
        if self.check_rows and len(problems) not in PUBLISHED:
            where = self.dataset if self.path is None else str(self.file("test"))
            raise ValueError(
                f"{where}: ifeval test has {len(problems)} rows; 540 or 541 were published."
                " Get the complete set, or set check_rows: false if the number is intended"
            )
        return pl.DataFrame(list(problems.values()), schema=PROBLEMS)

    def figures(self, graded: pl.DataFrame) -> dict[str, float | int | None]:
        """Return the strict and loose accuracy, by prompt and by instruction."""
        from cos_assets.grading.instructions import ifeval_figures, ifeval_scores

        return ifeval_figures(ifeval_scores(graded))


def _problem(where: str, row: Mapping[str, Any]) -> dict[str, Any]:
    prompt, key, ids, kwargs = (
        text(row, "prompt", where),
        row.get("key"),
        row.get("instruction_id_list"),
        row.get("kwargs"),
    )
    if not isinstance(key, int):
        raise ValueError(f"{where}: 'key' is {key!r}; expected a whole number")
    if not isinstance(ids, list) or not ids or not all(isinstance(name, str) for name in ids):
        raise ValueError(f"{where}: 'instruction_id_list' is {repr(ids)[:60]}; expected a list of names")
    if not isinstance(kwargs, list) or len(kwargs) != len(ids) or not all(isinstance(one, dict) for one in kwargs):
        raise ValueError(f"{where}: 'kwargs' is {repr(kwargs)[:60]}; expected {len(ids)} mappings, one per instruction")
    names = [name.removeprefix("en:") for name in ids]  # prefix in the multilingual copy
    # In the hub's table every instruction has all keywords, most of them null.
    given = [{keyword: value for keyword, value in one.items() if value is not None} for one in kwargs]
    gold = {"prompt": prompt, "instruction_id_list": names, "kwargs": given}
    return {
        "problem_id": f"ifeval/test/{key:05d}",
        "split": "test",
        "question": prompt,
        "answer": json.dumps(gold, ensure_ascii=False),
        "solution": None,
        "level": str(len(names)),
        "subject": ", ".join(sorted({name.partition(":")[0] for name in names})),
        "truth": None,
    }


TASK = Ifeval
