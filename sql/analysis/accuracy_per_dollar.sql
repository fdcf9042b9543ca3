-- How much accuracy does a unit of currency, or a petaFLOP, spent on samples buy?
-- Of models finetuned on all that a budget buys of one model: points above the untouched model, greedy, over what the
-- samples cost. Where models have no price, by FLOPs alone.
WITH scored AS (
    SELECT study, benchmark, budget, source, target, avg(correct::INT) AS accuracy
    FROM evals
    WHERE temperature = 0
    GROUP BY ALL
), spent AS (
    SELECT study, budget, model AS source, count(*) AS samples, sum(flops) AS flops, sum(cost) AS cost
    FROM samples
    GROUP BY ALL
)
SELECT s.study, s.benchmark, s.target, s.budget, s.source, b.samples, b.cost, b.flops,
       round(s.accuracy, 4) AS accuracy, round(100 * (s.accuracy - untouched.accuracy), 2) AS points_gained,
       100 * (s.accuracy - untouched.accuracy) / b.cost AS points_per_unit_of_currency,
       100 * (s.accuracy - untouched.accuracy) / (b.flops / 1e15) AS points_per_petaflop
FROM scored AS s
JOIN spent AS b USING (study, budget, source)
LEFT JOIN scored AS untouched
    ON untouched.study = s.study AND untouched.benchmark = s.benchmark AND untouched.target = s.target
    AND untouched.source = 'base' AND untouched.budget IS NULL
ORDER BY s.study, s.benchmark, s.target, s.budget, s.source;
