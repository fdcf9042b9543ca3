-- Which correct answers have wrong reasoning, according to which judge, and at which step?
-- The first 50. Their texts are looked up after they are selected. false_alarms and recall are the judge's error rates
-- on its controls; no_rate says why it gives no false positive rate.
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
LEFT JOIN judges AS j USING (study, budget, model, judge)
ORDER BY w.study, w.budget, w.model, w.judge, w.problem_id, w.sample_index;
