-- Which bought samples is each finetuned model trained on, and how many of them are right?
-- `model` is null for reference solutions. What they cost is counted once for each model that is trained on them.
WITH rows_of AS (
    SELECT study, budget, source, model, count(*) AS "rows", count(DISTINCT problem_id) AS problems,
           round(avg(v.correct::INT), 4) AS share_correct, sum(s.completion_tokens) AS tokens, sum(s.flops) AS flops,
           sum(s.cost) AS cost
    FROM sft_set
    LEFT JOIN samples AS s USING (study, budget, model, problem_id, sample_index)
    LEFT JOIN verdicts AS v USING (study, budget, model, problem_id, sample_index)
    GROUP BY ALL
)
SELECT c.study, c.target, c.budget, c.source, c.seed, r.model, r."rows", r.problems, r.share_correct, r.tokens, r.flops,
       r.cost, c.path
FROM checkpoints AS c
JOIN rows_of AS r USING (study, budget, source)
ORDER BY c.study, c.target, c.budget, c.source, c.seed, r.model;
