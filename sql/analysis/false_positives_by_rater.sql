-- How many correct answers does each judge and each annotator find to have wrong reasoning?
-- Each row is over the samples that this rater read, each counted once. Compare only raters of the same samples;
-- `cos label show STUDY` does, with intervals.
WITH said AS (
    SELECT study, model, problem_id, sample_index, judge AS rater, 'judge' AS kind, label
    FROM judgements
    WHERE control IS NULL
    UNION
    SELECT study, model, problem_id, sample_index, annotator, 'human', label FROM labels WHERE latest
),
correct AS (SELECT study, model, problem_id, sample_index FROM verdicts WHERE coalesce(correct, true))
SELECT
    study, model, kind, rater,
    count(*) FILTER (label = 'wrong') AS wrong,
    count(*) FILTER (label IN ('right', 'wrong')) AS decided,
    count(*) FILTER (label NOT IN ('right', 'wrong')) AS undecided,
    count(DISTINCT problem_id) AS n_problems,
    round(count(*) FILTER (label = 'wrong') / nullif(count(*) FILTER (label IN ('right', 'wrong')), 0), 4) AS share
FROM said
SEMI JOIN correct USING (study, model, problem_id, sample_index)
GROUP BY study, model, kind, rater
ORDER BY study, model, kind, rater;
