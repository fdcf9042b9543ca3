"""Samples per budget: pure functions, independent of tables and engines.

* `matching`: the samples that each model gets for one budget, by a matching rule
* `strategies`: ways to spend a budget, their expected results from a pilot, and the recommended one
* `allocation`: the problems that get the next samples, if a budget is not spread evenly

The examples in the docstrings use the names of their module, with `pl`; `tests/test_doctests.py` runs them.

To add a matching rule, write a `matching.MatchRule` and add it to `matching.RULES` (docs/extending.md has an example of
one outside this package). To add a measure to the expected results, add its columns to `strategies.SCHEMA` and its
curve to `strategies._curves`. Worked values belong in `tests/budget`.
"""
