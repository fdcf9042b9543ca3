"""Time and memory of every query of sql/analysis over a million samples.

    python benchmarks/sql.py [samples] [folder]       by default 1,000,000; 10,000,000 take about 10 minutes and 3 GB

Synthetic studies of the paper's size (7,500 problems; 1 and 10 samples of the strong model, 3 and 30 of the weak one)
are written by the code that writes real ones, with the columns of the real tables and with a ledger in parts. Each
query runs three times in its own process over one open session. The fastest run counts, because files are then in the
system's cache. MB is the maximum growth of the process; core seconds are those of all its threads. The reference is a
scan of one number of every sample, without a view. With `folder`, the tables are kept there and not written again.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cos_assets.generation.generate import FLUSH_ROWS
from cos_assets.generation.parts import SCHEMA as LEDGER
from cos_assets.storage import catalog, tables
from cos_assets.storage.schemas import TABLES

PROBLEMS, TEST = 7_500, 1_319
SAMPLES = {("low", "wc"): 3, ("low", "se"): 1, ("high", "wc"): 30, ("high", "se"): 10}
PARAMS = {"wc": 9.24e9, "se": 27.2e9}
SOURCES, TARGETS, LEVELS, JUDGES, JUDGED = ("wc", "se", "mix"), ("student", "wc", "se"), 5, ("steps", "llm"), 500
CONTROLS = 50
REFERENCE = "SELECT sum(completion_tokens) FROM read_parquet('{root}/*/samples/**/data.parquet')"
BUDGETS = ("low", "high")
VIEWS = {"eval": "evals", "checkpoint": "checkpoints"}  # views over the tables of all targets


class Study:
    """One synthetic study: its tables, with the columns of the real ones."""

    def __init__(self, root: Path, shapes: Mapping[str, pl.Schema], name: str, problems: int, test: int, seed: int):
        self.root, self.shapes, self.name, self.problems, self.test = root, shapes, name, problems, test
        self.random = np.random.default_rng(seed)
        # The probability that each model solves a problem; see benchmarks/metrics.py.
        self.rates = {"wc": self.random.beta(0.835, 0.423, problems), "se": self.random.beta(1.2, 0.35, problems)}
        self.right: dict[tuple[str, str], pl.DataFrame] = {}

    def write(
        self, asset: str, partition: dict[str, str], frame: pl.DataFrame, *inputs: tuple[str, str | None]
    ) -> None:
        """Write a table as the IO manager does, with the columns of the view; columns that `frame` lacks are null."""
        shape = self.shapes[VIEWS.get(asset.rpartition("_")[2], asset)]
        columns = {c: t for c, t in shape.items() if c not in ("study", *partition)}
        full = frame.with_columns(pl.lit(None).alias(c) for c in columns if c not in frame.columns)
        used = [{"asset": f"{self.name}/{a}", "partition": p, "data_version": f"{a}-{p}"} for a, p in inputs]
        version = f"{asset}-{'|'.join(partition.values())}"
        lineage = {"data_version": version, "code_version": "1", "run_id": "r", "inputs": used, "facts": {}}
        shaped = full.select(pl.col(c).cast(t) for c, t in columns.items())
        tables.write(self.root, self.name, asset, partition, shaped, lineage)

    def make(self) -> int:
        """Write all tables; return the number of samples."""
        ids = self._ids("p", self.problems)
        tests = self._ids("q", self.test)
        levels = pl.Series("level", np.arange(self.problems) % LEVELS + 1).cast(pl.String)
        problems = pl.DataFrame({"problem_id": ids, "level": levels}).with_columns(
            split=pl.lit("train"), question=pl.format("What is the answer to {}?", "problem_id"), answer=pl.lit("42")
        )
        more = pl.DataFrame({"problem_id": tests}).with_columns(split=pl.lit("test"), answer=pl.lit("42"))
        self.write("problems", {}, pl.concat([problems, more], how="diagonal"))
        self.write("benchmark_problems", {}, more.with_columns(benchmark=pl.lit("other")))
        self._plan()
        count = 0
        for (budget, model), samples in SAMPLES.items():
            count += self._sampled(budget, model, samples, ids, levels)
        for budget in BUDGETS:
            for source in SOURCES:
                self._trained(budget, source, ids, tests)
        self._compared(tests)
        self._labels(ids)
        return count

    def _ids(self, letter: str, count: int) -> pl.Series:
        return pl.Series("problem_id", [f"{self.name}/{letter}{i:05d}" for i in range(count)])

    def _plan(self) -> None:
        rows = [
            {"budget": b, "model": m, "match": "flops", "samples": k, "mismatch": 0.02, "reference": m == "se"}
            | {"unit_cost": PARAMS[m] / PARAMS["se"], "fixed_cost": 0.0, "n_problems": self.problems, "completions": k}
            for (b, m), k in SAMPLES.items()
        ]
        self.write("budget_plan", {}, pl.DataFrame(rows), ("problems", None), ("pilot", "wc"), ("pilot", "se"))
        for model in PARAMS:
            pilot = pl.DataFrame({"problem_id": self._ids("p", 100), "sample_index": 0, "correct": True})
            self.write("pilot", {"model": model}, pilot, ("problems", None))
        ways = [
            {"budget": b, "scale": s, "source": m, "problems": self.problems, "solved": 100.0, "distinct": 200.0}
            for b in BUDGETS
            for s in (0.5, 1.0, 2.0)
            for m in PARAMS
        ]
        self.write("prediction", {}, pl.DataFrame(ways), ("pilot", "wc"), ("pilot", "se"), ("budget_plan", None))

    def _sampled(self, budget: str, model: str, samples: int, ids: pl.Series, levels: pl.Series) -> int:
        random, count = self.random, self.problems * samples
        correct = random.random(count) < np.repeat(self.rates[model], samples)
        numbers = pl.DataFrame({name: random.integers(2, 999, count) for name in "abcd"})
        rows = pl.DataFrame(
            {
                "problem_id": ids.gather(np.repeat(np.arange(self.problems), samples)),
                "level": levels.gather(np.repeat(np.arange(self.problems), samples)),
                "sample_index": np.tile(np.arange(samples, dtype=np.int32), self.problems),
                "correct": correct,
                "way": np.minimum(random.zipf(1.3, count), 10_000),
                "completion_tokens": random.integers(60, 320, count),
                "draw": random.random(count),
            }
        ).hstack(numbers)
        cut = pl.col("draw") < 0.02
        text = pl.format(
            "First there are {} of them, and {} more come in on the second day, which makes {} + {} in all. Each is"
            " worth {} times as much as the day before, so that {} * {} is what they are worth together. Of these a"
            " part of {} goes to the neighbour, and the rest is kept for the winter. {} The answer is {}.",
            *"abcdabcd",
            pl.concat_str(
                *(pl.struct(*"abcd", "draw").hash(seed).cast(pl.String) for seed in range(5))
            ),  # different in every row, like real text
            "a",
        )
        tokens = pl.col("completion_tokens").cast(pl.Float64)
        rows = rows.with_columns(
            correct=pl.col("correct") & ~cut,
            completion=text,
            prompt_hash=pl.concat_str(pl.lit("h"), "problem_id"),
            prompt_tokens=pl.lit(900, pl.Int64),
            finish_reason=pl.when(cut).then(pl.lit("length")).otherwise(pl.lit("stop")),
            flops=2 * PARAMS[model] * tokens,
            cost=tokens * PARAMS[model] * 1e-17,
        )
        verdict = (
            pl.when("correct").then(pl.lit("correct")).when(cut).then(pl.lit("truncated")).otherwise(pl.lit("wrong"))
        )
        hashed = {"text_key": pl.struct("a", "b", "c", "d", "way"), "equations_key": pl.struct("problem_id", "way")}
        graded = rows.with_columns(
            verdict=verdict,
            answer=pl.when("correct").then(pl.lit("42")).otherwise(pl.col("a").cast(pl.String)),
            strict=pl.col("correct") & (pl.col("draw") < 0.99),
            grader=pl.lit("number"),
            grader_version=pl.lit("1"),
            **{k: pl.when("correct").then(pl.format("{}", e.hash().cast(pl.String))) for k, e in hashed.items()},
        )
        where, key = {"budget": budget, "model": model}, f"{budget}|{model}"
        self.write("samples", where, rows, ("problems", None), ("budget_plan", None))
        self.write("verdicts", where, graded, ("samples", key), ("problems", None))
        self._measured(where, samples)
        right = graded.filter("correct")
        controls = self._controls(ids, graded.filter(verdict="wrong").head(CONTROLS))
        judged = [
            right.sample(min(JUDGED, right.height), seed=0).with_columns(
                judge=pl.lit(judge),
                label=pl.when(pl.col("a") % 9 <= i).then(pl.lit("wrong")).otherwise(pl.lit("right")),
                wrong_reasoning=pl.col("a") % 9 <= i,
                weight=pl.lit(2.0),
                reason=pl.lit("step 2"),
            )
            for i, judge in enumerate(JUDGES)
        ]
        judged += [controls.with_columns(judge=pl.lit(judge)) for judge in JUDGES]
        self.write("judgements", where, pl.concat(judged, how="diagonal"), ("samples", key), ("verdicts", key))
        if budget == "high":
            self._booked(model, rows)
        self.right[budget, model] = right.select("problem_id", "sample_index", "completion")
        return count

    def _controls(self, ids: pl.Series, wrong: pl.DataFrame) -> pl.DataFrame:
        """Return references, one in ten of them judged wrong, and wrong answers, one in ten judged right."""
        references = ids.head(CONTROLS).to_frame().with_columns(control=pl.lit("reference"))
        wrong = wrong.select("problem_id", "sample_index", control=pl.lit("wrong_answer"))
        tenth = pl.int_range(pl.len()).over("control") % 10 == 0
        return pl.concat([references, wrong], how="diagonal").with_columns(
            wrong_reasoning=tenth == (pl.col("control") == "reference")
        )

    def _measured(self, where: dict[str, str], samples: int) -> None:
        ks = pl.DataFrame({"k": range(1, samples + 1)})
        kinds = [("coverage", None, None)]
        kinds += [("diversity", how, of) for how in ("exact", "equations") for of in ("all", "solved")]
        kind = pl.DataFrame(kinds, schema=["metric", "distinct", "denominator"], orient="row")
        level = pl.DataFrame({"level": [None, *map(str, range(1, LEVELS + 1))]}, schema={"level": pl.String})
        rows = (
            kind.join(level, how="cross")
            .join(ks, how="cross")
            .with_columns(
                value=1 - 0.6 / pl.col("k"),
                low=1 - 0.7 / pl.col("k"),
                high=1 - 0.5 / pl.col("k"),
                n_problems=self.problems,
            )
        )
        self.write("sample_metrics", where, rows, ("verdicts", f"{where['budget']}|{where['model']}"))

    def _booked(self, model: str, rows: pl.DataFrame) -> None:
        folder = self.root / "ledger" / f"model={model}" / f"params={self.name}"
        folder.mkdir(parents=True, exist_ok=True)
        booked = rows.with_columns(
            attempt=pl.lit(1), prompt=pl.col("problem_id"), model_id=pl.lit(model), stage=pl.lit("sampling"),
            study=pl.lit(self.name), seconds=pl.lit(0.1), retries=pl.lit(0), engine=pl.lit("vllm"),
        )  # fmt: skip
        booked = booked.with_columns(pl.lit(None).alias(c) for c in LEDGER if c not in booked.columns)
        for number, part in enumerate(
            booked.select(pl.col(c).cast(t) for c, t in LEDGER.items()).iter_slices(FLUSH_ROWS)
        ):
            part.write_parquet(folder / f"part-{number:020d}-0-0.parquet")

    def _trained(self, budget: str, source: str, ids: pl.Series, tests: pl.Series) -> None:
        arm, key = {"budget": budget, "source": source}, f"{budget}|{source}"
        models = PARAMS if source == "mix" else (source,)
        rows = pl.concat([self.right[budget, m].with_columns(model=pl.lit(m)) for m in models])
        rows = rows.unique(["problem_id", "completion"], keep="first", maintain_order=True)
        inputs = [(a, f"{budget}|{m}") for m in models for a in ("samples", "verdicts", "judgements")]
        prompt = pl.format("{}: what is the answer?", "problem_id")
        self.write("sft_set", arm, rows.with_columns(prompt=prompt), *inputs, ("problems", None), ("budget_plan", None))
        for target in TARGETS:
            trained = pl.DataFrame({"target": target, "seed": [0], "path": "x", "flops": 1e18, "examples": rows.height})
            self.write(f"{target}_checkpoint", arm, trained, ("sft_set", key), ("problems", None))
            self.write(f"{target}_eval", arm, self._scored(tests, target), (f"{target}_checkpoint", key))

    def _scored(self, tests: pl.Series, target: str) -> pl.DataFrame:
        return pl.DataFrame({"problem_id": tests}).with_columns(
            target=pl.lit(target), seed=pl.lit(0), benchmark=pl.lit("gsm8k"), temperature=pl.lit(0.0),
            sample_index=pl.lit(0), correct=pl.Series(self.random.random(len(tests)) < 0.6),
            completion=pl.lit("The answer is 42."), completion_tokens=pl.lit(6),
        )  # fmt: skip

    def _compared(self, tests: pl.Series) -> None:
        base = pl.concat([self._scored(tests, target).with_columns(source=pl.lit("base")) for target in TARGETS])
        self.write("base_eval", {}, base, ("problems", None))
        around = {"low": 0.01, "high": 0.05, "n_problems": self.test}
        differ = [
            {"budget": b, "metric": "accuracy", "target": t, "benchmark": "gsm8k", "weak": "wc", "strong": "se"}
            | {"weak_value": 0.6, "strong_value": 0.57, "difference": 0.03, "better": "wc", **around}
            for b in BUDGETS
            for t in (*TARGETS, "all")
        ]
        read = [(f"{t}_eval", f"{b}|{s}") for b in BUDGETS for s in SOURCES for t in TARGETS]
        self.write("report", {}, pl.DataFrame(differ), *read)
        arms = [
            {"budget": b, "arm": "mix", "reference": s, "target": t, "benchmark": "gsm8k", "arm_value": 0.6}
            | {"difference": 0.03, "better": "mix", **around}
            for b in BUDGETS
            for s in PARAMS
            for t in (*TARGETS, "all")
        ]
        self.write("ablations", {}, pl.DataFrame(arms), *read)
        scores = [
            {
                "budget": b,
                "source": s,
                "target": t,
                "benchmark": "gsm8k",
                "metric": "pass",
                "k": k,
                "value": 0.6,
                **around,
            }
            for b in BUDGETS
            for s in SOURCES
            for t in TARGETS
            for k in (1, 2, 4, 8, 16)
        ]
        self.write("eval_metrics", {}, pl.DataFrame(scores), *read)

    def _labels(self, ids: pl.Series) -> None:
        """Write the labels of two people for samples that the judges have read, in one import each."""
        place = tables.folder(self.root, self.name, "judgements", {"budget": "high", "model": "wc"}) / tables.DATA
        read = pl.read_parquet(place, hive_partitioning=False).filter(judge="steps").head(200)
        for i, name in enumerate(("ann", "ben")):
            said = pl.when(pl.col("sample_index") % 7 <= i).then(pl.lit("wrong")).otherwise(pl.lit("right"))
            rows = read.select(
                "study", "model", "problem_id", "sample_index", pl.lit(name).alias("annotator"), said.alias("label"),
                pl.lit(None, pl.Int32).alias("first_wrong_step"), pl.lit(None, pl.String).alias("comment"),
                pl.lit("h").alias("text_hash"), pl.lit("2026-11-21T00:00:00").alias("imported_at"),
            )  # fmt: skip
            out = self.root / self.name / "labels" / f"20261121T00000{i}.parquet"
            out.parent.mkdir(exist_ok=True)
            rows.write_parquet(out)


def fill(root: Path, studies: int, problems: int = PROBLEMS, test: int = TEST) -> int:
    """Write `studies` studies; return their number of samples."""
    shapes = {name: catalog.query(root, f"FROM {name} LIMIT 0").schema for name in TABLES}
    return sum(Study(root, shapes, f"study{i:02d}", problems, test, i).make() for i in range(studies))


def measure(root: Path, name: str) -> tuple[float, float, int, float]:
    """Return wall seconds, core seconds, number of rows and memory growth of the process (MB) for one query."""
    if name:
        sql = (catalog.ANALYSIS / f"{name}.sql").read_text(encoding="utf-8")
    else:
        sql = REFERENCE.replace("{root}", str(root))
    with duckdb.connect(str(root / catalog.NAME), read_only=True) as connection:
        connection.execute("SET enable_progress_bar = false")
        before, took = peak_mb(), []
        for _ in range(3):
            started, busy = time.perf_counter(), time.process_time()
            rows = connection.sql(sql).pl().height
            took.append((time.perf_counter() - started, time.process_time() - busy))
    return (*min(took), rows, peak_mb() - before)


def peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def run(root: Path, samples: int) -> None:
    each = PROBLEMS * sum(SAMPLES.values())
    if not (root / "filled.json").is_file():
        started = time.perf_counter()
        count = alone(fill, root, max(1, round(samples / each)))
        (root / "filled.json").write_text(json.dumps([count, round(time.perf_counter() - started)]))
    count, seconds = json.loads((root / "filled.json").read_text())
    files = [file for file in root.rglob("*.parquet") if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 2**30
    print(f"{count:,} samples, {len(files):,} files, {size:.1f} GB, written in {seconds} s")
    started = time.perf_counter()
    alone(catalog.build, root)
    print(f"cos.duckdb was built in {time.perf_counter() - started:.2f} s, with the start of a process\n")
    scan = alone(measure, root, "")
    print(f"{'question':<30}{'seconds':>8}{'of cores':>10}{'of a scan':>11}{'rows':>8}{'MB':>7}")
    for name in ("", *(file.stem for file in catalog.questions())):
        took, busy, rows, grown = alone(measure, root, name) if name else scan
        line = f"{took:>8.3f}{busy:>10.3f}{took / scan[0]:>10.1f}x{rows:>8}{grown:>7.0f}"
        print(f"{name or '(a scan of one number)':<30}{line}", flush=True)


def alone(call, *arguments):
    """Call a function in a process of its own, so that its peak memory is measured separately."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(call, arguments)


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    if len(sys.argv) > 2:
        run(Path(sys.argv[2]).absolute(), wanted)
    else:
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder), wanted)
