-- Which completions were cut off at the token limit, and paid for?
SELECT study, budget, model, problem_id, sample_index, completion_tokens, flops, cost, right(coalesce(nullif(trim(completion), ''), reasoning), 80) AS ends_with
FROM samples
WHERE finish_reason = 'length'
ORDER BY study, budget, model, problem_id, sample_index
LIMIT 50;
