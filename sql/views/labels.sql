-- What annotators said of a sample's reasoning: right, wrong, unsure. Of one annotator's labels the latest counts.
-- needs: */labels/*.parquet
CREATE VIEW labels AS
SELECT * EXCLUDE (filename), row_number() OVER (
    PARTITION BY study, model, problem_id, sample_index, annotator ORDER BY imported_at DESC, filename DESC
) = 1 AS latest
FROM read_parquet('{root}/*/labels/*.parquet', union_by_name = true, hive_partitioning = false, filename = true);
