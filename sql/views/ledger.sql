-- Every attempt that was ever paid for, by any study and stage; a finetuning is one attempt.
-- One row per fingerprint (the model), sampling parameters, prompt_hash, sample_index and attempt.
CREATE VIEW ledger AS
SELECT * EXCLUDE (empty), parse_path(filename)[-3][7:] AS fingerprint
FROM (
    SELECT unnest(NULL::STRUCT(
        prompt_hash VARCHAR,
        sample_index INTEGER,
        attempt INTEGER,
        prompt VARCHAR,
        completion VARCHAR,
        finish_reason VARCHAR,
        prompt_tokens BIGINT,
        completion_tokens BIGINT,
        cached_tokens BIGINT,
        flops DOUBLE,
        cost DOUBLE,
        seconds DOUBLE,
        retries INTEGER,
        engine VARCHAR,
        model_id VARCHAR,
        revision VARCHAR,
        temperature DOUBLE,
        top_k BIGINT,
        top_p DOUBLE,
        max_tokens BIGINT,
        seed BIGINT,
        stop VARCHAR[],
        study VARCHAR,
        stage VARCHAR,
        run_id VARCHAR,
        time TIMESTAMP WITH TIME ZONE,
        error VARCHAR,
        filename VARCHAR,
        empty BOOLEAN
    )) WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        '{root}/ledger/*/*/part-*.parquet',
        union_by_name = true, hive_partitioning = false, filename = true, allow_empty = true
    )
);
