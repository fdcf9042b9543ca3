-- Finetuned models: where they lie, what they are made of, what they took.
-- One row per study, budget, source, target and seed; the tiny models have neither budget nor source.
CREATE VIEW checkpoints AS
SELECT * EXCLUDE (empty) FROM (
    SELECT unnest(NULL::STRUCT(
        study VARCHAR,
        budget VARCHAR,
        source VARCHAR,
        target VARCHAR,
        seed BIGINT,
        path VARCHAR,
        hash VARCHAR,
        base VARCHAR,
        base_hash VARCHAR,
        method VARCHAR,
        steps BIGINT,
        learning_rate DOUBLE,
        chosen_step BIGINT,
        validation_accuracy DOUBLE,
        tokens BIGINT,
        completion_tokens BIGINT,
        flops DOUBLE,
        params BIGINT,
        examples BIGINT,
        too_long BIGINT,
        epochs DOUBLE,
        curve STRUCT(learning_rate DOUBLE, loss DOUBLE, validation_accuracy DOUBLE, step BIGINT)[],
        data_hash VARCHAR,
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/*/*_checkpoint/**/data.parquet', union_by_name = true, hive_partitioning = false, allow_empty = true
    )
);
