-- Every attempt that was ever paid for, by any study and stage; a sample that failed and was asked again by a later run
-- has several rows, and a finetuning has one.
-- needs: ledger/*/*/part-*.parquet
CREATE VIEW ledger AS
SELECT *, parse_path(filename)[-3] [7:] AS fingerprint
FROM read_parquet('{root}/ledger/*/*/part-*.parquet', union_by_name = true, hive_partitioning = false, filename = true);
