"""Time and memory to load the code location, versus importing Dagster only, in fresh processes.

The UI, every run and every `cos` command load it, so it must not import heavy libraries (torch, transformers, vllm).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

REPEATS = 5
HEAVY = ("torch", "transformers", "vllm", "ray", "trl", "peft", "datasets", "matplotlib", "math_verify")
REFERENCE = "import dagster"
LOAD = "from dagster_project.definitions import defs; defs().resolve_asset_graph()"


def cost(code: str) -> tuple[float, float]:
    """Return the median wall time (s) and the median peak memory (MB) of a fresh interpreter that runs `code`."""
    code += "; import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    times, memory = [], []
    for _ in range(REPEATS):
        started = time.perf_counter()
        told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        times.append(time.perf_counter() - started)
        memory.append(int(told) * (1 if sys.platform == "darwin" else 1024) / 1e6)
    return statistics.median(times), statistics.median(memory)


def main() -> None:
    cost(LOAD)  # compiles modules that have never been imported
    (reference, reference_mb), (load, load_mb) = cost(REFERENCE), cost(LOAD)
    check = f"{LOAD}; import sys; print(*[m for m in {HEAVY} if m in sys.modules])"
    heavy = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True).stdout.split()
    ratios = f"{load / reference:.2f}x and {load_mb / reference_mb:.2f}x of importing dagster"
    print(f"import dagster        {reference:5.2f} s {reference_mb:5.0f} MB")
    print(f"load code location    {load:5.2f} s {load_mb:5.0f} MB   {ratios}")
    print(f"heavy modules loaded  {', '.join(heavy) or 'none'}")


if __name__ == "__main__":
    main()
