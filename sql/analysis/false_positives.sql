-- Which correct answers rest on wrong reasoning, by whom, and where does it go wrong?
-- The first 50; their texts are looked up after they are chosen.
WITH wrong AS (
    SELECT study, budget, model, judge, problem_id, sample_index, first_wrong_step, reason
    FROM judgements
    WHERE wrong_reasoning AND correct
    ORDER BY study, budget, model, judge, problem_id, sample_index
    LIMIT 50
)
SELECT w.*, s.completion
FROM wrong AS w
JOIN samples AS s USING (study, budget, model, problem_id, sample_index)
ORDER BY w.study, w.budget, w.model, w.judge, w.problem_id, w.sample_index;
