-- How many problems did the pilot expect each budget to solve, and how many were solved?
-- The same for different correct solutions (by their equations). Intervals are the prediction's.
WITH expected AS (
    SELECT study, budget, source AS model, problems, solved, solved_low, solved_high, "distinct", distinct_low,
           distinct_high
    FROM prediction
    WHERE scale = 1
    QUALIFY problems = max(problems) OVER (PARTITION BY study, budget)
), solutions AS (
    SELECT study, budget, model, problem_id, equations_key FROM verdicts WHERE correct GROUP BY ALL
), per_problem AS (
    SELECT study, budget, model, problem_id, count(*) AS different FROM solutions GROUP BY ALL
), outcome AS (
    SELECT study, budget, model, count(*) AS solved, sum(different) AS different FROM per_problem GROUP BY ALL
)
SELECT study, budget, model, e.problems, round(e.solved, 1) AS expected_solved, round(e.solved_low, 1) AS low,
       round(e.solved_high, 1) AS high, o.solved, round(e."distinct", 1) AS expected_different,
       round(e.distinct_low, 1) AS different_low, round(e.distinct_high, 1) AS different_high, o.different
FROM expected AS e
JOIN outcome AS o USING (study, budget, model)
ORDER BY study, budget, model;
