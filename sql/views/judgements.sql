-- Is the reasoning of a sample right? wrong_reasoning is null where the judge did not tell.
-- One row per study, budget, model, problem_id, sample_index, judge and control; control is null for an ordinary judgement.
CREATE VIEW judgements AS
SELECT * EXCLUDE (empty) FROM (
    SELECT unnest(NULL::STRUCT(
        study VARCHAR,
        budget VARCHAR,
        model VARCHAR,
        problem_id VARCHAR,
        sample_index INTEGER,
        control VARCHAR,
        judge VARCHAR,
        judge_version VARCHAR,
        label VARCHAR,
        first_wrong_step INTEGER,
        reason VARCHAR,
        wrong_reasoning BOOLEAN,
        correct BOOLEAN,
        weight DOUBLE,
        flops DOUBLE,
        cost DOUBLE,
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/*/judgements/**/data.parquet', union_by_name = true, hive_partitioning = false, allow_empty = true
    )
);
