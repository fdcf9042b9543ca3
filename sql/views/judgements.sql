-- Is the reasoning of a sample right? One row per judged sample and judge; wrong_reasoning is null where it was not told.
-- needs: */judgements/**/data.parquet
CREATE VIEW judgements AS
SELECT * FROM read_parquet('{root}/*/judgements/**/data.parquet', union_by_name = true, hive_partitioning = false);
