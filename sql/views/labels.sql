-- What people said of a sample's reasoning: right, wrong, unsure.
-- One row per study, model, problem_id, sample_index, annotator and import; of one annotator's the latest counts.
CREATE VIEW labels AS
SELECT * EXCLUDE (empty, filename), row_number() OVER (
    PARTITION BY study, model, problem_id, sample_index, annotator ORDER BY imported_at DESC, filename DESC
) = 1 AS latest
FROM (
    SELECT unnest(NULL::STRUCT(
        study VARCHAR,
        model VARCHAR,
        problem_id VARCHAR,
        sample_index INTEGER,
        annotator VARCHAR,
        label VARCHAR,
        first_wrong_step INTEGER,
        comment VARCHAR,
        text_hash VARCHAR,
        imported_at VARCHAR,
        filename VARCHAR,
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/*/labels/*.parquet',
        union_by_name = true, hive_partitioning = false, filename = true, allow_empty = true
    )
);
