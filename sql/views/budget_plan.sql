-- Samples per problem of every budget and model, and what they can and will cost.
-- One row per study, budget and model.
CREATE VIEW budget_plan AS
SELECT * EXCLUDE (empty) FROM (
    SELECT unnest(NULL::STRUCT(
        study VARCHAR,
        budget VARCHAR,
        model VARCHAR,
        match VARCHAR,
        match_rule VARCHAR,
        samples BIGINT,
        exact_samples DOUBLE,
        mismatch DOUBLE,
        reference BOOLEAN,
        params DOUBLE,
        unit_cost DOUBLE,
        fixed_cost DOUBLE,
        tokens_per_solution DOUBLE,
        tokens_per_prompt DOUBLE,
        tokens_per_second DOUBLE,
        n_problems BIGINT,
        completions BIGINT,
        tokens_ceiling BIGINT,
        flops_ceiling DOUBLE,
        cost_ceiling DOUBLE,
        tokens_expected DOUBLE,
        tokens_low DOUBLE,
        tokens_high DOUBLE,
        flops_expected DOUBLE,
        flops_low DOUBLE,
        flops_high DOUBLE,
        cost_expected DOUBLE,
        cost_low DOUBLE,
        cost_high DOUBLE,
        seconds_expected DOUBLE,
        currency VARCHAR,
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/*/budget_plan/**/data.parquet', union_by_name = true, hive_partitioning = false, allow_empty = true
    )
);
