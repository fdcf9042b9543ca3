"""Every view and every analysis query on a study small enough to count by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cos_assets.assets.judgements import rate_facts
from cos_assets.judging.controls import controls_of
from cos_assets.judging.labels import study_confidence
from cos_assets.judging.rates import JudgeRate, rate_of
from cos_assets.judging.table import of_judge
from cos_assets.storage import catalog, tables
from cos_assets.storage.schemas import TABLES

LOW = {"budget": "low"}
# Problem -> the answers of each model's samples; p1 and p2 have the answer 7, p3 has 8. None: truncated.
ANSWERS: dict[str, dict[str, list[str | None]]] = {
    "wc": {"p1": ["7", "7", "7"], "p2": ["5", "5", "7"], "p3": ["1", "2", None]},
    "se": {"p1": ["7"], "p2": ["9"], "p3": ["8"]},
}
GOLD = {"p1": "7", "p2": "7", "p3": "8"}
FACTS = {"judge": "steps", "false_positive_rate": 0.25, "false_positive_rate_low": 0.1, "control_recall": 0.9}


def study(root: Path) -> None:
    def write(
        asset: str, partition: dict[str, str], rows: list[dict[str, Any]], *inputs: tuple[str, str | None]
    ) -> None:
        used = [{"asset": f"s/{a}", "partition": p, "data_version": f"v-{a}"} for a, p in inputs]
        lineage = {"inputs": used, "facts": FACTS if asset == "judgements" else {}}
        tables.write(root, "s", asset, partition, pl.DataFrame(rows), lineage)

    write(
        "problems",
        {},
        [
            {"problem_id": p, "split": "train", "question": f"{p}?", "answer": gold, "level": "2" if p == "p3" else "1"}
            for p, gold in GOLD.items()
        ],
    )
    plan = [
        {"budget": "low", "model": m, "match": "flops", "samples": k, "unit_cost": cost, "fixed_cost": 0.0}
        | {"mismatch": 0.0, "reference": m == "se", "n_problems": 3, "completions": 3 * k}
        for m, k, cost in (("wc", 3, 1.0), ("se", 1, 3.0))
    ]
    write("pilot", {"model": "wc"}, [{"problem_id": "p1", "sample_index": 0, "correct": True}], ("problems", None))
    write("budget_plan", {}, plan, ("problems", None))
    ways = [(1.0, 3, 2.2, 4.0), (1.0, 1, 0.9, 1.0), (2.0, 3, 2.5, 6.0)]
    predicted = [
        {"budget": "low", "scale": scale, "source": "wc", "problems": n, "solved": solved, "distinct": distinct}
        for scale, n, solved, distinct in ways
    ]
    write("prediction", {}, predicted, ("pilot", "wc"))
    for model, problems in ANSWERS.items():
        where = {**LOW, "model": model}
        given = [(p, i, a) for p, answers in problems.items() for i, a in enumerate(answers)]
        key = f"low|{model}"
        samples = [
            {
                "problem_id": p,
                "sample_index": i,
                "completion": f"{p} step {i} so {a}",
                "finish_reason": "stop" if a else "length",
                "completion_tokens": 10,
                "flops": 20.0,
                "cost": 0.5 if model == "se" else None,
            }
            for p, i, a in given
        ]
        write("samples", where, samples, ("budget_plan", None), ("problems", None))
        verdicts = [
            {
                "problem_id": p,
                "sample_index": i,
                "answer": a,
                "verdict": "truncated" if a is None else "correct" if a == GOLD[p] else "wrong",
                "correct": a == GOLD[p],
                # The second grader rejects one correct answer.
                "strict": a == GOLD[p] and (model, p) != ("wc", "p2"),
                # The three correct texts of wc for p1 differ; two of them have equal equations.
                "text_key": f"t{i}" if a == GOLD[p] else None,
                "equations_key": f"e{min(i, 1)}" if a == GOLD[p] else None,
            }
            for p, i, a in given
        ]
        write("verdicts", where, verdicts, ("samples", key), ("problems", None))
        solved = [p for p, i, a in given if a == GOLD[p]]
        metrics = [
            {
                "metric": m,
                "level": level,
                "k": k,
                "value": len(set(solved)) / 3,
                "low": 0.1,
                "high": 0.9,
                "n_problems": 3,
            }
            for m, level, k in (("coverage", None, len(problems["p1"])), ("coverage", None, 99), ("accuracy", None, 1))
        ]
        metrics += [
            metrics[0] | {"metric": "diversity", "distinct": "equations", "denominator": of, "value": value}
            for of, value in (("all", 1.0), ("solved", 1.5))
        ]
        write("sample_metrics", where, metrics, ("verdicts", key))
        judgements = [
            {
                "problem_id": p,
                "sample_index": i,
                "judge": "steps",
                "judge_version": "1",
                "label": "wrong" if i == 2 else "right",
                "correct": True,
                "weight": 1.0,
                "first_wrong_step": 2 if i == 2 else None,
                "reason": "step 2: 3 + 3 = 7" if i == 2 else None,
                "wrong_reasoning": i == 2,
            }
            for p, i, a in given
            if a == GOLD[p]
        ]
        # Each model's set has a control of each kind: the reference solution counts once.
        controls = [("p1", None, "reference", "right"), ("p2", 0, "wrong_answer", "wrong")]
        judgements += [
            {"problem_id": p, "sample_index": i, "control": kind, "judge": "steps", "judge_version": "1"}
            | {"label": label, "correct": None if i is None else False, "wrong_reasoning": label == "wrong"}
            for p, i, kind, label in controls
        ]
        write("judgements", where, judgements, ("samples", key), ("verdicts", key))
    said = [("wc", "p1", 0, "right"), ("wc", "p1", 1, "unsure"), ("wc", "p1", 2, "wrong"), ("wc", "p2", 2, "right")]
    place = root / "s" / "labels" / "20261121T000000-1.parquet"
    place.parent.mkdir()
    rows = [
        {"study": "s", "model": m, "problem_id": p, "sample_index": i, "annotator": "ann", "label": label}
        | {"first_wrong_step": None, "comment": None, "text_hash": "h", "imported_at": "2026-11-21T00:00:00"}
        for m, p, i, label in said
    ]
    pl.DataFrame(rows).write_parquet(place)
    for source, right in (("wc", [True, True, False, True]), ("se", [True, False, False, True])):
        arm, key = {**LOW, "source": source}, f"low|{source}"
        rows = [{"model": source, "problem_id": "p1", "sample_index": 0, "prompt": "p1?", "completion": "7"}]
        write("sft_set", arm, rows, ("verdicts", key))
        write("student_checkpoint", arm, [{"target": "student", "path": "x"}], ("sft_set", key))
        evals = [
            {"target": "student", "benchmark": "b", "problem_id": f"q{i}", "temperature": t, "correct": c}
            for i, c in enumerate(right)
            for t in (0.0, 0.7)
            if t == 0 or i == 0  # one further drawn answer, which is not counted
        ]
        write("student_eval", arm, evals, ("student_checkpoint", key))
    base = {
        "target": "student",
        "benchmark": "b",
        "budget": None,
        "source": "base",
        "problem_id": "q0",
        "temperature": 0.0,
        "correct": False,
    }
    write("base_eval", {}, [base])
    scores = [
        {"source": "base", "target": "student", "metric": "pass", "k": 2, "level": level, "value": value}
        for level, value in ((None, 0.5), ("1", 0.7))
    ]
    write("eval_metrics", {}, scores)
    write("benchmark_problems", {}, [{"benchmark": "b", "problem_id": "q0", "question": "q0?"}])
    differences = [
        {"budget": "low", "arm": "gt", "reference": "wc", "target": target, "benchmark": "b", "arm_value": 0.75}
        | {"difference": 0.25, "low": -0.05, "high": 0.55, "better": "cannot tell", "n_problems": 4}
        for target in ("student", "all")
    ]
    write("ablations", {}, differences)
    reported = [
        {"budget": "low", "metric": metric, "target": target, "weak": "wc", "strong": "se", "better": better}
        | {"difference": difference, "low": difference - 0.1, "high": difference + 0.1}
        for metric, target, difference, better in (
            ("coverage", None, 0.0, "cannot tell"),
            ("accuracy", "student", 0.0, "cannot tell"),
            ("accuracy", "all", 0.25, "wc"),
        )
    ]
    write("report", {}, reported)
    for model, part in (("wc", "f1"), ("se", "f2")):
        attempts = [
            {
                "study": "s",
                "stage": "sampling",
                "model_id": model,
                "finish_reason": reason,
                "prompt_tokens": 5,
                "completion_tokens": 10,
                "flops": flops,
                "cost": 0.5,
                "seconds": 1.0,
                "retries": 0,
                "cached_tokens": 0,
                "time": datetime(2026, 11, 21, tzinfo=UTC),
            }
            for reason, flops in (("stop", 20.0), ("error", None), ("length", 20.0 if model == "wc" else 60.0))
        ]
        place = root / "ledger" / f"model={part}" / "params=p"
        place.mkdir(parents=True)
        pl.DataFrame(attempts).write_parquet(place / "part-0.parquet")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("home")
    study(root)
    catalog.build(root)
    return root


def ask(root: Path, question: str, *columns: str) -> list[tuple[Any, ...]]:
    sql = (catalog.SQL / "analysis" / f"{question}.sql").read_text(encoding="utf-8")
    return catalog.query(root, sql).select(*columns).rows()


def test_every_view_has_rows(root: Path) -> None:
    for name in TABLES:
        assert catalog.query(root, f"SELECT count(*) AS n FROM {name}")["n"].item() > 0, name


def test_views_contain_all_targets_and_the_untouched_models(root: Path) -> None:
    rows = catalog.query(root, "SELECT budget, source, count(*) FROM evals GROUP BY ALL ORDER BY ALL").rows()
    assert rows == [("low", "se", 5), ("low", "wc", 5), (None, "base", 1)]
    assert catalog.query(root, "SELECT source FROM checkpoints ORDER BY 1")["source"].to_list() == ["se", "wc"]


def test_the_ledger_view_contains_the_model_of_each_file(root: Path) -> None:
    rows = catalog.query(root, "SELECT DISTINCT fingerprint, model_id FROM ledger ORDER BY 1").rows()
    assert rows == [("f1", "wc"), ("f2", "se")]


# The query, the compared columns, and the rows counted by hand.
ANSWERED: list[tuple[str, str, list[tuple[Any, ...]]]] = [
    (
        "accuracy_by_source",
        "budget target source other_source accuracy other_accuracy difference_in_points n_problems",
        [("low", "student", "wc", "se", 0.75, 0.5, 25.0, 4)],
    ),
    (
        "better_buy",
        "budget better metric weak weak_samples strong strong_samples difference_in_points low high",
        [("low", "wc", "accuracy", "wc", 3, "se", 1, 25.0, 15.0, 35.0)],
    ),
    (
        "coverage_at_matched_cost",
        "cost model k coverage other_model other_k other_coverage difference_in_points",
        [
            (3.0, "se", 1, 0.6667, "wc", 3, 0.6667, 0.0),
            (3.0, "wc", 3, 0.6667, "se", 1, 0.6667, 0.0),
            (99.0, "wc", 99, 0.6667, "se", 1, 0.6667, 0.0),
            (297.0, "se", 99, 0.6667, "wc", 99, 0.6667, 0.0),
        ],
    ),
    (
        "diversity",
        "model k distinct denominator diversity low high",
        [
            ("se", 1, "equations", "all", 1.0, 0.1, 0.9),
            ("wc", 3, "equations", "all", 1.0, 0.1, 0.9),
            ("se", 1, "equations", "solved", 1.5, 0.1, 0.9),
            ("wc", 3, "equations", "solved", 1.5, 0.1, 0.9),
        ],
    ),
    (
        "cost_per_correct_sample",
        "model samples correct different tokens_per_correct tokens_per_different flops_per_different cost_per_correct",
        [("se", 3, 2, 2, 15.0, 15.0, 30.0, 0.75), ("wc", 9, 4, 3, 22.5, 30.0, 60.0, None)],
    ),
    (
        "accuracy_per_dollar",
        "source samples flops accuracy points_gained points_per_unit_of_currency points_per_petaflop",
        [
            ("se", 3, 60.0, 0.5, 50.0, 50 / 1.5, pytest.approx(50 / 60e-15)),
            ("wc", 9, 180.0, 0.75, 75.0, None, pytest.approx(75 / 180e-15)),
        ],
    ),
    (
        "truncated_share",
        "model samples truncated share tokens flops cost",
        [("se", 3, 0, 0.0, 0, None, None), ("wc", 9, 1, 0.1111, 10, 20.0, None)],
    ),
    (
        "budgets_as_spent",
        "model reference planned_samples samples flops planned_off_by flops_off_by cost_off_by",
        [("se", True, 3, 3, 60.0, 0.0, 0.0, 0.0), ("wc", False, 9, 9, 180.0, 0.0, 2.0, None)],
    ),
    (
        "samples_of_a_checkpoint",
        "target budget source model rows problems share_correct tokens cost",
        [("student", "low", "se", "se", 1, 1, 1.0, 10, 0.5), ("student", "low", "wc", "wc", 1, 1, 1.0, 10, None)],
    ),
    ("grader_disagreements", "gold answer verdict second_verdict samples", [("7", "7", "correct", "wrong", 1)]),
    (
        "judge_disagreements",
        "model problem_id sample_index right_by wrong_by reasons completion",
        [("wc", "p2", 2, ["ann"], ["steps"], "steps: step 2: 3 + 3 = 7", "p2 step 2 so 7")],
    ),
    (
        "pilot_against_outcome",
        "budget model problems expected_solved solved expected_different different",
        [("low", "wc", 3, 2.2, 2, 4.0, 3)],
    ),
    ("finetuned_scores", "source target metric k value", [("base", "student", "pass", 2, 0.5)]),
    (
        "false_positive_rates",
        "model judge false_positive_rate low high recall no_rate",
        [("se", "steps", 0.25, 0.1, None, 0.9, None), ("wc", "steps", 0.25, 0.1, None, 0.9, None)],
    ),
    (
        "ablations",
        "budget arm reference accuracy difference_in_points low high better n_problems",
        [("low", "gt", "wc", 0.75, 25.0, -5.0, 55.0, "cannot tell", 4)],
    ),
    ("coverage_by_level", "model k coverage", [("se", 1, 0.6667), ("wc", 3, 0.6667)]),
    (
        "where_the_money_went",
        "stage model_id attempts failed truncated completion_tokens flops cost",
        [("sampling", "se", 3, 1, 1, 30, 80.0, 1.5), ("sampling", "wc", 3, 1, 1, 30, 40.0, 1.5)],
    ),
    (
        "solved_by_one_model_only",
        "only_solved_by problem_id level answer",
        [("se", "p3", "2", "8"), ("wc", "p2", "1", "7")],
    ),
    ("most_frequent_wrong_answers", "model problem_id wrong_answer times gold", [("wc", "p2", "5", 2, "7")]),
    (
        "false_positives",
        "model problem_id sample_index first_wrong_step reason completion",
        [
            ("wc", "p1", 2, 2, "step 2: 3 + 3 = 7", "p1 step 2 so 7"),
            ("wc", "p2", 2, 2, "step 2: 3 + 3 = 7", "p2 step 2 so 7"),
        ],
    ),
    (
        "verdict_counts",
        "model verdict samples share",
        [
            ("se", "correct", 2, 0.6667),
            ("se", "wrong", 1, 0.3333),
            ("wc", "correct", 4, 0.4444),
            ("wc", "wrong", 4, 0.4444),
            ("wc", "truncated", 1, 0.1111),
        ],
    ),
    (
        "agreement",
        "annotator other samples both_right only_other_wrong only_annotator_wrong both_wrong agree kappa",
        [("ann", "steps", 3, 1, 1, 0, 1, 0.6667, 0.4)],
    ),
    (
        "false_positives_by_rater",
        "model rater kind wrong decided undecided n_problems share",
        [
            ("se", "steps", "judge", 0, 2, 0, 2, 0.0),
            ("wc", "ann", "human", 1, 3, 1, 2, 0.3333),
            ("wc", "steps", "judge", 2, 4, 0, 2, 0.5),
        ],
    ),
    ("truncated_completions", "model problem_id sample_index ends_with", [("wc", "p3", 2, "p3 step 2 so None")]),
]


@pytest.mark.parametrize(("question", "columns", "rows"), ANSWERED, ids=[question for question, *_ in ANSWERED])
def test_each_query_returns_the_rows_counted_by_hand(
    root: Path, question: str, columns: str, rows: list[tuple[Any, ...]]
) -> None:
    assert ask(root, question, *columns.split()) == rows


def test_lineage_reaches_the_problems(root: Path) -> None:
    rows = ask(root, "lineage_of_a_checkpoint", "checkpoint_partition", "depth", "input_asset", "input_partition")
    assert [row[1:] for row in rows if row[0] == "low|wc"] == [
        (1, "s/sft_set", "low|wc"),
        (2, "s/verdicts", "low|wc"),
        (3, "s/problems", None),
        (3, "s/samples", "low|wc"),
        (4, "s/budget_plan", None),
    ]
    assert len(rows) == 10


def test_the_judges_view_equals_the_stored_figures(tmp_path: Path) -> None:
    """The view `judges` equals `cos_assets.judging.rates`, at a confidence other than 95 %."""
    rng = np.random.default_rng(1)
    # False alarms, recall, and the share of unreadable samples.
    kinds: dict[str, tuple[float, float | None, float]] = {
        "good": (0.05, 0.9, 0.1),
        "coin": (0.5, 0.5, 0.1),
        "silent": (0.0, 0.9, 0.8),
        "one kind, no recall": (0.1, None, 0.0),
    }
    shape = {"problem_id": pl.String, "sample_index": pl.Int32, "control": pl.String, "judge": pl.String}
    shape |= {"correct": pl.Boolean, "weight": pl.Float64, "wrong_reasoning": pl.Boolean}
    expected: dict[tuple[str, str], JudgeRate] = {}
    for model in ("wc", "se"):
        rows: list[tuple[Any, ...]] = []
        for judge, (alarms, recall, silent) in kinds.items():
            for i, k in ((i, k) for i in range(60) for k in range(3)):
                wrong = None if rng.random() < silent else bool(rng.random() < 0.2)
                rows.append((f"p{i}", k, None, judge, True, float(rng.integers(1, 3)), wrong))
            for i in range(50):
                rows.append((f"p{i}", None, "reference", judge, None, None, bool(rng.random() < alarms)))
                if recall is not None:
                    rows.append((f"p{i}", k, "wrong_answer", judge, False, None, bool(rng.random() < recall)))
        frame = pl.DataFrame(rows, schema=shape, orient="row")
        of_model = frame.with_columns(model=pl.lit(model))
        facts: dict[str, Any] = {"judge": "good", "confidence": 0.8}
        for judge in kinds:
            rate = rate_of(of_judge(frame, judge), controls_of(of_model, judge), confidence=0.8)
            facts |= rate_facts(rate, "" if judge == "good" else f"_by_{judge}")
            expected[model, judge] = rate
        facts = {name: value for name, value in facts.items() if value is not None and value == value}
        where = {"budget": "low", "model": model}
        tables.write(tmp_path, "s", "judgements", where, frame, {"inputs": [], "facts": facts})
    found = {(row["model"], row["judge"]): row for row in catalog.query(tmp_path, "FROM judges").to_dicts()}
    assert found.keys() == expected.keys()
    assert {row["confidence"] for row in found.values()} == {0.8}
    assert study_confidence(tmp_path, "s") == 0.8
    for name, rate in expected.items():
        row, errors = found[name], rate.controls
        assert row["no_rate"] == rate.why_none
        for column, interval in (
            ("", rate.rate),
            ("corrected", rate.corrected or (np.nan, np.nan, np.nan)),
            ("false_alarms", errors.false_alarms.rate),
            ("recall", errors.recall.rate),
        ):
            value = {"": "false_positive_rate", "corrected": "corrected_by_controls"}.get(column, column)
            names = (value, f"{column}_low".lstrip("_"), f"{column}_high".lstrip("_"))
            there = [np.nan if row[each] is None else row[each] for each in names]
            assert there == pytest.approx(list(interval[:3]), nan_ok=True), (name, column)
        assert (row["reference_solutions"], row["controls_unread"]) == (50, 0)
    assert found["wc", "good"]["no_rate"] is None
    assert "cannot tell right from wrong" in found["wc", "coin"]["no_rate"]
    assert "less than half" in found["wc", "silent"]["no_rate"]


def test_every_query_is_tested() -> None:
    files = {file.stem for file in (catalog.SQL / "analysis").glob("*.sql")}
    assert files == {question for question, *_ in ANSWERED} | {"lineage_of_a_checkpoint"}


def test_solved_by_one_model_only_is_empty_until_both_are_graded(tmp_path: Path) -> None:
    study(tmp_path)
    (tables.folder(tmp_path, "s", "verdicts", {**LOW, "model": "se"}) / tables.DATA).unlink()
    catalog.build(tmp_path)
    assert ask(tmp_path, "solved_by_one_model_only", "problem_id") == []
