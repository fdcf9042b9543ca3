-- Every data arm against the samplers' own data: greedy accuracy of both, and the paired difference.
-- One row per study, budget, arm, reference, target and benchmark; target all is the mean of the targets.
CREATE VIEW ablations AS
SELECT * EXCLUDE (empty) FROM (
    SELECT unnest(NULL::STRUCT(
        study VARCHAR,
        budget VARCHAR,
        arm VARCHAR,
        reference VARCHAR,
        target VARCHAR,
        benchmark VARCHAR,
        arm_value DOUBLE,
        arm_low DOUBLE,
        arm_high DOUBLE,
        reference_value DOUBLE,
        reference_low DOUBLE,
        reference_high DOUBLE,
        difference DOUBLE,
        low DOUBLE,
        high DOUBLE,
        n_problems BIGINT,
        better VARCHAR,
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/*/ablations/**/data.parquet', union_by_name = true, hive_partitioning = false, allow_empty = true
    )
);
