-- What the pilot lets expect of each way to spend a budget.
-- One row per study, budget, scale (part of the budget), source and number of problems.
CREATE VIEW prediction AS
SELECT * EXCLUDE (empty) FROM (
    SELECT unnest(NULL::STRUCT(
        study VARCHAR,
        budget VARCHAR,
        scale DOUBLE,
        source VARCHAR,
        problems BIGINT,
        samples STRUCT(model VARCHAR, samples BIGINT)[],
        spend DOUBLE,
        solved DOUBLE,
        solved_low DOUBLE,
        solved_high DOUBLE,
        correct DOUBLE,
        correct_low DOUBLE,
        correct_high DOUBLE,
        "distinct" DOUBLE,
        distinct_low DOUBLE,
        distinct_high DOUBLE,
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/*/prediction/**/data.parquet', union_by_name = true, hive_partitioning = false, allow_empty = true
    )
);
