"""Storage: tables, files and locks, on disk or in an object store.

    schemas, table          the declaration of all tables: columns, types, meanings, and the views that follow
    tables                  the table tree: one Parquet file per asset and partition, with its lineage
    catalog                 `cos.duckdb`: views over the tree, and the stored questions
    paths, artifacts        atomic files, and folders such as models
    locks, processes        locks between processes and machines; whether a process still exists

To add a column, edit `schemas`.
"""
