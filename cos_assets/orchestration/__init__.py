"""Orchestration: which partitions are missing or stale, their order, and their execution by `cos run` and schedules.

`graph` groups assets into batches, `due` determines which partitions have to be materialized, `executor` runs batches
in processes, `schedule` requests backfills. To add a check of results, see `checks` and docs/checks.md.
"""
