-- Which correct answers rest on wrong reasoning, by whom, and where does it go wrong?
-- The first 50; their texts are looked up after they are chosen. Beside them: how often the judge calls reference
-- solutions wrong (false alarms) and wrong answers wrong (recall), and why it gives no rate.
WITH wrong AS (
    SELECT study, budget, model, judge, problem_id, sample_index, first_wrong_step, reason
    FROM judgements
    WHERE wrong_reasoning AND correct AND control IS NULL
    ORDER BY study, budget, model, judge, problem_id, sample_index
    LIMIT 50
)
SELECT w.*, s.completion, round(j.false_alarms, 4) AS false_alarms, round(j.recall, 4) AS recall, j.no_rate
FROM wrong AS w
JOIN samples AS s USING (study, budget, model, problem_id, sample_index)
LEFT JOIN judges AS j USING (study, judge)
ORDER BY w.study, w.budget, w.model, w.judge, w.problem_id, w.sample_index;
