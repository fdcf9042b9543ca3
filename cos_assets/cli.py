"""The `cos` command: plan and run a study, show its report, query results in SQL, label solutions, open the UI."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from cos_assets.storage.paths import Place

SMOKE = "_smoke"


class _Commands(click.Group):
    """Reports a root or disk that cannot be used in one line, for every command."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            from cos_assets.orchestration.machine_faults import message_of

            message = message_of(error)
            if message is None:
                raise
            _fail(message)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--home", help="Root of all data: a folder or s3://bucket/prefix. Default: $COS_HOME, or else .cos.")
def main(home: str | None) -> None:
    """Compute-optimal sampling: find out which model's solutions to buy with a budget, and how many."""
    if home is not None:
        from cos_assets.storage import paths

        os.environ["COS_HOME"] = str(paths.place(home, "--home"))


@main.command()
@click.argument("study")
@click.option("--select", help="Only these assets: names, or Dagster's selection syntax (`+report`), comma separated.")
@click.option("--budget", multiple=True, help="Only this budget; may be repeated.")
@click.option("--source", multiple=True, help="Only this data source, and the samples it needs; may be repeated.")
@click.option("--again", multiple=True, help="Make this partition (`low|wc`) or asset again; may be repeated.")
@click.option("--jobs", type=click.IntRange(min=1), help="Number of processes. Default: one per core, at most 4.")
@click.option("--dry-run", is_flag=True, help="Print what would be made and why, and make nothing.")
@click.option("--smoke", is_flag=True, help="Run the study's small version, which is named STUDY_smoke.")
@click.option("--from-scratch", is_flag=True, help="Train the tiny models here instead of using the shipped ones.")
def run(
    study: str,
    select: str | None,
    budget: tuple[str, ...],
    source: tuple[str, ...],
    again: tuple[str, ...],
    jobs: int | None,
    dry_run: bool,
    smoke: bool,
    from_scratch: bool,
) -> None:
    """Materialize every missing, stale or damaged partition of STUDY, and print its conclusion.

    --again computes partitions again. It reuses the samples already bought and the models already trained, unless they
    are damaged.
    """
    from rich.console import Console

    started = time.perf_counter()
    if from_scratch:
        os.environ["COS_FROM_SCRATCH"] = "1"
    root, graph = _load()
    from cos_assets.escape import for_terminal
    from cos_assets.grading.cores import usable_cores
    from cos_assets.orchestration import executor, instance
    from cos_assets.orchestration.graph import close_orphans
    from cos_assets.orchestration.selection import named, selected
    from cos_assets.orchestration.terminal import Terminal, due_lines
    from cos_assets.storage import catalog, tables

    study = _known(graph, study + SMOKE if smoke else study)
    try:
        units = selected(graph, study, select, budget, source)
        forced = named(units, again)
    except ValueError as error:
        _fail(str(error))
    console = Console()
    jobs = jobs or min(4, usable_cores())
    with instance.open_instance() as dagster:
        close_orphans(dagster)
        batches = graph.batches(units)
        todo = graph.due(dagster, batches, forced)
        if dry_run and todo:
            click.echo("\n".join(due_lines(study, batches, todo)))
            return
        if not todo:
            console.print(f"{study}: all {len(units)} partitions are up to date; nothing to do.", highlight=False)
            summary = executor.Summary(fresh=len(units))
        else:
            console.print(f"{study}: {len(todo)} of {len(batches)} batches to make, {jobs} at a time", highlight=False)
            log = instance.new_log(study)
            with Terminal(console) as terminal:
                summary = executor.run(graph, dagster, batches, terminal, min(jobs, len(todo)), forced, todo, log)
    catalog.ready(root)
    seconds = time.perf_counter() - started
    if todo:
        console.print(
            f"{summary.made} partitions made, {summary.fresh} up to date, {len(summary.failed)} failed"
            f" in {seconds:.0f} s",
            highlight=False,
        )
    if f"{study}/report" not in summary.failed:
        _answer(root, study)
    elif (page := tables.folder(root, study, "report") / "report.html").is_file():
        click.echo(f"\n{study}: no new conclusion; the report of the last complete run is {_here(page)}")
    for name, reason in summary.failed.items():
        click.echo(for_terminal(f"failed: {name}: {reason}"), err=True)
    if todo and summary.failed:
        click.echo(f"the output of engines and trainings is in {log}", err=True)
    sys.exit(1 if summary.failed else 0)


@main.command()
@click.argument("study")
@click.option("--predict", is_flag=True, help="Buy the pilot, and predict the result of each way to spend a budget.")
def plan(study: str, predict: bool) -> None:
    """Print what the budgets of STUDY would buy, and what that is expected to cost.

    This buys only the pilot, if the study has one. The samples of the pilot count as part of the budgets.
    """
    root, graph = _load()
    from rich.console import Console

    from cos_assets.escape import for_terminal
    from cos_assets.orchestration import executor, instance
    from cos_assets.orchestration.graph import close_orphans
    from cos_assets.orchestration.terminal import Terminal
    from cos_assets.report.plan import plan_lines, prediction_lines
    from cos_assets.storage import tables

    _known(graph, study)
    names = {key.path[-1] for key in graph.keys(study)}
    if predict and "prediction" not in names:
        _fail(f"{study}: --predict needs a pilot and gold answers; add `pilot: {{samples: 4}}` to the study")
    wanted = "+prediction" if predict else "+budget_plan"
    with instance.open_instance() as dagster:
        close_orphans(dagster)
        batches = graph.batches(graph.units(graph.select(study, wanted)))
        with Terminal(Console(stderr=True)) as terminal:
            summary = executor.run(graph, dagster, batches, terminal, 1)
    for name, reason in summary.failed.items():
        click.echo(for_terminal(f"failed: {name}: {reason}"), err=True)
    if summary.failed:
        sys.exit(1)
    facts = (tables.lineage(root, study, "budget_plan") or {})["facts"]
    lines = plan_lines(tables.scan(root, study, "budget_plan").collect(), facts)
    if predict:
        told = (tables.lineage(root, study, "prediction") or {})["facts"]
        lines += ["", *prediction_lines(tables.scan(root, study, "prediction").collect()), "", *told.values()]
    bought = "Only the pilot was bought." if "pilot" in names else "Nothing was bought."
    click.echo("\n".join([*lines, "", bought]))


@main.command()
@click.argument("study", required=False)
def report(study: str | None) -> None:
    """Print the conclusion of STUDY and the path of its report. Without STUDY, write the page of all studies."""
    from cos_assets.report import overview
    from cos_assets.storage import tables

    if study is None:
        click.echo(f"The page of all studies: {_here(overview.build(tables.home()))}")
    elif not _answer(tables.home(), study):
        _fail(f"{study}: this study has no report yet; make it with `cos run {study}`")


@main.command()
@click.argument("query", required=False)
@click.option(
    "-f", "--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file with the query."
)
@click.option("--format", "shape", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@click.option("--list", "listed", is_flag=True, help="List the views and the stored questions.")
@click.option("--build", is_flag=True, help="Write cos.duckdb again, and print its path.")
def sql(query: str | None, file: Path | None, shape: str, listed: bool, build: bool) -> None:
    """Run QUERY on all materialized tables: SQL, a file with SQL, or the name of a stored question (see --list)."""
    import duckdb
    import polars as pl

    from cos_assets.escape import for_spreadsheet, for_terminal
    from cos_assets.storage import catalog, tables

    try:
        text = catalog.meant(query, file)
    except ValueError as error:
        _fail(str(error))
    if listed:
        click.echo("\n".join(catalog.contents()))
    if not (text or listed or build):
        _fail("QUERY: is missing; give SQL, --file, or the name of a stored question (see --list)")
    root = tables.home()
    try:
        if build:
            click.echo(catalog.build(root))
        if not text:
            return
        frame = catalog.query(root, text)
    except duckdb.Error as error:
        _fail(str(error))
    for table in catalog.gone(root, text):
        click.echo(f"warning: {table}: the file of this table is missing; `cos run` makes it again", err=True)
    if shape == "csv":
        click.echo(for_spreadsheet(frame).write_csv(), nl=False)
    elif shape == "json":
        click.echo(frame.write_ndjson(), nl=False)
    else:
        with pl.Config(tbl_rows=100, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=60):
            click.echo(for_terminal(str(frame)))


@main.group()
def label() -> None:
    """Let people label whether the reasoning of solutions is right, and compare them with the judges."""


@label.command("export")
@click.argument("study")
@click.option(
    "--n", "count", type=click.IntRange(min=1), default=50, show_default=True, help="Number of samples per model."
)
@click.option("--budget", multiple=True, help="Samples of this budget only; may be repeated.")
@click.option("--model", multiple=True, help="Samples of this model only; may be repeated.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the choice and order of samples.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=".", show_default=True, help="Output folder."
)
def export_labels(
    study: str, count: int, budget: tuple[str, ...], model: tuple[str, ...], seed: int, out: Path
) -> None:
    """Write STUDY_labels.html, a page for labelling, and STUDY_labels.csv, the same for a spreadsheet.

    Only correct samples are drawn. Samples that a judge has read come first, and one sample of each problem comes
    before a second of any. All models share the same problems. The model that wrote a solution is not shown.
    """
    from cos_assets.judging import labels
    from cos_assets.judging.label_page import page
    from cos_assets.storage import tables

    try:
        shown = labels.tasks(tables.home(), study, count, seed, budget, model)
    except labels.LabelError as error:
        _fail(str(error))
    texts = {".html": page(study, shown), ".csv": labels.empty_csv(shown)}
    files = {out / f"{study}_labels{suffix}": text for suffix, text in texts.items()}
    for file in files:
        if file.exists():
            _fail(f"{file}: this file exists and may contain labels; move it, or give another --out")
    out.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        file.write_text(text, encoding="utf-8")
        click.echo(f"{file}: {shown.height} solutions")
    click.echo("Import the labels with: cos label import FILE.csv --annotator NAME")


@label.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--annotator", required=True, help="Name of the person who labelled.")
def import_labels(file: Path, annotator: str) -> None:
    """Check and store the labels in FILE; print how far annotators and judges agree.

    Earlier imports are kept. If an annotator labels a sample twice, the later import counts.
    """
    from cos_assets.assets import labels as asset
    from cos_assets.judging import labels
    from cos_assets.orchestration import instance

    root = instance.prepare()
    try:
        place, frame, empty = labels.import_labels(root, file, annotator)
    except labels.LabelError as error:
        _fail(str(error))
    study = frame["study"][0]
    click.echo(f"Stored {frame.height} labels of {annotator} in {place}; {empty} rows have no label.")
    with instance.open_instance() as dagster:
        asset.record(dagster, root, study)
    _agreement(study)


@label.command("show")
@click.argument("study")
def show_labels(study: str) -> None:
    """Print how far the annotators and judges of STUDY agree, and the false positive rate by each of them."""
    _agreement(study)


@main.command("verifier-data")
@click.argument("study")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Output folder.")
@click.option("--judge", help="Judge of the samples that no person has labelled; required if there are several.")
def verifier_data(study: str, out: Path, judge: str | None) -> None:
    """Write the labelled samples of STUDY as data for TRL: outcome.jsonl, process.jsonl, preference.jsonl."""
    from cos_assets.judging.labels import LabelError
    from cos_assets.judging.verifier_data import export
    from cos_assets.storage import tables

    try:
        counts = export(tables.home(), study, out, judge)
    except LabelError as error:
        _fail(str(error))
    unused = counts.pop("without_a_step")
    for name, count in counts.items():
        click.echo(f"{out / name}.jsonl: {count} rows")
    click.echo(f"process.jsonl leaves out {unused} samples that were judged wrong without a wrong step")


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def dev(arguments: tuple[str, ...]) -> None:
    """Open the Dagster UI on the same instance (`dagster dev`, with any of its options)."""
    from cos_assets.generation.compute import JOBS
    from cos_assets.orchestration import instance, pools

    instance.prepare()
    os.environ.setdefault(JOBS, "2")  # max_concurrent_runs of dagster.yaml
    if pools.gpus():
        with instance.open_instance():  # sets the limit of the GPU pool
            pass
    os.execvp(sys.executable, [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", *arguments])


def _agreement(study: str) -> None:
    from cos_assets.judging import labels
    from cos_assets.storage import tables

    root = tables.home()
    try:
        said = labels.opinions(root, study)
    except labels.LabelError as error:
        _fail(str(error))
    confidence = labels.study_confidence(root, study)
    found = *labels.summary(said, confidence), labels.corrected(root, study, said, confidence)
    lines = labels.as_lines(*found, confidence)
    click.echo("\n" + "\n".join(lines))


def _load():
    """Return the root and the graph of the code location."""
    from cos_assets.orchestration import instance
    from cos_assets.orchestration.graph import Graph
    from cos_assets.study import StudyError

    root = instance.prepare()
    sys.path.insert(0, str(Path.cwd()))  # finds the project's own defs where the package is installed elsewhere
    try:
        return root, Graph(instance.definitions())
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, StudyError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        _fail(str(cause))


def _known(graph, study: str) -> str:
    from cos_assets.component import UNAVAILABLE

    if study in UNAVAILABLE:
        _fail(UNAVAILABLE[study])
    if study not in graph.studies():
        _fail(f"{study!r} is not a study of this project; allowed: {', '.join(graph.studies())}")
    return study


def _answer(root: Place, study: str) -> bool:
    """Print the answer of a study; return whether there is one."""
    from cos_assets.storage import tables

    place = tables.folder(root, study, "report")
    try:
        answer = (place / "answer.txt").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    click.echo()
    click.echo(answer.rstrip())
    click.echo(f"\nThe report with all figures: {_here(place / 'report.html')}")
    return True


def _here(page: Place) -> Path:
    """Return the local path of a page for a browser; a page on an object store is fetched."""
    from cos_assets.storage import paths

    if isinstance(page, Path):
        return page
    content = page.read_bytes()
    paths.replace(paths.local(page), lambda file: file.write_bytes(content))
    return paths.local(page)


def _fail(message: str) -> NoReturn:
    from cos_assets.escape import for_terminal

    click.echo(f"error: {for_terminal(message)}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
