-- Which model's samples were the better buy, at each budget of each study?
-- By what models finetuned on them are worth (the mean of the targets, on each benchmark); where none was finetuned, by
-- the problems solved. A difference is weak - strong, in points, with its interval over problems.
WITH verdict AS (
    SELECT *, bool_or(metric = 'accuracy') OVER (PARTITION BY study, budget) AS finetuned
    FROM report
    WHERE metric = 'coverage' OR (metric = 'accuracy' AND target = 'all')
)
SELECT v.study, v.budget, v.better, v.metric, v.benchmark,
       v.weak, a.samples AS weak_samples, round(v.weak_value, 4) AS weak_value,
       v.strong, b.samples AS strong_samples, round(v.strong_value, 4) AS strong_value,
       round(100 * v.difference, 2) AS difference_in_points, round(100 * v.low, 2) AS low,
       round(100 * v.high, 2) AS high, v.n_problems
FROM verdict AS v
LEFT JOIN budget_plan AS a ON a.study = v.study AND a.budget = v.budget AND a.model = v.weak
LEFT JOIN budget_plan AS b ON b.study = v.study AND b.budget = v.budget AND b.model = v.strong
WHERE v.finetuned = (v.metric = 'accuracy')
ORDER BY v.study, v.budget, v.benchmark;
