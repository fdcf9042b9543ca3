CREATE VIEW lineage AS
SELECT
    study, asset, "partition", data_version, code_version, run_id, "time", "rows", facts,
    input ->> 'asset' AS input_asset,
    input ->> 'partition' AS input_partition,
    input ->> 'data_version' AS input_data_version
FROM (
    SELECT *, unnest(CASE WHEN len(inputs) = 0 THEN [NULL::JSON] ELSE inputs END) AS input
    FROM (
        SELECT unnest(NULL::STRUCT(
            study VARCHAR,
            asset VARCHAR,
            "partition" VARCHAR,
            data_version VARCHAR,
            code_version VARCHAR,
            run_id VARCHAR,
            "time" TIMESTAMPTZ,
            "rows" BIGINT,
            facts JSON,
            inputs JSON[],
            empty BOOLEAN
        )) WHERE false
        UNION ALL BY NAME
        FROM read_json(
            -- Not **: beside the studies lie the ledger and Dagster's runs, with many folders.
            [
                '{root}/*/*/lineage.json',
                '{root}/*/*/*=*/lineage.json',
                '{root}/*/*/*=*/*=*/lineage.json'
            ],
            allow_empty = true,
            columns = {
                study: 'VARCHAR', asset: 'VARCHAR', "partition": 'VARCHAR', data_version: 'VARCHAR',
                code_version: 'VARCHAR', run_id: 'VARCHAR', "time": 'TIMESTAMPTZ', "rows": 'BIGINT',
                facts: 'JSON', inputs: 'JSON[]'
            }
        )
    )
);
