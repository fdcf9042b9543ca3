-- What each sample answers, and whether that is right: correct, wrong, no_answer, truncated, grader_error.
-- One row per study, budget, model, problem_id and sample_index.
CREATE VIEW verdicts AS
SELECT * EXCLUDE (empty) FROM (
    SELECT unnest(NULL::STRUCT(
        study VARCHAR,
        budget VARCHAR,
        model VARCHAR,
        problem_id VARCHAR,
        sample_index INTEGER,
        level VARCHAR,
        extract VARCHAR,
        answer VARCHAR,
        verdict VARCHAR,
        correct BOOLEAN,
        strict BOOLEAN,
        reason VARCHAR,
        grader VARCHAR,
        grader_version VARCHAR,
        text_key VARCHAR,
        equations_key VARCHAR,
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/*/verdicts/**/data.parquet', union_by_name = true, hive_partitioning = false, allow_empty = true
    )
);
