-- What models are finetuned on; model and sample_index say which sample a row is.
-- One row per study, budget, source and solution that is trained on.
CREATE VIEW sft_set AS
SELECT * EXCLUDE (empty) FROM (
    SELECT unnest(NULL::STRUCT(
        study VARCHAR,
        budget VARCHAR,
        source VARCHAR,
        problem_id VARCHAR,
        model VARCHAR,
        sample_index INTEGER,
        prompt VARCHAR,
        completion VARCHAR,
        finish_reason VARCHAR,
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/*/sft_set/**/data.parquet', union_by_name = true, hive_partitioning = false, allow_empty = true
    )
);
