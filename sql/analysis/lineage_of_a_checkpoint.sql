-- What is each finetuned model made of, back to the problems?
WITH RECURSIVE made_of AS (
    SELECT study || '/' || asset AS checkpoint, "partition" AS checkpoint_partition, 1 AS depth,
           input_asset, input_partition, input_data_version
    FROM lineage
    WHERE asset LIKE '%\_checkpoint' ESCAPE '\' AND "partition" IS NOT NULL
    UNION
    SELECT m.checkpoint, m.checkpoint_partition, m.depth + 1, l.input_asset, l.input_partition, l.input_data_version
    FROM made_of AS m
    JOIN lineage AS l
      ON l.study || '/' || l.asset = m.input_asset AND l."partition" IS NOT DISTINCT FROM m.input_partition
)
SELECT checkpoint, checkpoint_partition, min(depth) AS depth, input_asset, input_partition, input_data_version
FROM made_of
WHERE input_asset IS NOT NULL
GROUP BY ALL
ORDER BY checkpoint, checkpoint_partition, depth, input_asset, input_partition;
