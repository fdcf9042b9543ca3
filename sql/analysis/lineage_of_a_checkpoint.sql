-- What is each finetuned model made of, back to the problems?
-- `depth` counts the steps of the shortest way.
WITH RECURSIVE made AS MATERIALIZED ( -- the files are read once, not at every step
    SELECT study || '/' || asset AS asset, asset LIKE '%\_checkpoint' ESCAPE '\' AS is_checkpoint, "partition",
           input_asset, input_partition, input_data_version
    FROM lineage
    WHERE input_asset IS NOT NULL
), made_of AS (
    SELECT asset AS checkpoint, "partition" AS checkpoint_partition, 1 AS depth,
           input_asset, input_partition, input_data_version
    FROM made
    WHERE is_checkpoint AND "partition" IS NOT NULL
    UNION
    SELECT m.checkpoint, m.checkpoint_partition, m.depth + 1, l.input_asset, l.input_partition, l.input_data_version
    FROM made_of AS m
    JOIN made AS l ON l.asset = m.input_asset AND l."partition" IS NOT DISTINCT FROM m.input_partition
)
SELECT checkpoint, checkpoint_partition, min(depth) AS depth, input_asset, input_partition, input_data_version
FROM made_of
GROUP BY ALL
ORDER BY checkpoint, checkpoint_partition, depth, input_asset, input_partition;
