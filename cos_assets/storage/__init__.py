"""Where data is kept: the table tree and its columns, files on disks and object stores, locks, the DuckDB catalog.

To add a column: `schemas`, and the view in sql/views.
"""
