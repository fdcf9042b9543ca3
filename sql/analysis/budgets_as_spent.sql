-- Did each budget cost the same for every model, as planned?
-- `planned_off_by` is what whole numbers of samples leave unmatched; the others are what was spent, over what was spent
-- on the budget's reference model, less 1.
WITH spent AS (
    SELECT study, budget, model, count(*) AS samples, sum(completion_tokens) AS tokens, sum(flops) AS flops,
           sum(cost) AS cost
    FROM samples
    GROUP BY ALL
)
SELECT study, budget, p.match, model, p.reference, p.completions AS planned_samples, s.samples, s.tokens, s.flops, s.cost,
       round(p.mismatch, 4) AS planned_off_by,
       round(s.flops / max(s.flops) FILTER (p.reference) OVER one_budget - 1, 4) AS flops_off_by,
       round(s.cost / max(s.cost) FILTER (p.reference) OVER one_budget - 1, 4) AS cost_off_by
FROM budget_plan AS p
LEFT JOIN spent AS s USING (study, budget, model)
WINDOW one_budget AS (PARTITION BY study, budget)
ORDER BY study, budget, p.reference DESC, model;
