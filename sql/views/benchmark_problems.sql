-- Test problems of benchmarks that are not the study's own task.
-- One row per study, benchmark and problem_id.
CREATE VIEW benchmark_problems AS
SELECT * EXCLUDE (empty) FROM (
    SELECT unnest(NULL::STRUCT(
        study VARCHAR,
        problem_id VARCHAR,
        split VARCHAR,
        question VARCHAR,
        answer VARCHAR,
        solution VARCHAR,
        level VARCHAR,
        subject VARCHAR,
        truth VARCHAR,
        benchmark VARCHAR,
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/*/benchmark_problems/**/data.parquet', union_by_name = true, hive_partitioning = false, allow_empty = true
    )
);
