-- What the pilot lets expect of each way to spend a budget: source, samples per problem, part of the problems.
-- needs: */prediction/**/data.parquet
CREATE VIEW prediction AS
SELECT * FROM read_parquet('{root}/*/prediction/**/data.parquet', union_by_name = true, hive_partitioning = false);
