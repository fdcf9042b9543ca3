-- How do finetuned and untouched models score: greedily, by pass@k, by maj@k, and in false positives?
SELECT study, benchmark, target, budget, source, metric, k, round(value, 4) AS value, round(low, 4) AS low,
       round(high, 4) AS high, n_problems, n_seeds
FROM eval_metrics
WHERE level IS NULL AND subject IS NULL
ORDER BY study, benchmark, target, budget NULLS FIRST, source, metric, k;
