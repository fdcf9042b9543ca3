-- How accurate are models finetuned on each pair of sources, and by how many points do they differ?
WITH accuracy AS (
    SELECT study, benchmark, budget, target, source, avg(correct::INT) AS value, count(DISTINCT problem_id) AS n_problems
    FROM evals
    WHERE budget IS NOT NULL AND temperature = 0
    GROUP BY ALL
)
SELECT one.study, one.benchmark, one.budget, one.target, one.source, other.source AS other_source,
       round(one.value, 4) AS accuracy, round(other.value, 4) AS other_accuracy,
       round(100 * (one.value - other.value), 2) AS difference_in_points, one.n_problems
FROM accuracy AS one
JOIN accuracy AS other USING (study, benchmark, budget, target)
WHERE one.source > other.source -- each pair once; wc before se
ORDER BY one.study, one.benchmark, one.budget, one.target, one.source DESC, other_source DESC;
