"""Metrics of samples and models, with intervals: pure functions over polars frames and numpy arrays.

* `coverage`: coverage@k (pass@k)
* `diversity`: distinct correct solutions among k samples
* `majority`: maj@k, whether the most frequent of k answers is right
* `false_positives`: wrong reasoning behind right answers, also corrected for the errors of a judge
* `controls`: error rates of a judge on solutions that are known to be right or wrong
* `agreement`: Cohen's kappa of two raters
* `prediction`: coverage and number of correct samples at large k, from a pilot
* `richness`: distinct correct solutions at large k, from a pilot
* `summary`: all metrics of one sample set in one table
* `evaluated`: all metrics of finetuned models in one table
* `intervals`: intervals of means and ratios whose unit is the problem
* `differences`: paired differences of two metrics over the same problems, and which side is better
* `frames`: checks and groups of input frames

A `confidence` outside (0, 1) raises ValueError wherever an interval is computed. The examples in the docstrings use the
names of their module, with `np` and `pl`; `tests/test_doctests.py` runs them.

To add a metric, write a module with a pure function. State the estimator and its source in the module docstring, check
the input with `frames`, take the interval from `intervals`, and give the function an example. Add worked values as a
test in `tests/metrics`. To show the metric in a table, register it in `summary` (samples) or add it to `evaluated`
(models).
"""
