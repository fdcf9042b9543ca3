-- Which share of the correct answers rests on wrong reasoning, by each judge and each annotator?
-- Every row is over the samples that this one read; compare only raters of the same samples (`cos label show STUDY`
-- does). Needs labels that were imported (`cos label import`).
WITH said AS (
    SELECT study, model, problem_id, sample_index, judge AS rater, 'judge' AS kind, label FROM judgements
    UNION
    SELECT study, model, problem_id, sample_index, annotator, 'human', label FROM labels WHERE latest
),
correct AS (SELECT DISTINCT study, model, problem_id, sample_index FROM verdicts WHERE coalesce(correct, true))
SELECT
    study, model, rater, kind,
    count(*) FILTER (label IN ('right', 'wrong')) AS samples,
    count(*) FILTER (label NOT IN ('right', 'wrong')) AS undecided,
    round(avg((label = 'wrong')::INT) FILTER (label IN ('right', 'wrong')), 4) AS false_positive_rate
FROM said
SEMI JOIN correct USING (study, model, problem_id, sample_index)
GROUP BY study, model, rater, kind
ORDER BY study, model, kind, rater;
