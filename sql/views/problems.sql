-- The problem set, all splits.
-- One row per study and problem_id.
CREATE VIEW problems AS
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
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/*/problems/**/data.parquet', union_by_name = true, hive_partitioning = false, allow_empty = true
    )
);
