"""Coverage and diversity at every k for 7,500 problems x 1,000 samples, versus a plain Python loop.

Run: python benchmarks/metrics.py [--problems 7500] [--samples 1000]

The reference is the estimator of openai/human-eval (1 - prod(1 - k / arange(n - c + 1, n + 1))), called per problem
and per k, and for diversity also per class. It is timed on the first few problems at all k and scaled by the number
of problems; the table shows this. Every case runs in its own process, so that its peak memory is measured separately.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cos_assets.metrics.coverage import coverage
from cos_assets.metrics.diversity import diversity


def write_inputs(folder: Path, problems: int, samples: int) -> None:
    """Write input files with synthetic samples.

    Rates are drawn from beta(.835, .423), a fit to the 9B model on GSM8K; solutions have Zipf-like classes.
    """
    rng = np.random.default_rng(0)
    rates = rng.beta(0.835, 0.423, problems)
    correct = rng.random((problems, samples)) < rates[:, None]
    classes = np.minimum(rng.zipf(1.3, (problems, samples)), 10_000)
    frame = pl.DataFrame(
        {
            "problem": np.repeat(np.arange(problems), samples),
            "sample_index": np.tile(np.arange(samples, dtype=np.int32), problems),
            "correct": correct.ravel(),
            "class": classes.ravel(),
        }
    )
    frame = frame.select(
        pl.format("problem-{}", pl.col("problem")).alias("problem_id"),
        "sample_index",
        "correct",
        pl.format("16-3-4=9;9*{}={}", pl.col("class"), pl.col("class") * 9).alias("key"),
    )
    frame.write_parquet(folder / "samples.parquet")
    counts = {"problem_id": [f"problem-{i}" for i in range(problems)], "n": samples, "c": correct.sum(1)}
    pl.DataFrame(counts).write_parquet(folder / "counts.parquet")


def estimate(n: int, c: int, k: int) -> float:
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def ours_coverage(folder: Path, problems: int, samples: int) -> Callable[[], pl.DataFrame]:
    counts = pl.read_parquet(folder / "counts.parquet")
    return lambda: coverage(counts, range(1, samples + 1))


def loop_coverage(folder: Path, problems: int, samples: int) -> Callable[[], list[float]]:
    counts = pl.read_parquet(folder / "counts.parquet").head(problems)["c"].to_list()
    return lambda: [float(np.mean([estimate(samples, c, k) for c in counts])) for k in range(1, samples + 1)]


def ours_diversity(folder: Path, problems: int, samples: int) -> Callable[[], pl.DataFrame]:
    rows = pl.read_parquet(folder / "samples.parquet")
    return lambda: diversity(rows, range(1, samples + 1))


def loop_diversity(folder: Path, problems: int, samples: int) -> Callable[[], list[float]]:
    rows = pl.read_parquet(folder / "samples.parquet", n_rows=problems * samples).rows()

    def run() -> list[float]:
        classes: dict[str, Counter[str]] = {}
        for problem, _, correct, key in rows:
            found = classes.setdefault(problem, Counter())
            if correct:
                found[key] += 1
        return [
            float(np.mean([sum(estimate(samples, m, k) for m in found.values()) for found in classes.values()]))
            for k in range(1, samples + 1)
        ]

    return run


def peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def measure(name: str, folder: Path, problems: int, samples: int) -> tuple[float, float, float]:
    """Return the seconds of the call, and the peak memory (MB) before it (interpreter, inputs) and after it."""
    import scipy.sparse
    import scipy.special  # noqa: F401  (half a second once per process: an import, not the metric)

    call = globals()[name](folder, problems, samples)
    before = peak_mb()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start, before, peak_mb()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=7_500)
    parser.add_argument("--samples", type=int, default=1_000)
    options = parser.parse_args()
    problems, samples = options.problems, options.samples
    subsets = {"loop_coverage": min(100, problems), "loop_diversity": min(10, problems)}
    print(f"{problems} problems x {samples} samples, all k = 1..{samples}\n")
    print(f"{'case':<18}{'seconds':>10}{'before MB':>11}{'peak MB':>9}  note")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Not in this process: the peak memory of a child includes that of its parent.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.apply(write_inputs, (folder, problems, samples))
        for metric in ("coverage", "diversity"):
            seconds = {}
            for kind in ("ours", "loop"):
                case = f"{kind}_{metric}"
                done = subsets.get(case, problems)
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    took, before, peak = pool.apply(measure, (case, folder, done, samples))
                seconds[kind] = took * problems / done
                note = "" if done == problems else f"{done} problems took {took:.2f} s, scaled by {problems / done:.0f}"
                print(f"{metric + ' ' + kind:<18}{seconds[kind]:>10.2f}{before:>11.0f}{peak:>9.0f}  {note}")
            print(f"{metric + ' ratio':<18}{seconds['loop'] / seconds['ours']:>9.0f}x{'':>20}  loop / ours")


if __name__ == "__main__":
    main()
