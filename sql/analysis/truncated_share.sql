-- What share of the samples was cut off at the token limit, still reasoning or in the answer, and what did they cost?
SELECT study, budget, model, count(*) AS samples,
       count(*) FILTER (finish_reason = 'length') AS truncated,
       count(*) FILTER (finish_reason = 'length' AND trim(completion) = '') AS in_reasoning,
       count(*) FILTER (finish_reason = 'length' AND trim(completion) <> '') AS in_answer,
       round(avg((finish_reason = 'length')::INT), 4) AS share,
       coalesce(sum(completion_tokens) FILTER (finish_reason = 'length'), 0) AS tokens,
       sum(flops) FILTER (finish_reason = 'length') AS flops,
       sum(cost) FILTER (finish_reason = 'length') AS cost
FROM samples
GROUP BY study, budget, model
ORDER BY study, budget, model;
