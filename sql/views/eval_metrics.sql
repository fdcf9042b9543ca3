-- accuracy (greedy), pass@k, maj@k and false positives of finetuned and untouched models, with intervals.
-- One row per study, budget, source, target, benchmark, metric, k, level and subject; nulls stand for all together.
CREATE VIEW eval_metrics AS
SELECT * EXCLUDE (empty) FROM (
    SELECT unnest(NULL::STRUCT(
        study VARCHAR,
        budget VARCHAR,
        source VARCHAR,
        target VARCHAR,
        benchmark VARCHAR,
        metric VARCHAR,
        k BIGINT,
        level VARCHAR,
        subject VARCHAR,
        value DOUBLE,
        low DOUBLE,
        high DOUBLE,
        n_problems BIGINT,
        n_seeds BIGINT,
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/*/eval_metrics/**/data.parquet', union_by_name = true, hive_partitioning = false, allow_empty = true
    )
);
