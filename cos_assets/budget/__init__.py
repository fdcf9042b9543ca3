"""Samples per budget: matching rules, ways to spend a budget, allocation over problems. Pure functions."""
