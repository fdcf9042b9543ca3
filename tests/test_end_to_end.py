"""The smoke study by `cos run`, by Dagster's API, and with kills."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import polars as pl
import psutil
import pytest

from cos_assets.storage import catalog
from cos_assets.storage.schemas import TABLES
from cos_assets.storage.tables import content_hash, scan
from cos_assets.training import checkpoints

ROOT = Path(__file__).parents[1]
STUDY = "demo_smoke"


def environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COS_", "DAGSTER_"))}
    return kept | {"COS_HOME": str(home)}


def cos(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cos_assets.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(home), capture_output=True, text=True)


def hashes(home: Path) -> dict[str, str]:
    """The content hash of every table of the study and of its models, by path."""
    files = [*home.glob(f"{STUDY}/**/data.parquet"), *home.glob("tiny/**/data.parquet")]
    return {
        str(file.relative_to(home)): content_hash(pl.read_parquet(file, hive_partitioning=False))
        for file in sorted(files)
    }


def ledger(home: Path) -> pl.DataFrame:
    files = sorted(home.glob("ledger/**/part-*.parquet"))
    return pl.concat([pl.read_parquet(file).with_columns(place=pl.lit(str(file.parent))) for file in files])


def bought_twice(home: Path) -> int:
    rows = ledger(home)
    return rows.height - rows.select("place", "prompt_hash", "sample_index").n_unique()


@pytest.fixture(scope="module")
def undisturbed(smoke_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(smoke_home, tmp_path_factory.mktemp("undisturbed") / "home")


def test_the_run_prints_an_answer_and_writes_a_report(undisturbed: Path) -> None:
    output = (undisturbed / "output.txt").read_text()
    for budget in ("low", "high"):
        assert re.search(rf"^.*\b{budget}\b.*(better buy|cannot tell)", output, re.MULTILINE), output
    page = (undisturbed / STUDY / "report" / "report.html").read_text()
    assert "<svg" in page
    report = scan(undisturbed, STUDY, "report").collect()
    assert set(report["metric"]) >= {"coverage", "diversity", "false_positive_rate", "accuracy"}
    assert (report["low"] <= report["high"]).all()


def test_every_table_is_written(undisturbed: Path) -> None:
    tables = hashes(undisturbed)
    by_model = [f"budget={b}/model={m}" for b in ("low", "high") for m in ("wc", "se")]
    by_source = [f"budget={b}/source={s}" for b in ("low", "high") for s in ("wc", "se", "gt")]
    whole = ("problems", "budget_plan", "base_eval", "ablations", "report")
    expected = {f"{STUDY}/{name}/data.parquet" for name in whole}
    for name in ("samples", "verdicts", "sample_metrics", "judgements"):
        expected |= {f"{STUDY}/{name}/{part}/data.parquet" for part in by_model}
    for name in ("sft_set", *(f"{t}_{kind}" for t in ("student", "wc", "se") for kind in ("checkpoint", "eval"))):
        expected |= {f"{STUDY}/{name}/{part}/data.parquet" for part in by_source}
    expected |= {f"tiny/{role}_checkpoint/data.parquet" for role in ("student", "wc", "se")}
    assert set(tables) == expected


def test_the_budget_is_matched(undisturbed: Path) -> None:
    plan = scan(undisturbed, STUDY, "budget_plan").collect()
    bought = dict(plan.select(pl.format("{} {}", "budget", "model"), "samples").iter_rows())
    assert bought == {"low wc": 3, "low se": 1, "high wc": 12, "high se": 4}  # P_SE / P_WC = 3.06
    samples = pl.read_parquet(undisturbed / STUDY / "samples/**/*.parquet", hive_partitioning=False)
    counts = samples.group_by("budget", "model", "problem_id").len()
    assert dict(counts.select(pl.format("{} {}", "budget", "model"), "len").unique().iter_rows()) == bought


def test_nothing_is_bought_twice(undisturbed: Path) -> None:
    assert bought_twice(undisturbed) == 0
    # The larger budget starts from the smaller one: 12 samples a problem in all, not 3 + 12.
    per_model = ledger(undisturbed).filter(pl.col("stage") == "sampling").group_by("place").len()["len"]
    assert sorted(per_model) == [60 * 4, 60 * 12]


def test_plan_prints_the_purchase_and_buys_nothing(tmp_path: Path) -> None:
    told = cos(tmp_path, "plan", STUDY)
    assert told.returncode == 0, told.stderr
    rows = [line.replace("≤ ", "≤").split() for line in told.stdout.splitlines()]
    assert ["low", "wc", "3", "3.06", "-1.9%", "180", "≤10,080", "≤2.35e+09", "–"] in rows
    assert ["high", "se", "4", "4.00", "+0.0%", "240", "≤13,440", "≤9.58e+09", "–"] in rows
    assert "Matched by flops, by the nominal rule, which assumes solutions of equal length." in told.stdout
    assert told.stdout.endswith("Nothing was bought.\n")
    assert not list(tmp_path.glob("ledger/**/*.parquet"))


def test_plan_completes_a_partial_plan(tmp_path: Path) -> None:
    assert cos(tmp_path, "run", "demo", "--smoke", "--select", "problems").returncode == 0
    told = cos(tmp_path, "plan", STUDY)
    assert told.returncode == 0 and "Matched by flops" in told.stdout, told.stderr
    refused = cos(tmp_path, "plan", STUDY, "--predict")
    assert refused.returncode == 2 and "add `pilot: {samples: 4}`" in refused.stderr


def test_a_second_run_does_nothing(undisturbed: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in undisturbed.rglob("data.parquet")}
    done = cos(undisturbed, "run", "demo", "--smoke")
    assert done.returncode == 0
    assert "nothing to do" in done.stdout
    assert {file: file.stat().st_mtime_ns for file in undisturbed.rglob("data.parquet")} == before


def zero(folder: Path) -> None:
    """Overwrite half of the bytes of the weights with 0."""
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    file.write_bytes(data)


def test_a_damaged_model_is_trained_again_with_the_same_conclusion(undisturbed: Path) -> None:
    before, rows = hashes(undisturbed), ledger(undisturbed).height
    answer = (undisturbed / STUDY / "report" / "answer.txt").read_text()
    table = scan(undisturbed, STUDY, "student_checkpoint", [{"budget": "low", "source": "wc"}]).collect()
    path, digest = table["path"].item(), table["hash"].item()
    zero(undisturbed / path)
    with pytest.raises(ValueError, match="files of this model differ from those in its table; `cos run` makes"):
        checkpoints.fetched(undisturbed, path, digest)
    done = cos(undisturbed, "run", "demo", "--smoke")
    assert done.returncode == 0 and "partitions made" in done.stdout, done.stderr
    assert (hashes(undisturbed), ledger(undisturbed).height) == (before, rows)
    assert (undisturbed / STUDY / "report" / "answer.txt").read_text() == answer

    shutil.rmtree(undisturbed / path)
    sql = cos(undisturbed, "sql", "SELECT count(*) AS n FROM samples", "--format", "csv")
    assert sql.stdout.startswith("n\n") and not sql.stderr
    assert cos(undisturbed, "run", "demo", "--smoke").returncode == 0
    assert (hashes(undisturbed), ledger(undisturbed).height) == (before, rows)


def test_the_false_positive_rate_equals_that_of_the_generator(undisturbed: Path) -> None:
    """A correct sample is a false positive if its equations, with the numbers of the problem replaced, no longer
    give the answer of the gold program: recomputed here from the samples alone."""
    from cos_assets.grading.steps import check_program

    rows = pl.read_parquet(undisturbed / STUDY / "judgements/**/*.parquet", hive_partitioning=False)
    samples = pl.read_parquet(undisturbed / STUDY / "samples/**/*.parquet", hive_partitioning=False)
    problems = scan(undisturbed, STUDY, "problems").collect()
    keys = ["budget", "model", "problem_id", "sample_index"]
    references = rows.filter(control="reference")
    joined = rows.join(samples, on=keys).join(problems, on="problem_id")
    assert joined.height == rows.height - references.height > 300
    assert references.height == 4 * 50 and set(references["label"]) == {"right"}
    for label, truth, text in joined.select("label", "truth", "completion").iter_rows():
        assert check_program(truth, text).label == label


@pytest.fixture(scope="module")
def by_api(tmp_path_factory: pytest.TempPathFactory, undisturbed: Path) -> Iterator[Path]:
    """The study by Dagster's API in this process, partition by partition, in another order."""
    import dagster as dg
    import torch

    home = tmp_path_factory.mktemp("by_api")
    checks: list[tuple[str, bool]] = []
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("COS_", "DAGSTER_"))]:
            patch.delenv(name)
        patch.setenv("COS_HOME", str(home))
        patch.chdir(ROOT)
        from dagster_project.definitions import defs

        definitions = defs()
        with dg.DagsterInstance.ephemeral(tempdir=str(home / "dagster")) as instance:
            job = definitions.resolve_implicit_global_asset_job_def()

            def make(names: list[str], partition: str | None = None) -> None:
                keys = [dg.AssetKey(name.split("/")) for name in names]
                done = job.execute_in_process(instance=instance, asset_selection=keys, partition_key=partition)
                checks.extend(
                    (e.asset_key.path[-1], e.check_name, e.passed) for e in done.get_asset_check_evaluations()
                )

            own = lambda *names: [f"{STUDY}/{name}" for name in names]  # noqa: E731
            make([f"tiny/{role}_checkpoint" for role in ("se", "wc", "student")])
            make(own("problems", "budget_plan"))
            for partition in ("high|se", "low|wc", "high|wc", "low|se"):
                make(own("samples"), partition)
                make(own("verdicts", "sample_metrics", "judgements"), partition)
            targets = ("se", "wc", "student")
            for partition in ("high|gt", "low|se", "high|wc", "low|gt", "high|se", "low|wc"):
                make(own("sft_set", *(f"{t}_{kind}" for t in targets for kind in ("checkpoint", "eval"))), partition)
            make(own("base_eval", "ablations", "report"))
        (home / "checks.json").write_text(json.dumps(sorted(set(checks))))
        yield home
    torch.set_num_threads(threads)


def test_dagsters_api_gives_the_same_tables(undisturbed: Path, by_api: Path) -> None:
    assert hashes(by_api) == hashes(undisturbed)
    report = Path(STUDY) / "report" / "report.html"
    assert (by_api / report).read_bytes() == (undisturbed / report).read_bytes()


def test_every_asset_has_its_checks_and_they_pass(by_api: Path) -> None:
    held = {
        "problems": ["splits_are_disjoint"],
        "samples": [
            "every_sample_is_complete",
            "few_completions_are_truncated",
            "repeats_are_numbered",
            "repeats_differ",
        ],
        "verdicts": [
            "every_answer_is_graded",
            "few_answers_are_unreadable",
            "few_answers_defeat_the_grader",
            "verdicts_add_up",
        ],
        "sample_metrics": ["coverage_is_monotonic"],
        "judgements": ["every_judged_sample_is_read", "judge_tells_right_from_wrong"],
        "sft_set": ["no_scored_problem_is_trained_on", "there_are_rows_to_train_on"],
        "report": ["budgets_are_matched"],
        "budget_plan": [],
        "ablations": [],
    }
    answered = ["few_answers_are_unreadable", "few_answers_defeat_the_grader", "few_completions_are_truncated"]
    held |= {f"{target}_checkpoint": ["loss_covers_the_completion"] for target in ("se", "wc", "student")}
    held |= {f"{target}_eval": answered for target in ("se", "wc", "student")}
    held["base_eval"] = [*answered, "every_target_has_its_control"]
    for asset, names in held.items():
        names += ["inputs_are_sound"] if asset != "problems" else []
    wanted = sorted([asset, name, True] for asset, names in held.items() for name in set(names))
    assert json.loads((by_api / "checks.json").read_text()) == wanted


LOW = ("run", "demo", "--smoke", "--budget", "low", "--jobs", "2")


def start(home: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "cos_assets.cli", *LOW]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def kill_when(process: subprocess.Popen, moment: Callable[[], bool]) -> None:
    """Send SIGKILL as soon as `moment` is true, without cleanup."""
    while not moment():
        assert process.poll() is None, "it ended before the moment came"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1.5)  # its workers end within half a second


def test_a_run_killed_several_times_ends_with_the_same_tables(tmp_path: Path, undisturbed: Path) -> None:
    moments: dict[str, Callable[[], bool]] = {
        "sampling": lambda: any(tmp_path.glob("ledger/*/*/.lock")),
        "training": lambda: any(tmp_path.glob("checkpoints/*/*/lr-*")),
        "choosing": lambda: len(list(tmp_path.glob("checkpoints/*/DONE.json"))) >= 2,
    }
    for moment in moments.values():
        kill_when(start(tmp_path), moment)
    done = cos(tmp_path, *LOW)
    assert done.returncode == 0, done.stdout + done.stderr
    whole, ours = hashes(undisturbed), hashes(tmp_path)
    assert ours == {table: whole[table] for table in ours}
    assert {table for table in whole if "budget=low" in table} <= ours.keys()
    assert bought_twice(tmp_path) == 0
    runs = cos(tmp_path, *LOW)
    assert "nothing to do" in runs.stdout


def kill_buyer(run: subprocess.Popen) -> None:
    """Kill the worker of a run that is buying samples, as the system does when memory runs out."""
    while True:
        assert run.poll() is None, "it ended before the worker was killed"
        for worker in psutil.Process(run.pid).children():
            with suppress(psutil.Error):
                if any(re.search("ledger/.*/.lock$", file.path) for file in worker.open_files()):
                    worker.kill()
                    worker.wait()
                    return
        time.sleep(0.02)


@pytest.mark.parametrize("times", [1, 2])
def test_a_partition_whose_worker_was_killed_runs_once_more_alone(times: int, tmp_path: Path) -> None:
    wanted = ("--select", "+samples")
    command = [sys.executable, "-m", "cos_assets.cli", *LOW, *wanted]
    run = subprocess.Popen(command, cwd=ROOT, env=environment(tmp_path), stdout=subprocess.PIPE, text=True)
    kill_buyer(run)
    if times == 2:
        while len(list(tmp_path.glob(f"{STUDY}/samples/*/*/data.parquet"))) < 1:  # the other one goes on
            time.sleep(0.02)
        kill_buyer(run)
    out = run.communicate()[0]
    assert "its process was killed, probably because memory ran out; it runs again when nothing else does" in out
    assert run.returncode == (0 if times == 1 else 1), out
    assert ("the worker process was killed, probably because memory ran out; its output is in" in out) == (times == 2)
    again = cos(tmp_path, *LOW, *wanted)
    assert again.returncode == 0, again.stdout + again.stderr
    assert ("nothing to do" in again.stdout) == (times == 1)
    assert bought_twice(tmp_path) == 0


def test_a_failed_partition_does_not_stop_the_others(tmp_path: Path, undisturbed: Path) -> None:
    # A file has the path of one finetuned model's folder, so its training fails; everything else continues.
    wanted = scan(undisturbed, STUDY, "wc_checkpoint", [{"budget": "low", "source": "se"}]).collect()
    place = tmp_path / Path(wanted["path"].item()).parent
    place.parent.mkdir(parents=True)
    place.write_text("in the way")
    done = cos(tmp_path, "run", "demo", "--smoke", "--budget", "low", "--source", "se", "--jobs", "1")
    assert done.returncode == 1
    assert f"{STUDY}/wc_checkpoint low|se" in done.stderr
    made = {table.split("/")[1] for table in hashes(tmp_path) if "source=se" in table}
    assert made == {"sft_set", "student_checkpoint", "student_eval", "se_checkpoint", "se_eval"}
    assert not list(tmp_path.glob(f"{STUDY}/*/budget=high"))
    place.unlink()
    again = cos(tmp_path, "run", "demo", "--smoke", "--budget", "low", "--source", "se", "--jobs", "1")
    assert again.returncode == 0, again.stderr
    ours = hashes(tmp_path)
    assert ours == {table: digest for table, digest in hashes(undisturbed).items() if table in ours}


def test_lineage_of_a_second_round_reaches_the_first_problems(tmp_path: Path, undisturbed: Path) -> None:
    home = shutil.copytree(undisturbed, tmp_path / "home")
    second = STUDY.replace("demo", "demo_round2")
    wanted = ("--select", "+wc_checkpoint", "--budget", "low", "--source", "wc", "--jobs", "1")
    done = cos(home, "run", second, *wanted)
    assert done.returncode == 0, done.stdout + done.stderr
    assert hashes(home) == hashes(undisturbed), "the first round is unchanged"
    first = scan(home, STUDY, "wc_checkpoint", [{"budget": "high", "source": "wc"}]).collect()
    trained = scan(home, second, "wc_checkpoint", [{"budget": "low", "source": "wc"}]).collect()
    assert trained["base"].item() == first["path"].item()
    bought = ledger(home).filter(study=second, stage="sampling")
    assert bought["model_id"].unique().to_list() == [str(home / first["path"].item())]
    query = (ROOT / "sql" / "analysis" / "lineage_of_a_checkpoint.sql").read_text(encoding="utf-8")
    catalog.build(home)
    made_of = catalog.query(home, query).filter(checkpoint=f"{second}/wc_checkpoint", checkpoint_partition="low|wc")
    assets = set(made_of["input_asset"])
    assert {f"{second}/samples", f"{STUDY}/wc_checkpoint", f"{STUDY}/samples", f"{STUDY}/problems"} <= assets
    assert "tiny/wc_checkpoint" in assets


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "nothing"],
            "'nothing' is not a study of this project; allowed: demo, demo_ablations, demo_ablations_smoke",
        ),
        (["run", "demo", "--budget", "huge"], "--budget 'huge': allowed are low, high"),
        (["run", "demo", "--source", "mix"], "--source 'mix': allowed are wc, se, gt"),
        (["run", "demo", "--select", "sample"], "--select 'sample'"),
        (["report", "demo"], "demo: this study has no report yet; make it with `cos run demo`"),
    ],
)
def test_an_unknown_name_is_refused_with_the_allowed_ones(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = cos(tmp_path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_every_query_runs_on_the_smoke_study(undisturbed: Path, tmp_path: Path) -> None:
    query = "SELECT model, count(*) AS samples FROM samples WHERE budget = 'high' GROUP BY model ORDER BY model"
    by_hand = tmp_path / "by hand.sql"
    by_hand.write_text(query)
    for asked in ([query], [str(by_hand)], ["--file", str(by_hand)]):
        done = cos(undisturbed, "sql", *asked, "--format", "csv")
        assert done.stdout == "model,samples\nse,240\nwc,720\n", done.stderr
    done = cos(undisturbed, "sql", "better_buy", "--format", "json")
    assert [json.loads(line)["budget"] for line in done.stdout.splitlines()] == ["high", "low"]
    # There are no labels, one judge and no pilot, no drawn answers and no truncated ones, and both
    # graders agree.
    empty = {"agreement", "judge_disagreements", "pilot_against_outcome", "finetuned_scores", "truncated_completions"}
    empty |= {"grader_disagreements"}
    for file in catalog.questions():
        rows = catalog.query(undisturbed, file.read_text(encoding="utf-8")).height
        assert (rows == 0) == (file.stem in empty), f"{file.stem}: {rows} rows"


def test_tables_have_the_columns_of_their_views(undisturbed: Path, tmp_path: Path) -> None:
    for name in TABLES:
        ask = f"DESCRIBE {name}"
        assert catalog.query(undisturbed, ask).equals(catalog.query(tmp_path, ask)), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.sql"], "error: none.sql: there is no such file"),
        ([], "error: QUERY: is missing; give SQL, --file, or the name of a stored question (see --list)"),
        (["SELECT 1", "--file", __file__], "error: give QUERY or --file, not both"),
    ],
)
def test_an_invalid_query_is_refused_in_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = cos(tmp_path, "sql", *arguments)
    assert (done.returncode, done.stderr.strip()) == (2, message)


def test_sql_list_shows_views_and_queries(tmp_path: Path) -> None:
    done = cos(tmp_path, "sql", "--list")
    assert done.returncode == 0
    assert not list(tmp_path.iterdir()), "nothing is made"
    shown = {name: table.holds for name, table in TABLES.items()}
    shown |= {file.stem: catalog.head(file)[0] for file in catalog.questions()}
    for name, text in shown.items():
        assert re.search(rf"^  {name} +{re.escape(text)}$", done.stdout, re.MULTILINE), name
    done = cos(tmp_path, "sql", "--build")
    assert done.stdout == f"{tmp_path / catalog.NAME}\n"
