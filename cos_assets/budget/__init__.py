"""Samples per budget: matching rules, strategies to spend a budget, allocation over problems. Pure functions."""
