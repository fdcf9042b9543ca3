-- accuracy (greedy), pass@k, maj@k and false positives of finetuned and untouched models; level and subject are null for
-- all problems together.
-- needs: */eval_metrics/**/data.parquet
CREATE VIEW eval_metrics AS
SELECT * FROM read_parquet('{root}/*/eval_metrics/**/data.parquet', union_by_name = true, hive_partitioning = false);
