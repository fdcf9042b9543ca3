-- Which correct answers rest on wrong reasoning, by whom, and where does it go wrong?
SELECT j.study, j.budget, j.model, j.judge, j.problem_id, j.sample_index, j.first_wrong_step, j.reason, s.completion
FROM judgements AS j
JOIN samples AS s USING (study, budget, model, problem_id, sample_index)
WHERE j.wrong_reasoning AND j.correct
ORDER BY j.study, j.budget, j.model, j.judge, j.problem_id, j.sample_index
LIMIT 50;
