-- Every data arm against the samplers' own data: greedy accuracy of both, and the paired difference with its interval.
-- needs: */ablations/**/data.parquet
CREATE VIEW ablations AS
SELECT * FROM read_parquet('{root}/*/ablations/**/data.parquet', union_by_name = true, hive_partitioning = false);
