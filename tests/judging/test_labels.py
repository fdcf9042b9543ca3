"""Labels from the page in a real browser to the shown agreement, on a study small enough to count by hand."""

from __future__ import annotations

import csv
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from support.browser import browser

from cos_assets import cli
from cos_assets.judging import labels
from cos_assets.judging.label_page import page as label_page
from cos_assets.judging.label_page import rendered
from cos_assets.storage import catalog, tables

HOSTILE = "<script>document.title = 'run'</script> $\\text{<img src=x onerror=alert(1)>}$"
TEXTS = {
    "wc": "Half of $\\frac{6}{2}$ is 3.\nShe pays $5 and $6.\n#### 7",
    "se": f"3 + 4 = 7. {HOSTILE} The answer is 7.",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four problems; both models solve p0 to p2, only wc solves p3; the judge finds the reasoning of p0 wrong."""
    root = tmp_path / "home"
    facts: dict[str, Any] = {"inputs": [], "facts": {}}
    problems = [{"problem_id": f"p{i}", "question": f"What is {i}?", "answer": "7", "solution": None} for i in range(4)]
    tables.write(root, "s", "problems", None, pl.DataFrame(problems, schema_overrides={"solution": pl.String}), facts)
    for budget, samples in (("low", 1), ("high", 2)):
        for model, text in TEXTS.items():
            where = {"budget": budget, "model": model}
            rows = [
                {"problem_id": f"p{p}", "sample_index": i, "completion": f"{text} ({p}.{i})"}
                for p in range(4)
                for i in range(samples)
            ]
            frame = pl.DataFrame(rows, schema_overrides={"sample_index": pl.Int32})
            tables.write(root, "s", "samples", where, frame, facts)
            right = (pl.lit(model) == "wc") | (pl.col("problem_id") != "p3")
            tables.write(root, "s", "verdicts", where, frame.drop("completion").with_columns(correct=right), facts)
            wrong = pl.col("problem_id") == "p0"
            judged = (
                frame.drop("completion")
                .filter(right, pl.col("sample_index") == 0)
                .with_columns(
                    judge=pl.lit("steps"),
                    label=pl.when(wrong).then(pl.lit("wrong")).otherwise(pl.lit("right")),
                    wrong_reasoning=wrong,
                    correct=pl.lit(True),
                )
            )
            tables.write(root, "s", "judgements", where, judged, facts)
    return root


def cos(root: Path, *arguments: object) -> tuple[int, str]:
    unset = dict.fromkeys(("COS_HOME", "DAGSTER_HOME"))  # restored afterwards
    done = CliRunner(env=unset).invoke(cli.main, ["--home", str(root), *map(str, arguments)])
    return done.exit_code, done.output


def filled(root: Path, file: Path, label: Callable[[str, str], str]) -> Path:
    """The empty file with `label(model, problem_id)` in every row."""
    names = {labels._id("s", m, f"p{p}", i): (m, f"p{p}") for m in TEXTS for p in range(4) for i in range(2)}
    shown = list(csv.DictReader(labels.empty_csv(labels.tasks(root, "s", 10)).splitlines()))
    with file.open("w", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, labels.FIELDS)
        writer.writeheader()
        writer.writerows(row | {"label": label(*names[row["id"]])} for row in shown)
    return file


def test_the_draw_is_paired_and_nested_and_prefers_judged_samples() -> None:
    rows = [(m, f"p{p}", i, i == 1) for m in ("wc", "se") for p in range(30) for i in range(3) if m == "wc" or p < 20]
    pool = pl.DataFrame(rows, ["model", "problem_id", "sample_index", "judged"], orient="row")
    draws = [labels.drawn(pool, n, seed=0) for n in (5, 20, 40)]
    for small, large in itertools.pairwise(draws):
        assert small.join(large, on=small.columns, how="anti").height == 0
    for draw in draws[:2]:
        by_model = draw.group_by("model").agg(pl.col("problem_id").sort(), pl.col("sample_index").unique())
        assert by_model["problem_id"][0].to_list() == by_model["problem_id"][1].to_list()
        assert by_model["sample_index"].to_list() == [[1], [1]]
        assert all(problems.n_unique() == len(problems) for problems in by_model["problem_id"])
    assert labels.drawn(pool.sample(fraction=1, shuffle=True, seed=3), 5, seed=0).equals(draws[0])
    assert not labels.drawn(pool, 5, seed=1).equals(draws[0])


def test_the_page_hides_the_models_and_runs_no_code_of_a_solution(root: Path) -> None:
    shown = labels.tasks(root, "s", 10)
    html = label_page("s", shown)
    assert shown.height == 14 and shown["number"].to_list() == list(range(1, 15))
    assert not {"wc", "se", "model", "budget"} & set(shown.columns)
    assert html.count("<script>") == 1 and "<img" not in html and "<mfrac>" in html
    assert not [
        url for url in ("http://", "https://", "src=") if url in html.replace("http-equiv", "").replace("src=x", "")
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$5 and $6", "$5 and $6"),
        ("a < b & c", "a &lt; b &amp; c"),
        (r"\(x^2\)", "<msup>"),
        (r"$$\frac{1}{2}$$", 'display="block"'),
        (r"$\text{<b onclick=x>}$", "&lt;b onclick=x&gt;"),
        (r"$\href{javascript:alert(1)}{x}$", "<mi>x</mi>"),
        (r"$x^2^3$", r"$x^2^3$"),
    ],
)
def test_maths_is_rendered_and_the_rest_is_escaped(text: str, expected: str) -> None:
    html = rendered(text)
    assert expected in html and "href" not in html.replace("\\href", "") and "<b " not in html


def test_labels_are_validated_stored_and_compared(root: Path, tmp_path: Path) -> None:
    ann = filled(root, tmp_path / "ann.csv", lambda model, problem: "wrong" if problem in ("p0", "p1") else "right")
    code, told = cos(root, "label", "import", ann, "--annotator", "Ann")
    assert code == 0 and "Stored 14 labels of Ann in " in told and "; 0 rows have no label." in told
    # The judge has the first sample of each: both say right 3 (p2 of both models, p3 of wc), p1 only Ann, p0 both.
    assert "both right 3, only the second wrong 0, only the first wrong 2, both wrong 2" in told
    assert "wc, Ann: 0.50" in told and "se, Ann: 0.67" in told and "wc, steps: 0.25" in told
    # The judge catches 2 of 4 wrong ones and passes all right ones: 1/4 of wc and 1/3 of se become twice as many.
    assert "  wc, steps: 0.50 [" in told and "  se, steps: 0.67 [" in told and "errors from 7 labels" in told
    filled(root, ann, lambda model, problem: "wrong" if problem == "p0" else "right")
    code, told = cos(root, "label", "import", ann, "--annotator", "Ann")
    assert "kappa 1.00" in told
    kept = catalog.query(root, "SELECT latest, count(*) AS n FROM labels GROUP BY 1 ORDER BY 1")
    assert kept.rows() == [(False, 14), (True, 14)]
    assert cos(root, "label", "show", "s")[1].strip() == told.partition("\n")[2].strip()


def test_the_report_uses_the_latest_labels_of_its_study(root: Path, tmp_path: Path) -> None:
    sets = [{"budget": budget, "model": model} for budget in ("low", "high") for model in TEXTS]
    judged = tables.scan(root, "s", "judgements", sets).collect()
    assert labels.labelled_here(root, "s", judged).is_empty()
    ann = filled(root, tmp_path / "ann.csv", lambda model, problem: "wrong")
    assert cos(root, "label", "import", ann, "--annotator", "Ann")[0] == 0
    filled(root, ann, lambda model, problem: "wrong" if problem in ("p0", "p1") else "right")
    assert cos(root, "label", "import", ann, "--annotator", "Ann")[0] == 0
    found = labels.labelled_here(root, "s", judged)
    assert found.sort(pl.all()).equals(labels.labelled(labels.opinions(root, "s")).sort(pl.all()))
    counts = found.group_by("judge", "human").len().sort("judge", "human").rows()
    assert counts == [(False, False, 3), (False, True, 2), (True, True, 2)]
    # Two people who disagree on a sample do not count.
    filled(root, ann, lambda model, problem: "right")
    assert cos(root, "label", "import", ann, "--annotator", "Ben")[0] == 0
    assert labels.labelled_here(root, "s", judged)["human"].to_list() == [False] * 3
    assert labels.labelled_here(root, "other", judged).is_empty()


def test_the_later_import_is_used_regardless_of_the_clock(root: Path, tmp_path: Path) -> None:
    """The clock of the machine of the first import is ahead."""
    place, *_ = labels.import_labels(root, filled(root, tmp_path / "1.csv", lambda m, p: "right"), "ann")
    ahead = pl.read_parquet(place).with_columns(imported_at=pl.col("imported_at").str.replace(r"^\d{4}", "2999"))
    place.unlink()
    ahead.write_parquet(place.with_name("2999" + place.name[4:]))
    for said in ("wrong", "unsure"):
        labels.import_labels(root, filled(root, tmp_path / f"{said}.csv", lambda m, p, said=said: said), "ann")
        latest = catalog.query(root, "SELECT DISTINCT label FROM labels WHERE latest")
        assert latest["label"].to_list() == [said]


def test_the_asset_shows_the_agreement_of_raters(root: Path, tmp_path: Path) -> None:
    import dagster as dg

    ann = filled(root, tmp_path / "ann.csv", lambda model, problem: "wrong" if problem in ("p0", "p1") else "right")
    assert cos(root, "label", "import", ann, "--annotator", "Ann")[0] == 0
    with dg.DagsterInstance.from_config(str(root / "dagster")) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["s", "labels"]))
    assert event is not None and event.asset_materialization is not None
    shown = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    assert (shown["labels"], shown["annotators"]) == (14, 1)
    # 5 of 7 agree; by chance 3/7 · 5/7 + 4/7 · 2/7 = 23/49 would.
    assert shown["kappa_Ann_steps"] == pytest.approx((5 / 7 - 23 / 49) / (1 - 23 / 49))
    assert "| Ann | steps | 7 | 4 | 0 |" in shown["agreement"]
    assert "| wc | Ann | 0.500 |" in shown["false_positive_rates"]
    assert "| wc | steps | 0.500 |" in shown["corrected_false_positive_rates"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("right", "maybe", "row 2: label 'maybe' is not allowed; allowed: right, wrong, unsure"),
        ("right,,", "right,1,", "row 2: first_wrong_step '1' is not allowed with label 'right'"),
        ("right,,", "wrong,9,", "row 2: first_wrong_step '9' is not a step of this solution; allowed: 1 to"),
        ("1,s,", "1,t,", "row 2: id '"),
        ("number,study,id,", "number,study,name,", "row 1: column 'id' is missing"),
        (None, "", "row 1: column 'study' is missing"),
    ],
)
def test_an_invalid_row_is_refused_and_nothing_is_stored(
    root: Path, tmp_path: Path, old: str | None, new: str, message: str
) -> None:
    file = filled(root, tmp_path / "x.csv", lambda model, problem: "right")
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(old, new, 1) if old else new, encoding="utf-8")
    code, told = cos(root, "label", "import", file, "--annotator", "Ann")
    assert code == 2 and f"error: {file}: {message}" in told and not (root / "s" / "labels").exists()


def test_a_label_for_a_changed_solution_is_refused(root: Path, tmp_path: Path) -> None:
    file = filled(root, tmp_path / "x.csv", lambda model, problem: "right")
    for model in TEXTS:
        for budget in ("low", "high"):
            data = tables.folder(root, "s", "samples", {"budget": budget, "model": model}) / tables.DATA
            pl.read_parquet(data).with_columns(completion=pl.lit("other")).write_parquet(data)
    code, told = cos(root, "label", "import", file, "--annotator", "Ann")
    assert code == 2 and "row 2: the solution has changed since the export" in told


def test_an_export_overwrites_no_file_and_names_the_allowed_models(root: Path, tmp_path: Path) -> None:
    assert cos(root, "label", "export", "s", "--out", tmp_path)[0] == 0
    assert "this file exists" in cos(root, "label", "export", "s", "--out", tmp_path)[1]
    assert "--model: 'x' has no verdicts; allowed: se, wc" in cos(root, "label", "export", "s", "--model", "x")[1]


def test_labels_entered_by_keyboard_are_downloaded_and_imported(root: Path, tmp_path: Path) -> None:
    assert cos(root, "label", "export", "s", "--n", 2, "--out", tmp_path)[0] == 0
    downloads, url = tmp_path / "downloads", (tmp_path / "s_labels.html").as_uri()
    with browser(tmp_path / "profile") as page:

        def opened() -> None:
            page.open(url, "document.querySelector('section:not([hidden])') !== null")

        page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        opened()
        assert page.run("document.title") == "s: label the reasoning"
        page.press("r", "w", "2", "c", *"odd, step", "Enter", "Enter", "u", "r", "ArrowLeft", "1")
        page.until("document.getElementById('progress').textContent == '3 of 4, 4 labelled'")
        opened()  # the entries are kept
        page.until("document.getElementById('progress').textContent == '3 of 4, 4 labelled'")
        page.press("d")
        for _ in range(300):
            if done := list(downloads.glob("*.csv")):
                break
            time.sleep(0.1)
    rows = list(csv.DictReader(done[0].open(encoding="utf-8")))
    assert [(row["label"], row["first_wrong_step"], row["comment"]) for row in rows] == [
        ("right", "", ""),
        ("wrong", "2", "odd, step"),
        ("wrong", "1", ""),
        ("right", "", ""),
    ]
    code, told = cos(root, "label", "import", done[0], "--annotator", "Ann")
    assert code == 0 and "Stored 4 labels of Ann" in told and "Ann and steps: kappa" in told
