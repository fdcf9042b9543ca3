-- A few samples of every model, graded, bought before budgets are planned.
-- One row per study, model, problem_id and sample_index.
CREATE VIEW pilot AS
SELECT * EXCLUDE (empty) FROM (
    SELECT unnest(NULL::STRUCT(
        study VARCHAR,
        model VARCHAR,
        problem_id VARCHAR,
        sample_index INTEGER,
        prompt_hash VARCHAR,
        completion VARCHAR,
        finish_reason VARCHAR,
        prompt_tokens BIGINT,
        completion_tokens BIGINT,
        flops DOUBLE,
        cost DOUBLE,
        verdict VARCHAR,
        correct BOOLEAN,
        text_key VARCHAR,
        equations_key VARCHAR,
        cached_tokens BIGINT,
        seconds DOUBLE,
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/*/pilot/**/data.parquet', union_by_name = true, hive_partitioning = false, allow_empty = true
    )
);
