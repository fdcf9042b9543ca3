"""Storage: the table tree and its columns, files on disk and in object stores, locks, and the DuckDB catalog.

To add a column, edit `schemas`.
"""
