-- coverage@k and diversity@k of the samples, with intervals; level is null for all levels together.
-- One row per study, budget, model, metric, distinct, denominator, level and k.
CREATE VIEW sample_metrics AS
SELECT * EXCLUDE (empty) FROM (
    SELECT unnest(NULL::STRUCT(
        study VARCHAR,
        budget VARCHAR,
        model VARCHAR,
        metric VARCHAR,
        "distinct" VARCHAR,
        denominator VARCHAR,
        level VARCHAR,
        k BIGINT,
        value DOUBLE,
        low DOUBLE,
        high DOUBLE,
        n_problems BIGINT,
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/*/sample_metrics/**/data.parquet', union_by_name = true, hive_partitioning = false, allow_empty = true
    )
);
