-- Paired differences between the two samplers, with intervals, and which one is better.
-- One row per study, budget, metric, target and benchmark; target all is the mean of the targets.
CREATE VIEW report AS
SELECT * EXCLUDE (empty) FROM (
    SELECT unnest(NULL::STRUCT(
        study VARCHAR,
        budget VARCHAR,
        metric VARCHAR,
        target VARCHAR,
        benchmark VARCHAR,
        weak VARCHAR,
        k_weak BIGINT,
        weak_value DOUBLE,
        weak_low DOUBLE,
        weak_high DOUBLE,
        strong VARCHAR,
        k_strong BIGINT,
        strong_value DOUBLE,
        strong_low DOUBLE,
        strong_high DOUBLE,
        difference DOUBLE,
        low DOUBLE,
        high DOUBLE,
        n_problems BIGINT,
        better VARCHAR,
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/*/report/**/data.parquet', union_by_name = true, hive_partitioning = false, allow_empty = true
    )
);
