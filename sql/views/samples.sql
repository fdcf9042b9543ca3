-- Raw completions, exactly as bought; never edited.
-- One row per study, budget, model, problem_id and sample_index.
CREATE VIEW samples AS
SELECT * EXCLUDE (empty) FROM (
    SELECT unnest(NULL::STRUCT(
        study VARCHAR,
        budget VARCHAR,
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
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/*/samples/**/data.parquet', union_by_name = true, hive_partitioning = false, allow_empty = true
    )
);
