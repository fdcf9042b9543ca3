-- How many different correct solutions does a problem get, with all that each budget buys?
-- Different in their equations, or in their texts (`distinct`); per problem of the study (denominator all) or per solved
-- one. With intervals over problems.
SELECT m.study, m.budget, m.model, m.k, m."distinct", m.denominator, round(m.value, 4) AS diversity,
       round(m.low, 4) AS low, round(m.high, 4) AS high, m.n_problems
FROM sample_metrics AS m
JOIN budget_plan AS p ON p.study = m.study AND p.budget = m.budget AND p.model = m.model AND p.samples = m.k
WHERE m.metric = 'diversity' AND m.level IS NULL
ORDER BY m.study, m.budget, m."distinct", m.denominator, m.model;
