-- What does a correct sample cost, and one that differs from all others in its equations?
-- Everything that was bought is paid for, wrong and truncated samples, too.
WITH bought AS (
    SELECT study, budget, model, count(*) AS samples, sum(completion_tokens) AS tokens, sum(flops) AS flops,
           sum(cost) AS cost
    FROM samples
    GROUP BY ALL
), solutions AS (
    SELECT study, budget, model, problem_id, equations_key, count(*) AS times
    FROM verdicts
    WHERE correct
    GROUP BY ALL
), found AS (
    SELECT study, budget, model, sum(times) AS correct, count(*) AS different FROM solutions GROUP BY ALL
)
SELECT study, budget, model, b.samples, coalesce(f.correct, 0) AS correct, coalesce(f.different, 0) AS different,
       round(b.tokens / f.correct, 1) AS tokens_per_correct, round(b.tokens / f.different, 1) AS tokens_per_different,
       b.flops / f.correct AS flops_per_correct, b.flops / f.different AS flops_per_different,
       b.cost / f.correct AS cost_per_correct, b.cost / f.different AS cost_per_different
FROM bought AS b
LEFT JOIN found AS f USING (study, budget, model)
ORDER BY study, budget, model;
