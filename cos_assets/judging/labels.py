"""Human labels: the choice of samples, the import of labels, and the agreement of annotators and judges.

    <root>/<study>/labels/<time>-<id>.parquet      one file per import, never changed

A label belongs to a sample, identified by study, model, problem and index. Budgets share samples, so a label counts for
all budgets. If an annotator labels a sample twice, the later import counts; both are kept.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl

from cos_assets.judging.llm import steps
from cos_assets.metrics.agreement import agreement
from cos_assets.metrics.false_positives import corrected_rate, false_positives
from cos_assets.storage import catalog
from cos_assets.storage.artifacts import mirror
from cos_assets.storage.paths import Place, replace
from cos_assets.storage.schemas import TABLES

LABELS = ("right", "wrong", "unsure")
FIELDS = ("number", "study", "id", "text_hash", "label", "first_wrong_step", "comment")
"""The columns of the file that annotators fill in. `number` is the number of the solution on the page."""

SCHEMA = TABLES["labels"].schema
# The sample's id, which hides its model, and the hash of the text that was shown.
_ID = "left(sha256(concat_ws('/', s.study, s.model, s.problem_id, s.sample_index::VARCHAR)), 16)"
_HASH = "left(sha256(s.completion), 16)"
_STAMP = "%Y%m%dT%H%M%S%f"
_MAX_COMMENT = 2000


class LabelError(ValueError):
    """Raised if labels cannot be exported or imported. The message is one line with the reason."""


def step_of_equation(solution_steps: Sequence[str], equation: int) -> int | None:
    """Return the step that contains an equation, both counted from 1; None if there are fewer equations.

    The step checker counts equations, annotators count steps.
    """
    from cos_assets.grading.equations import read

    found = read("\n".join(solution_steps))  # a formula may span several steps
    if equation > len(found):
        return None
    ends = itertools.accumulate(len(step) + 1 for step in solution_steps)
    return next(number for number, end in enumerate(ends, 1) if found[equation - 1].at < end)


def drawn(candidates: pl.DataFrame, n: int, seed: int) -> pl.DataFrame:
    """Draw at most `n` samples of each model from `candidates` [model, problem_id, sample_index, judged].

    A larger n contains a smaller one. Judged samples come first, so that annotators and judges can be compared. Then
    one sample of each problem comes before a second of any. Among these, problems with candidates of more models come
    first, so that models are compared on the same problems.
    """

    def lot(*name: Any) -> str:
        return hashlib.sha256("/".join(map(str, (seed, *name))).encode()).hexdigest()

    names = candidates.select("problem_id", "sample_index")
    lots = candidates.with_columns(
        lot=pl.Series([lot(*name) for name in names.iter_rows()], dtype=pl.String),
        problem_lot=pl.Series([lot(problem) for problem in names["problem_id"]], dtype=pl.String),
    ).sort("judged", "lot", descending=[True, False])
    nth = lots.with_columns(nth=pl.int_range(pl.len()).over("model", "problem_id"))
    shared = nth.with_columns(models=pl.len().over("problem_id", "nth", "judged"))
    order = shared.sort("judged", "nth", "models", "problem_lot", "model", descending=[True, False, True, False, False])
    return order.group_by("model", maintain_order=True).head(n).select("model", "problem_id", "sample_index")


def tasks(
    root: Place, study: str, n: int, seed: int = 0, budgets: Sequence[str] = (), models: Sequence[str] = ()
) -> pl.DataFrame:
    """Return the samples to label, shuffled: [number, study, id, text_hash, question, answer, solution, text].

    They are drawn from the correct samples, or from all samples if the task has no gold answers. Raises LabelError if
    the study, budget or model has no verdicts (the message lists those that have), or if there is no such sample.
    """
    known_views = views(root)
    if not {"samples", "verdicts", "problems"} <= known_views:
        raise LabelError(f"{study}: has no samples with verdicts; make them with `cos run {study} --select +verdicts`")
    known = catalog.query(root, "SELECT DISTINCT study, budget, model FROM verdicts")
    options = (("STUDY", [study], "study"), ("--budget", budgets, "budget"), ("--model", models, "model"))
    for name, wanted, column in options:
        found = known if column == "study" else known.filter(study=study)
        allowed = sorted(found[column].unique())
        for value in wanted:
            if value not in allowed:
                raise LabelError(f"{name}: {value!r} has no verdicts; allowed: {', '.join(allowed)}")
    where = f"v.study = {quoted(study)} AND coalesce(v.correct, true)"
    for column, values in (("budget", budgets), ("model", models)):
        if values:
            where += f" AND v.{column} IN ({', '.join(map(quoted, values))})"
    key = "model, problem_id, sample_index"
    found = catalog.query(root, f"SELECT DISTINCT {key} FROM verdicts v WHERE {where}")
    judged = found.clear()
    if "judgements" in known_views:
        judged = catalog.query(
            root, f"SELECT DISTINCT {key} FROM judgements WHERE study = {quoted(study)} AND control IS NULL"
        )
    read = judged.with_columns(judged=True)
    found = found.join(read, on=judged.columns, how="left").with_columns(pl.col("judged").fill_null(False))
    if not found.height:
        raise LabelError(f"{study}: there is no correct sample to label")
    keys = drawn(found, n, seed)
    ids = {_id(study, *row): row for row in keys.iter_rows()}
    rows = catalog.query(
        root,
        f"SELECT DISTINCT ON (id) s.study, {_ID} AS id, {_HASH} AS text_hash, p.question, p.answer, p.solution,"
        f" s.completion AS text FROM samples s JOIN problems p USING (study, problem_id)"
        f" WHERE s.study = {quoted(study)} AND id IN ({', '.join(map(quoted, ids))})",
    )
    shuffled = rows.with_columns(
        lot=pl.Series([hashlib.sha256(f"{seed}/page/{i}".encode()).hexdigest() for i in rows["id"]])
    ).sort("lot")
    return shuffled.with_row_index("number", 1).drop("lot")


def empty_csv(shown: pl.DataFrame) -> str:
    """Return the CSV file that annotators fill in, for the samples of `tasks`."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FIELDS)
    writer.writerows([*row, "", "", ""] for row in shown.select(FIELDS[:4]).iter_rows())
    return out.getvalue()


def import_labels(root: Place, file: Path, annotator: str) -> tuple[Place, pl.DataFrame, int]:
    """Check and store a filled-in file.

    Returns the path of the stored file, the labels in the schema `SCHEMA`, and the number of empty rows. All rows are
    checked before anything is written: the sample exists, its text is the one that was labeled, the label is one of
    `LABELS`, and a first wrong step is given for the label `wrong` only and is a step of the solution. Raises
    LabelError with the file and row.
    """
    if not re.fullmatch(r"\w[\w .@-]{0,59}", annotator):
        raise LabelError(
            f"--annotator: {annotator!r} is not allowed; allowed: up to 60 letters, digits, spaces and . @ -"
        )
    rows, empty = _rows(file)
    if not rows:
        raise LabelError(f"{file}: no row has a label")
    known = _known(root, rows)
    out: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for number, row in rows:
        where = f"{file}: row {number}"
        if row["id"] in seen:
            raise LabelError(f"{where}: id {row['id']!r} is a duplicate; the first one is in row {seen[row['id']]}")
        seen[row["id"]] = number
        sample = known.get((row["study"], row["id"]))
        if sample is None:
            raise LabelError(f"{where}: id {row['id']!r} is not a sample of study {row['study']!r} under {root}")
        if row["text_hash"] != sample["text_hash"]:
            raise LabelError(f"{where}: the solution has changed since the export; export it again and label it again")
        step = _step(where, row, len(steps(sample["completion"])))
        if len(row["comment"]) > _MAX_COMMENT:
            raise LabelError(f"{where}: comment has {len(row['comment'])} characters; allowed: at most {_MAX_COMMENT}")
        out.append(
            {key: sample[key] for key in ("study", "model", "problem_id", "sample_index", "text_hash")}
            | {"annotator": annotator, "label": row["label"], "first_wrong_step": step}
            | {"comment": row["comment"] or None}
        )
    frame = pl.DataFrame(out, schema=SCHEMA)
    if len(studies := frame["study"].unique()) > 1:
        raise LabelError(f"{file}: has labels of several studies ({', '.join(sorted(studies))}); allowed: one per file")
    now = _later(root / f"{studies[0]}/labels")
    frame = frame.with_columns(imported_at=pl.lit(now.isoformat()))
    place = root / f"{studies[0]}/labels/{now:{_STAMP}}-{uuid.uuid4().hex[:8]}.parquet"
    replace(place, lambda path: frame.write_parquet(path))
    return place, frame, empty


def _later(folder: Place) -> datetime:
    """Return the current time, or a time just after the last import if a machine with a fast clock wrote that.

    Later imports replace earlier ones, so the times must increase.
    """
    names = [file.name for file in folder.glob("*.parquet")] if isinstance(folder, Path) else list(folder.objects())
    stamps = [name.partition("-")[0] for name in names if name.endswith(".parquet")]
    last = max(stamps, default="")
    now = datetime.now(UTC)
    if last < f"{now:{_STAMP}}":
        return now
    return datetime.strptime(last, _STAMP).replace(tzinfo=UTC) + timedelta(microseconds=1)


def opinions(root: Place, study: str) -> pl.DataFrame:
    """Return the latest labels of all annotators, and the judges' labels of the same samples.

    The columns are [model, problem_id, sample_index, rater, human, label, correct]. `correct` is the verdict on the
    answer (null if there is none). An annotator with the name of a judge gets the suffix " (human)". Raises LabelError
    if there are no labels.
    """
    known_views = views(root)
    if "labels" not in known_views:
        raise LabelError(f"{study}: has no labels; make them with `cos label export` and `cos label import`")
    key = "model, problem_id, sample_index"
    mine = f"study = {quoted(study)}"
    humans = catalog.query(root, f"SELECT {key}, annotator AS rater, label FROM labels WHERE latest AND {mine}")
    said = [humans.with_columns(human=True)]
    if "judgements" in known_views:
        judges = catalog.query(
            root,
            f"SELECT DISTINCT ON (judge, {key}) {key}, judge AS rater, label FROM judgements"
            f" WHERE {mine} AND control IS NULL",
        )
        on = ["model", "problem_id", "sample_index"]
        judges = judges.join(humans.select(on).unique(), on=on, how="semi").with_columns(human=False)
        taken = pl.col("rater").is_in(judges["rater"].unique().to_list())
        renamed = pl.when(taken).then(pl.col("rater") + " (human)").otherwise("rater")
        said = [said[0].with_columns(rater=renamed), judges]
    both = pl.concat(said)
    if "verdicts" not in known_views:
        return both.with_columns(correct=pl.lit(None, pl.Boolean))
    verdicts = catalog.query(
        root,
        f"SELECT DISTINCT ON ({key}) {key}, correct FROM verdicts SEMI JOIN labels USING (study, {key}) WHERE {mine}",
    )
    return both.join(verdicts, on=["model", "problem_id", "sample_index"], how="left")


def summary(said: pl.DataFrame, confidence: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the agreement of pairs of raters, and the false positive rate per model and rater.

    `said` is from `opinions`. Agreement: see `metrics.agreement`. The rates cover the labeled samples with a correct
    answer (or without a verdict) and have the columns [model, rater, value, low, high, n_…].
    """
    humans = said.filter("human")["rater"].unique().to_list()
    pairs = agreement(said.select("model", "problem_id", "sample_index", "rater", "label"), humans, confidence)
    wrong = pl.when(pl.col("label").is_in(["right", "wrong"])).then(pl.col("label") == "wrong")
    answered = said.filter(pl.col("correct").fill_null(True)).with_columns(wrong_reasoning=wrong)
    return pairs, false_positives(answered, confidence, by=["model", "rater"])


def labelled(said: pl.DataFrame) -> pl.DataFrame:
    """Return judge and human labels of the same samples: [rater, problem_id, judge: bool, human: bool], True for wrong.

    `said` is from `opinions`. Samples on which the deciding annotators disagree are left out.
    """
    on = ["model", "problem_id", "sample_index"]
    decided = said.filter(pl.col("label").is_in(["right", "wrong"]), pl.col("correct").fill_null(True))
    people = decided.filter("human").group_by(on).agg(pl.col("label").unique().alias("said"))
    agreed = people.filter(pl.col("said").list.len() == 1)
    both = decided.filter(~pl.col("human")).join(agreed, on=on, maintain_order="left")
    return both.select(
        "rater", "problem_id", judge=pl.col("label") == "wrong", human=pl.col("said").list.first() == "wrong"
    )


def labelled_here(root: Place, study: str, judgements: pl.DataFrame) -> pl.DataFrame:
    """Return `labelled` for the judgements of a study and the currently stored labels; empty if there are no labels."""
    sample = ["model", "problem_id", "sample_index"]
    files = mirror(root / f"{study}/labels", "*.parquet")
    stored = pl.concat([SCHEMA.to_frame(), *(pl.read_parquet(file, hive_partitioning=False) for file in files)])
    latest = stored.sort("imported_at", maintain_order=True).unique([*sample, "annotator"], keep="last")
    people = latest.select(*sample, "label", rater="annotator", human=pl.lit(True), correct=pl.lit(None, pl.Boolean))
    # Budgets share their samples.
    judges = judgements.unique(["judge", *sample], keep="first", maintain_order=True)
    told = judges.select(*sample, "label", rater="judge", human=pl.lit(False), correct="correct")
    return labelled(pl.concat([people, told]))


def corrected(root: Place, study: str, said: pl.DataFrame, confidence: float) -> pl.DataFrame:
    """Return the corrected false positive rate per model and judge: [model, judge, value, low, high, n_labelled].

    The rate covers all samples of the model that the judge has read. It is corrected for the judge's errors on the
    human-labeled samples of all models (`corrected_rate`). `said` is from `opinions`.
    """
    on, known = ["model", "problem_id", "sample_index"], labelled(said)
    rows = []
    for judge in sorted(said.filter(~pl.col("human"))["rater"].unique()):
        errors = known.filter(rater=judge)
        read = catalog.query(
            root,
            f"SELECT DISTINCT ON ({', '.join(on)}) {', '.join(on)}, wrong_reasoning FROM judgements SEMI JOIN"
            f" (FROM verdicts WHERE coalesce(correct, true)) USING (study, {', '.join(on)})"
            f" WHERE study = {quoted(study)} AND judge = {quoted(judge)} AND control IS NULL",
        )
        for (model,), part in read.sort(on).group_by("model", maintain_order=True):
            rows.append([model, judge, *corrected_rate(part, errors, confidence)[:3], errors.height])
    shape = {"model": pl.String, "judge": pl.String, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    table = pl.DataFrame(rows, schema=shape | {"n_labelled": pl.Int64}, orient="row")
    return table.with_columns(pl.col(pl.Float64).fill_nan(None)).sort("model", "judge")


def study_confidence(root: Place, study: str) -> float:
    """Return the confidence that the study's judgements were made with; 0.95 if it has none."""
    known = catalog.query(root, f"SELECT max(confidence) AS found FROM judges WHERE study = {quoted(study)}")
    found: float | None = known["found"].item()
    return found or 0.95


def as_lines(pairs: pl.DataFrame, rates: pl.DataFrame, corrected: pl.DataFrame, confidence: float) -> list[str]:
    """Format the results of `summary` and `corrected` at a confidence as lines of text."""

    def number(row: dict[str, Any], value: str) -> str:
        if row[value] is None:
            return "unknown"
        limits = "" if row["low"] is None else f" [{row['low']:.2f}, {row['high']:.2f}]"
        return f"{row[value]:.2f}{limits}"

    interval = f"{100 * confidence:g} % interval over problems"
    lines = [f"agreement (Cohen's kappa, {interval})"]
    for row in pairs.to_dicts():
        table = (row[f"{x}_{y}"] for x in ("right", "wrong") for y in ("right", "wrong"))
        lines += [
            f"  {row['a']} and {row['b']}: kappa {number(row, 'kappa')}, {row['n_samples']} samples of"
            f" {row['n_problems']} problems, {row['undecided']} undecided",
            "    both right {}, only the second wrong {}, only the first wrong {}, both wrong {}".format(*table),
        ]
    if not pairs.height:
        lines.append("  there is only one rater so far")
    lines.append(f"false positive rate on the labelled samples ({interval})")
    for row in rates.to_dicts():
        lines.append(
            f"  {row['model']}, {row['rater']}: {number(row, 'value')}, {row['n_samples']} samples,"
            f" {row['n_unread']} undecided"
        )
    if corrected.height:
        lines.append("false positive rate of all samples that a judge read, corrected for its errors (Rogan & Gladen)")
    for row in corrected.to_dicts():
        lines.append(
            f"  {row['model']}, {row['judge']}: {number(row, 'value')}, errors from {row['n_labelled']} labels"
        )
    return lines


def _step(where: str, row: dict[str, str], count: int) -> int | None:
    label, text = row["label"], row["first_wrong_step"]
    if label not in LABELS:
        raise LabelError(f"{where}: label {label!r} is not allowed; allowed: {', '.join(LABELS)}")
    if not text:
        return None
    if label != "wrong":
        raise LabelError(f"{where}: first_wrong_step {text!r} is not allowed with label {label!r}; leave it empty")
    if not re.fullmatch(r"[1-9]\d{0,5}", text) or int(text) > count:
        raise LabelError(f"{where}: first_wrong_step {text!r} is not a step of this solution; allowed: 1 to {count}")
    return int(text)


def _rows(file: Path) -> tuple[list[tuple[int, dict[str, str]]], int]:
    """Return the filled-in rows with their numbers (the header is row 1), and the number of empty rows."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise LabelError(f"{file}: cannot be read: {cause}") from None
    head = text.partition("\n")[0]
    # Spreadsheets write semicolons in many locales.
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=";" if head.count(";") > head.count(",") else ",")
    if missing := [name for name in FIELDS[1:] if name not in (reader.fieldnames or ())]:
        raise LabelError(f"{file}: row 1: column {missing[0]!r} is missing; expected: {', '.join(FIELDS)}")
    rows, empty = [], 0
    for found in reader:
        row = {name: (found[name] or "").strip() for name in FIELDS[1:]}
        if row["label"] or row["first_wrong_step"] or row["comment"]:
            rows.append((reader.line_num, row))
        else:
            empty += 1
    return rows, empty


def _known(root: Place, rows: Sequence[tuple[int, dict[str, str]]]) -> dict[tuple[str, str], dict[str, Any]]:
    if "samples" not in views(root):
        raise LabelError(f"COS_HOME: {root} has no samples; set it to the root that the labels were exported from")
    studies, ids = (", ".join(sorted({quoted(row[name]) for _, row in rows})) for name in ("study", "id"))
    found = catalog.query(
        root,
        f"SELECT DISTINCT ON (s.study, id) s.study, s.model, s.problem_id, s.sample_index, s.completion, {_ID} AS id,"
        f" {_HASH} AS text_hash FROM samples s WHERE s.study IN ({studies}) AND id IN ({ids})",
    )
    return {(row["study"], row["id"]): row for row in found.to_dicts()}


def _id(study: str, model: str, problem_id: str, sample_index: int) -> str:
    """Return a sample's id, as `_ID` computes it in SQL."""
    return hashlib.sha256(f"{study}/{model}/{problem_id}/{sample_index}".encode()).hexdigest()[:16]


def views(root: Place) -> set[str]:
    """Return the names of the views that have rows."""
    return catalog.filled(root, "problems", "samples", "verdicts", "judgements", "labels")


def quoted(text: str) -> str:
    """Quote a text as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"
