-- What share of the problems does each model solve at the same cost?
-- One row per point of a model's coverage curve, beside the last point of another model's that costs no more. Cost is
-- per problem, in what the study matches budgets by (`match`).
WITH curve AS (
    SELECT m.study, m.budget, p.match, m.model, m.k, p.fixed_cost + m.k * p.unit_cost AS cost, m.value, m.low, m.high
    FROM sample_metrics AS m
    JOIN budget_plan AS p USING (study, budget, model)
    WHERE m.metric = 'coverage' AND m.level IS NULL
), paired AS (
    SELECT a.*, b.model AS other_model
    FROM curve AS a
    JOIN budget_plan AS b ON b.study = a.study AND b.budget = a.budget AND b.model <> a.model
)
SELECT a.study, a.budget, a.match, a.cost, a.model, a.k, round(a.value, 4) AS coverage, round(a.low, 4) AS low,
       round(a.high, 4) AS high, a.other_model, b.k AS other_k, round(b.value, 4) AS other_coverage,
       round(100 * (a.value - b.value), 2) AS difference_in_points
FROM paired AS a
ASOF LEFT JOIN curve AS b
    ON b.study = a.study AND b.budget = a.budget AND b.model = a.other_model AND b.cost <= a.cost
ORDER BY a.study, a.budget, a.cost, a.model, a.other_model;
