"""The step checker as a judge of the reasoning of samples. It has no cost."""

from __future__ import annotations

import polars as pl

from cos_assets import progress
from cos_assets.judging.methods import Context, Method
from cos_assets.judging.table import Label, table
from cos_assets.tasks import Task

# Raise it when the step checker's rules change, so that stored judgements count as outdated.
JUDGE_VERSION = "2"


def judge(rows: pl.DataFrame, problems: pl.DataFrame, task: Task, name: str = "steps") -> pl.DataFrame:
    """Judge each of `rows` [problem_id, sample_index, completion, correct, weight]; return the schema `table.SCHEMA`.

    Steps are equations, counted from 1. The label is "unreadable" if the checker finds none.
    """
    by_id = {problem["problem_id"]: problem for problem in problems.to_dicts()}
    known: dict[tuple[str, str], Label] = {}
    labels = []
    samples = rows.select("problem_id", "completion").iter_rows()
    for sample in progress.counted("step checking", samples, rows.height, 1000):
        if sample not in known:
            problem_id, text = sample
            check = task.check(by_id[problem_id], text)
            known[sample] = Label(check.label, check.first_wrong_step, check.reason)
        labels.append(known[sample])
    return table(rows, name, JUDGE_VERSION, labels)


class Steps(Method):
    """The task's step checker."""

    version = JUDGE_VERSION

    def judge(self, rows: pl.DataFrame, context: Context) -> tuple[pl.DataFrame, int]:
        return judge(rows, context.problems, context.task, context.name), 0


METHOD = Steps()
