-- How many different correct solutions does each model find per problem it solves?
WITH texts AS (
    SELECT study, budget, model, problem_id, equations_key, text_key, count(*) AS times
    FROM verdicts
    WHERE correct
    GROUP BY ALL
), equations AS ( -- equal texts have equal equations
    SELECT study, budget, model, problem_id, equations_key, count(*) AS texts, sum(times) AS times
    FROM texts
    GROUP BY ALL
), solved AS (
    SELECT study, budget, model, problem_id, count(*) AS equations, sum(texts) AS texts, sum(times) AS times
    FROM equations
    GROUP BY ALL
)
SELECT study, budget, model, count(*) AS solved_problems, sum(times) AS correct_samples, sum(texts) AS distinct_texts,
       sum(equations) AS distinct_equations, round(sum(equations) / count(*), 3) AS equations_per_solved_problem
FROM solved
GROUP BY study, budget, model
ORDER BY study, budget, model;
