"""What is missing or stale, in which order it is made, and who runs it: `cos run`, schedules, Dagster's instance.

`graph` cuts assets into batches, `due` says which partitions have to be made, `executor` runs batches in processes,
`schedule` asks for backfills. To add a rule that results are held to: `checks`, and docs/checks.md.
"""
