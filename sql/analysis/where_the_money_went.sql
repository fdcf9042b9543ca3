-- What was spent, by study, stage (pilot, sampling, judging, training, validation, evaluation) and model?
-- A finetuning is one attempt; its tokens count as often as they were trained on.
SELECT study, stage, model_id, count(*) AS attempts,
       sum(retries) AS retries,
       count(*) FILTER (finish_reason = 'error') AS failed,
       count(*) FILTER (finish_reason = 'length') AS truncated,
       sum(prompt_tokens) AS prompt_tokens, sum(cached_tokens) AS cached_tokens,
       sum(completion_tokens) AS completion_tokens,
       sum(flops) AS flops, sum(cost) AS cost, round(sum(seconds), 1) AS engine_seconds
FROM ledger
GROUP BY ALL
ORDER BY flops DESC NULLS LAST, study, stage, model_id;
