-- Answers of finetuned models to test problems, and of the untouched ones (source base, no budget).
-- One row per study, budget, source, target, seed, benchmark, problem_id, temperature and sample_index.
CREATE VIEW evals AS
SELECT * EXCLUDE (empty) FROM (
    SELECT unnest(NULL::STRUCT(
        study VARCHAR,
        budget VARCHAR,
        source VARCHAR,
        target VARCHAR,
        seed BIGINT,
        benchmark VARCHAR,
        problem_id VARCHAR,
        temperature DOUBLE,
        sample_index INTEGER,
        completion VARCHAR,
        finish_reason VARCHAR,
        completion_tokens BIGINT,
        extract VARCHAR,
        answer VARCHAR,
        verdict VARCHAR,
        correct BOOLEAN,
        answer_class INTEGER,
        wrong_reasoning BOOLEAN,
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/*/*_eval/**/data.parquet', union_by_name = true, hive_partitioning = false, allow_empty = true
    )
);
