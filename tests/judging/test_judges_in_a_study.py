"""Studies with a model as judge behind a real HTTP server: requests, bookings, stored judgements, and the effect of the
judge's errors on the false positive rate."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from support.openai_server import Server, judgements

from cos_assets import tasks, tiny
from cos_assets.generation.engines.openai import ENGINE
from cos_assets.generation.generate import Buyer
from cos_assets.generation.model import resolve
from cos_assets.generation.types import Chat, Sampling
from cos_assets.judging import llm
from cos_assets.judging import steps as step_judge
from cos_assets.judging.methods import ModelCall
from cos_assets.judging.table import draw
from cos_assets.judging.verdicts import verdicts
from cos_assets.metrics.controls import corrected_by_controls
from cos_assets.metrics.false_positives import corrected_rate, false_positive_rate
from cos_assets.orchestration import instance
from cos_assets.report.plan import plan_lines
from cos_assets.storage import catalog
from cos_assets.storage import tables as store

Made = Callable[[dict[str, Any]], Path]
TASK = {"name": "arithmetic", "train": 60, "validation": 10, "test": 20}
PROBLEMS = tasks.make(TASK).load()
KEYS = ["problem_id", "sample_index"]
WC, SE = {"budget": "low", "model": "wc"}, {"budget": "low", "model": "se"}


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with Server() as made:
        yield made


@pytest.fixture
def server(shared: Server) -> Server:
    shared.reset(judgements(PROBLEMS, odd=0.06), models=["judge"])
    return shared


def judge(server: Server, **more: Any) -> dict[str, Any]:
    price = {"input": 1.0, "output": 4.0, "date": "2026-11-01"}
    options = {"base_url": server.url}
    return {"model": "judge", "engine": "openai", "params": 1e9, "engine_options": options, "price": price} | more


def attributes(**more: Any) -> dict[str, Any]:
    return {
        "name": "judged",
        "task": TASK,
        "models": {name: {"model": str(tiny.shipped(name))} for name in ("wc", "se")},
        "budgets": {"low": {"se": 2}},
        "sampling": {"temperature": 0.7, "top_k": 3, "max_tokens": 56},
    } | more


def scan(root: Path, table: str, where: dict[str, str], name: str = "judged") -> pl.DataFrame:
    return store.scan(root, name, table, (where,)).collect()


def facts(root: Path, table: str, where: dict[str, str], name: str = "judged") -> dict[str, Any]:
    return (store.lineage(root, name, table, where) or {})["facts"]


def ordinary(judgements: pl.DataFrame) -> pl.DataFrame:
    """The judgements of samples without controls."""
    return judgements.filter(pl.col("control").is_null())


def booked(root: Path) -> pl.DataFrame:
    files = sorted((root / "ledger").rglob("part-*.parquet"))
    return pl.concat([pl.read_parquet(f, hive_partitioning=False) for f in files]).filter(stage="judging")


def test_several_judges_and_a_vote_judge_the_samples_of_a_study(server: Server, materialize: Made) -> None:
    judges = {"model": judge(server), "steps": {}, "both": {"of": ["model", "steps"]}}
    given = attributes(judge={"judges": judges, "samples": 50}, verification="answer+judge")
    root = materialize(given)
    planned = facts(root, "budget_plan", {})["judging"]
    samples = store.scan(root, "judged", "budget_plan").collect()["completions"].sum()
    tokens = (samples + 50) * 1024
    assert planned == {
        "model": {"judgements": samples, "reference_solutions": 50, "tokens": tokens, "flops": 2e9 * tokens}
        | {"cost": pytest.approx(4e-6 * tokens), "currency": "USD"}
    }
    lines = plan_lines(store.scan(root, "judged", "budget_plan").collect(), {**facts(root, "budget_plan", {})})
    assert lines[-1].startswith(
        f"The judge model reads at most {samples:,} samples and 50 reference solutions: at most {tokens:,} tokens, "
    )

    every = scan(root, "judgements", WC)
    told = ordinary(every)
    correct = scan(root, "verdicts", WC).filter("correct").select(KEYS)
    sizes = dict(told["judge"].value_counts().iter_rows())
    assert sizes == {"model": correct.height, "steps": 50, "both": 50}, (
        "a judge used for verification judges all samples"
    )
    labels = {name: told.filter(judge=name).select(*KEYS, "label") for name in judges}
    counts = Counter(labels["model"]["label"])
    assert set(counts) == {"right", "wrong", "refused", "truncated", "unreadable"}
    both = labels["both"].join(labels["model"], on=KEYS, suffix="_model").join(labels["steps"], on=KEYS, suffix="_s")
    agreed = both.filter(pl.col("label_model") == pl.col("label_s"))
    assert (agreed["label"] == agreed["label_model"]).all() and "undecided" in set(both["label"])
    known = facts(root, "judgements", WC)
    assert known["judge"] == "model" and known["judge_version"].startswith(f"{llm.PROMPT_VERSION}/judge-")
    assert all(known[label] == (told["label"] == label).sum() for label in ("refused", "truncated", "undecided"))
    assert {"false_positive_rate", "false_positive_rate_by_steps", "false_positive_rate_by_both_low"} <= set(known)
    assert set(told["first_wrong_step"].drop_nulls()) and told.filter(judge="both")["flops"].sum() == 0

    # Each solution is judged, booked and priced once, with a JSON reply.
    rows, prompts = booked(root), [body["messages"][0]["content"] for body in server.bodies]
    assert len(prompts) == len(set(prompts)) == rows.height
    assert all("Reference answer:" in prompt for prompt in prompts)
    assert {body["response_format"]["json_schema"]["name"] for body in server.bodies} == {"judgement"}
    assert {body["temperature"] for body in server.bodies} == {0.0}
    each = (200 * 1.0 + 40 * 4.0) / 1e6
    assert rows["cost"].to_list() == pytest.approx([each] * rows.height)
    solutions = [scan(root, "samples", where).join(scan(root, "verdicts", where), on=KEYS) for where in (WC, SE)]
    wrong = [scan(root, "judgements", where).filter(judge="model", control="wrong_answer") for where in (WC, SE)]
    distinct = [
        pl.concat([side.filter("correct"), side.join(controls, on=KEYS, how="semi")])
        .select("problem_id", "completion")
        .unique()
        for side, controls in zip(solutions, wrong, strict=True)
    ]
    references = every.filter(judge="model", control="reference").select("problem_id")
    solved = PROBLEMS.join(references, on="problem_id").select("problem_id", completion="solution")
    assert rows.height == pl.concat([*distinct, solved]).unique().height, "both models share the reference solutions"
    assert known["cost"] == pytest.approx(each * pl.concat([distinct[0], solved]).unique().height)

    kept = scan(root, "sft_set", {"budget": "low", "source": "wc"})
    right = labels["model"].filter(label="right").select(KEYS)
    assert kept.height and kept.join(right, on=KEYS, how="anti").is_empty()
    meant = facts(root, "sft_set", {"budget": "low", "source": "wc"})
    assert meant["kept_share"] == pytest.approx(right.height / scan(root, "samples", WC).height)
    verifying = told.filter(judge="model")
    assert meant["kept_wrong_share"] == 0 and meant["verification_cost"] == pytest.approx(verifying["cost"].sum())
    assert meant["verification_flops"] == pytest.approx(verifying["flops"].sum())
    page = (store.folder(root, "judged", "report") / "report.html").read_text(encoding="utf-8")
    assert "whose steps do not follow, by the judge judge." in page

    # Another study of the same samples buys no judgement again.
    asked = len(server.bodies)
    materialize({**given, "name": "again", "verification": "answer+steps", "judge": {"judges": judges}})
    assert len(server.bodies) == asked
    assert facts(root, "judgements", WC, "again")["bought_now"] == 0


def test_every_judge_has_controls_and_they_are_paid_for_once(server: Server, materialize: Made) -> None:
    judges = {"model": judge(server), "steps": {}, "both": {"of": ["model", "steps"]}}
    given = attributes(judge={"judges": judges, "samples": 10}, budgets={"low": {"se": 2}, "high": {"se": 3}})
    root = materialize(given)
    tables = [scan(root, "judgements", {"budget": b, "model": m}) for b in ("low", "high") for m in ("wc", "se")]
    for table in tables:
        controls = {name: table.filter(pl.col("control").is_not_null(), judge=name) for name in judges}
        same = [part.select(*KEYS, "control") for part in controls.values()]
        assert same[0].equals(same[1]) and same[0].equals(same[2])
        sizes = dict(controls["steps"]["control"].value_counts().iter_rows())
        assert sizes["reference"] == 50 and 0 < sizes["wrong_answer"] <= 50
        references = controls["model"].filter(control="reference")
        assert references.select("problem_id", "label").equals(
            tables[0].filter(judge="model", control="reference").select("problem_id", "label")
        )
        assert references["sample_index"].null_count() == references["correct"].null_count() == 50
        # The step checker knows the truth of this task.
        assert controls["steps"]["wrong_reasoning"].eq(controls["steps"]["control"] == "wrong_answer").all()
    prompts = [body["messages"][0]["content"] for body in server.bodies]
    rows = booked(root)
    assert len(prompts) == len(set(prompts)) == rows.height, "a control of several sets is judged once"
    assert set(rows["stage"]) == {"judging"}

    known, told = facts(root, "judgements", WC), tables[0].filter(judge="model", control="reference")
    read = told.drop_nulls("wrong_reasoning")
    assert known["control_reference_solutions"] == 50
    assert known["control_false_alarms"] == pytest.approx(read["wrong_reasoning"].mean())
    assert known["control_false_alarms_low"] < known["control_false_alarms"] < known["control_false_alarms_high"]
    assert known["control_recall"] > 0.5 and known["control_unread"] > 0
    assert known["control_recall_by_steps"] == 1 and known["control_false_alarms_by_steps"] == 0
    assert known["readable_share_by_steps"] == 1
    assert known["corrected_by_controls_low"] <= known["corrected_by_controls"] <= known["corrected_by_controls_high"]
    assert not any(name.startswith("no_false_positive_rate") for name in known)
    page = (store.folder(root, "judged", "report") / "report.html").read_text(encoding="utf-8")
    assert "<td>its controls</td>" in page and "steps on its controls: false alarms 0.0 % [0.0, 7.6], 0 of 50" in page
    text = (store.folder(root, "judged", "report") / "answer.txt").read_text(encoding="utf-8")
    assert "model on its controls: false alarms " in text


def test_only_samples_are_judged_without_controls(server: Server, materialize: Made) -> None:
    root = materialize(attributes(judge=judge(server, controls=0)))
    told, known = scan(root, "judgements", WC), facts(root, "judgements", WC)
    assert told["control"].null_count() == told.height == scan(root, "verdicts", WC)["correct"].sum()
    assert known["false_positive_rate"] is not None and "control_recall" not in known
    assert facts(root, "budget_plan", {})["judging"]["llm"]["reference_solutions"] == 0
    text = (store.folder(root, "judged", "report") / "answer.txt").read_text(encoding="utf-8")
    assert "The errors of the judge llm are unknown, because judge.controls is 0." in text


def test_a_random_judge_gives_no_rate(server: Server, materialize: Made) -> None:
    server.reply = judgements(PROBLEMS, sensitivity=0.5, specificity=0.5)
    judges = {"coin": judge(server), "steps": {}}
    root = materialize(attributes(judge={"judges": judges}, verification="answer+judge"))
    known = facts(root, "judgements", WC)
    why = "this judge cannot tell right from wrong (recall "
    assert known["no_false_positive_rate"].startswith(why)
    assert "false_positive_rate" not in known and "corrected_by_controls" not in known
    assert known["control_false_alarms"] > 0.3 and known["control_recall"] < 0.7
    assert known["false_positive_rate_by_steps"] < 0.2 and "no_false_positive_rate_by_steps" not in known

    # It still selects the training data, and the check reports this.
    right = ordinary(scan(root, "judgements", WC)).filter(judge="coin", label="right")
    assert scan(root, "sft_set", {"budget": "low", "source": "wc"}).join(right, on=KEYS, how="anti").is_empty()
    with instance.open_instance() as opened:
        (check,) = checked(opened, "judge_tells_right_from_wrong", "low|wc")
    assert not check.passed and check.severity.value == "WARN"
    assert {"coin: recall", "coin: false alarms"} <= set(check.metadata)
    assert "coin selects the training data" in check.metadata["examples"].value

    rates = catalog.query(root, catalog.meant("false_positive_rates") or "")
    of_coin, of_steps = (rates.filter(judge=name, model="wc").row(0, named=True) for name in judges)
    assert of_coin["no_rate"].startswith(why) and of_coin["false_positive_rate"] is of_coin["low"] is None
    assert of_coin["corrected_by_controls"] is None and of_coin["false_alarms"] > 0.3
    assert of_steps["no_rate"] is None and of_steps["false_positive_rate"] is not None and of_steps["recall"] == 1
    told = store.scan(root, "judged", "report").collect()
    assert "false_positive_rate" not in set(told["metric"]), "the first judge is used"
    page = (store.folder(root, "judged", "report") / "report.html").read_text(encoding="utf-8")
    assert f"coin gives no false positive rate for wc at low, se at low: {why}" in page
    text = (store.folder(root, "judged", "report") / "answer.txt").read_text(encoding="utf-8")
    assert f"coin gives no false positive rate for wc at low, se at low: {why}" in text
    assert "It still selects the training data (verification)." in text


def checked(opened: dg.DagsterInstance, name: str, partition: str) -> list[dg.AssetCheckEvaluation]:
    """The last result of a check of the judgements of a partition."""
    key = dg.AssetCheckKey(dg.AssetKey(["judged", "judgements"]), name)
    records = opened.event_log_storage.get_asset_check_execution_history(key, limit=20)
    events = [record.event.dagster_event.asset_check_evaluation_data for record in records if record.event]  # type: ignore[union-attr]
    return [event for event in events if event.partition == partition]


def test_every_sample_is_judged_when_gold_answers_are_not_used(server: Server, materialize: Made) -> None:
    root = materialize(attributes(judge=judge(server), verification="judge"))
    assert not any("Reference answer:" in body["messages"][0]["content"] for body in server.bodies)
    every, samples, graded = scan(root, "judgements", WC), scan(root, "samples", WC), scan(root, "verdicts", WC)
    told, controls = ordinary(every), every.filter(pl.col("control").is_not_null())
    again = controls.join(told, on=KEYS, suffix="_sample")
    assert again.height == controls.filter(control="wrong_answer").height, "wrong answers are also verified"
    assert again["label"].to_list() == again["label_sample"].to_list() and again["cost"].sum() == 0
    whole = samples.filter(finish_reason="stop")
    assert told.height == whole.height > graded["correct"].sum()
    assert told.join(graded.filter("correct"), on=KEYS, how="semi")["correct"].all()
    known = facts(root, "judgements", WC)
    assert "without-reference" in known["judge_version"]
    counted = told.filter("correct")
    assert known["false_positive_rate"] == pytest.approx(counted["wrong_reasoning"].mean())
    right = told.filter(label="right")
    meant = facts(root, "sft_set", {"budget": "low", "source": "wc"})
    assert meant["verified"] == right.height
    assert meant["kept_wrong_share"] == pytest.approx(1 - right["correct"].mean())
    assert 0 < meant["kept_wrong_share"] < 1 - graded["correct"].mean()


def test_each_source_uses_its_own_verification(server: Server, materialize: Made) -> None:
    ways = {"studys": None, "judged": "judge", "both": "answer+judge", "steps": "answer+steps", "every": "none"}
    sources = {name: {"take": {"wc": 1.0}, "deduplicate": False, "verification": way} for name, way in ways.items()}
    judges = {"model": judge(server), "steps": {}}
    root = materialize(attributes(judge={"judges": judges}, sources=sources, budgets={"low": {"se": 1}}))
    told = ordinary(scan(root, "judgements", WC))
    samples, graded = scan(root, "samples", WC), scan(root, "verdicts", WC)
    # One source uses no gold answers, so its judge sees none for the other source either.
    assert not any("Reference answer:" in body["messages"][0]["content"] for body in server.bodies)
    right, model = graded.filter("correct"), told.filter(judge="model")
    assert model.height == samples.filter(finish_reason="stop").height
    assert told.filter(judge="steps").height == right.height
    good = {name: told.filter(judge=name, label="right").select(KEYS) for name in ("model", "steps")}
    wanted = {
        "studys": right,
        "judged": good["model"],
        "both": good["model"].join(right, on=KEYS, how="semi"),
        "steps": good["steps"],
        "every": samples,
    }
    paid = {"judged": model, "both": model.filter("correct"), "steps": told.filter(judge="steps")}
    for name, rows in wanted.items():
        where = {"budget": "low", "source": name}
        kept, meant = scan(root, "sft_set", where).select(KEYS), facts(root, "sft_set", where)
        assert sorted(kept.rows()) == sorted(rows.select(KEYS).rows()), name
        assert meant["verification"] == (ways[name] or "answer")
        assert meant.get("verification_cost") == (pytest.approx(paid[name]["cost"].sum()) if name in paid else None)


def test_a_majority_vote_replaces_the_gold_answers(materialize: Made) -> None:
    root = materialize(attributes(verification="vote", budgets={"low": {"se": 5}}))
    graded, where = scan(root, "verdicts", SE), {"budget": "low", "source": "se"}
    meant = facts(root, "sft_set", where)
    votes = graded.filter(pl.col("answer").is_not_null(), pl.col("verdict") != "truncated")
    votes = votes.group_by("problem_id", "answer").agg(pl.len(), right=pl.col("correct").first())
    most = votes.filter(pl.col("len") == pl.col("len").max().over("problem_id"))
    tied = most.filter(pl.len().over("problem_id") > 1)["problem_id"].unique()
    kept = most.filter(~pl.col("problem_id").is_in(tied.to_list()))
    assert meant["tied_problems"] == len(tied) > 0
    assert meant["verified"] == kept["len"].sum()
    assert meant["kept_wrong_share"] == pytest.approx(kept.filter(~pl.col("right"))["len"].sum() / kept["len"].sum())
    assert meant["kept_wrong_share"] < 1 - graded["correct"].mean()
    assert set(scan(root, "sft_set", where)["problem_id"]) == set(kept["problem_id"])
    by_judge = catalogue_rate(root)
    assert by_judge == {
        ("low", model, "steps"): pytest.approx(facts(root, "judgements", at)["false_positive_rate"])
        for model, at in (("wc", WC), ("se", SE))
    }


def catalogue_rate(root: Path) -> dict[tuple[str, str, str], float]:
    """The query of docs/judging.md."""
    text = (Path(__file__).parents[2] / "docs" / "judging.md").read_text(encoding="utf-8")
    query = text.partition("```sql\n")[2].partition("```")[0]
    catalog.build(root)
    return {row[:3]: row[3] for row in catalog.query(root, query).rows()}


def test_an_unavailable_judge_is_refused_before_a_purchase(server: Server, materialize: Made, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"judge llm: .*'another'"):
        materialize(attributes(judge=judge(server, model="another")))
    assert not list(tmp_path.rglob("part-*.parquet"))


def test_a_cap_stops_judging(server: Server, materialize: Made) -> None:
    models = {
        name: {"model": str(tiny.shipped(name)), "price": {"output": 0.001, "date": "2026-11-01"}}
        for name in ("wc", "se")
    }
    with pytest.raises(AssertionError, match=r"cap\.cost: .* completions for judging with llm"):
        materialize(attributes(models=models, judge=judge(server), cap={"cost": 0.02}))


def by_the_server(server: Server, rows: pl.DataFrame, problems: pl.DataFrame, home: Path) -> pl.DataFrame:
    """The server's judgements of rows [problem_id, sample_index, completion, correct, weight]."""
    server.reset(judgements(problems))
    options = ENGINE.json_options(Chat(), {"base_url": server.url, "concurrency": 16}, llm.RESPONSE_FORMAT)
    model = resolve("judge", engine="openai", chat=Chat(), options=options)
    buyer = Buyer(home, "population", "judging")
    return llm.judge(rows, problems, ModelCall(model, Sampling(temperature=0), buyer, None), True, "llm")[0]


@pytest.fixture(scope="module")
def population(shared: Server, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """Some thousand correct solutions of the built-in task, judged by the server (`wrong_reasoning`), and the labels of
    the step checker, which is the truth here (`truth`). A third of the problems induces wrong reasoning."""
    task = tasks.make({"name": "arithmetic", "train": 600, "validation": 1, "test": 1})
    problems = task.load().filter(pl.col("split") == "train")
    rng = np.random.default_rng(0)
    rows = []
    for at, problem in enumerate(problems.to_dicts()):
        tempting = 0.5 if at % 3 == 0 else 0.05
        number = json.loads(problem["truth"])["literals"][0]
        for index in range(int(rng.integers(1, 9))):
            # Unnecessary steps make solutions differ; a false one makes the reasoning wrong but not the answer.
            false = rng.random() < tempting
            steps = f"{number} + {number} = {2 * number} . " * index
            steps += f"{number} + {number} = {2 * number + 1} . " * false
            rows.append((problem["problem_id"], index, f"{steps}{problem['solution']}", "stop"))
    columns = ["problem_id", "sample_index", "completion", "finish_reason"]
    samples = pl.DataFrame(rows, schema=columns, orient="row").cast({"sample_index": pl.Int32})
    graded = verdicts(samples, problems, task).select(*KEYS, "correct")
    pool = draw(samples.join(graded, on=KEYS, maintain_order="left").filter("correct"), None, 0)
    truth = step_judge.judge(pool, problems, task).select(*KEYS, truth=pl.col("wrong_reasoning"))
    told = by_the_server(shared, pool, problems, tmp_path_factory.mktemp("home"))
    return told.join(truth, on=KEYS, maintain_order="left")


@pytest.fixture(scope="module")
def controls(shared: Server, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The server's judgements of every problem's reference solution, and of a solution with a wrong answer."""
    task = tasks.make({"name": "arithmetic", "train": 600, "validation": 1, "test": 1})
    problems = task.load().filter(pl.col("split") == "train")
    wrong = pl.col("solution") + " " + pl.col("answer") + " + 1 = " + pl.col("answer") + " . The answer is 0 ."
    made = {"reference": pl.col("solution"), "wrong_answer": wrong}
    rows = [
        problems.select("problem_id", completion=text, control=pl.lit(kind), sample_index=pl.lit(None, pl.Int32))
        for kind, text in made.items()
    ]
    empty = {"correct": pl.lit(None, pl.Boolean), "weight": pl.lit(None, pl.Float64)}
    return by_the_server(shared, pl.concat(rows).with_columns(**empty), problems, tmp_path_factory.mktemp("home"))


def test_the_corrected_rate_removes_the_errors_of_the_judge(population: pl.DataFrame, controls: pl.DataFrame) -> None:
    """200 studies with different problems: 250 problems drawn with replacement, one judged sample of each; 100 other
    samples labelled by people (the truth), or 50 controls of each kind."""
    whole = population["truth"].mean()
    wrong, right = population.filter("truth"), population.filter(~pl.col("truth"))
    assert population.height > 2500 and 0.05 < whole < 0.3  # type: ignore[operator]
    assert wrong["wrong_reasoning"].mean() == pytest.approx(0.8, abs=0.05)
    assert right["wrong_reasoning"].mean() == pytest.approx(0.1, abs=0.03)
    by_problem = population.partition_by("problem_id", maintain_order=True)
    judged, truth = ([part[name].to_numpy() for part in by_problem] for name in ("wrong_reasoning", "truth"))
    ids = [part["problem_id"][0] for part in by_problem]
    sizes = np.array([part.height for part in by_problem])
    kinds = [controls.filter(control=kind) for kind in ("reference", "wrong_answer")]
    held = by_controls = naive = 0
    for repetition in range(200):
        rng = np.random.default_rng(repetition)
        drawn = rng.integers(len(ids), size=250)
        read = pl.DataFrame(
            {
                "problem_id": [f"{place}" for place in range(250)],
                "wrong_reasoning": [judged[at][rng.integers(sizes[at])] for at in drawn],
                "weight": sizes[drawn].astype(float),
            }
        )
        where = rng.choice(len(ids), size=100, p=sizes / sizes.sum())
        one = [(at, rng.integers(sizes[at])) for at in where]
        labelled = pl.DataFrame(
            {
                "problem_id": [ids[at] for at, _ in one],
                "judge": [judged[at][i] for at, i in one],
                "human": [truth[at][i] for at, i in one],
            }
        )
        found, plain = corrected_rate(read, labelled), false_positive_rate(read)
        held += found.low <= whole <= found.high  # type: ignore[operator]
        naive += plain.low <= whole <= plain.high  # type: ignore[operator]
        known = pl.concat([kind.sample(50, seed=repetition) for kind in kinds])
        by_them = corrected_by_controls(read, known)
        by_controls += by_them.low <= whole <= by_them.high  # type: ignore[operator]
    assert by_controls >= 180, f"the rate corrected by controls held the truth {by_controls} times of 200"
    assert held >= 180, f"the corrected rate held the truth {held} times of 200"
    assert naive < 180, "the test requires that the uncorrected rate is biased"
    print(f"held {held} of 200, by controls {by_controls}, uncorrected {naive}")
