"""Results of other packages for comparison."""

from __future__ import annotations

from scipy.stats import binomtest

from cos_assets.metrics.intervals import Interval


def wilson(k: int, n: int, confidence: float = 0.95) -> Interval:
    """Return scipy's Wilson interval of k hits in n independent observations."""
    limits = binomtest(k, n).proportion_ci(confidence, "wilson")
    return Interval(k / n, float(limits.low), float(limits.high), n)
