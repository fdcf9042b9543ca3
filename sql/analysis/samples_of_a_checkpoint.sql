-- Which bought samples is each finetuned model trained on, and how many of them are right?
-- `model` is null for reference solutions. What they cost is counted once for each model that is trained on them.
WITH used AS ( -- tables are joined by a 64-bit hash of a sample's names: the names themselves take three times as long
    SELECT study, budget, source, model, problem_id, hash(study, budget, model, problem_id, sample_index) AS sample
    FROM sft_set
), paid AS (
    SELECT hash(study, budget, model, problem_id, sample_index) AS sample, completion_tokens, flops, cost FROM samples
), graded AS (
    SELECT hash(study, budget, model, problem_id, sample_index) AS sample, correct FROM verdicts
), rows_of AS (
    SELECT study, budget, source, model, count(*) AS "rows", count(DISTINCT hash(problem_id)) AS problems,
           round(avg(g.correct::INT), 4) AS share_correct, sum(p.completion_tokens) AS tokens, sum(p.flops) AS flops,
           sum(p.cost) AS cost
    FROM used
    LEFT JOIN paid AS p USING (sample)
    LEFT JOIN graded AS g USING (sample)
    GROUP BY ALL
)
SELECT c.study, c.target, c.budget, c.source, c.seed, r.model, r."rows", r.problems, r.share_correct, r.tokens, r.flops,
       r.cost, c.path
FROM checkpoints AS c
JOIN rows_of AS r USING (study, budget, source)
ORDER BY c.study, c.target, c.budget, c.source, c.seed, r.model;
