-- On which samples do judges and annotators say different things of the reasoning, and who says what?
WITH said AS (
    SELECT study, model, problem_id, sample_index, judge AS rater, label, reason
    FROM judgements
    WHERE control IS NULL
    UNION
    SELECT study, model, problem_id, sample_index, annotator, label, comment FROM labels WHERE latest
), differ AS (
    SELECT study, model, problem_id, sample_index,
           list(rater ORDER BY rater) FILTER (label = 'right') AS right_by,
           list(rater ORDER BY rater) FILTER (label = 'wrong') AS wrong_by,
           string_agg(rater || ': ' || reason, '; ' ORDER BY rater) FILTER (label = 'wrong') AS reasons
    FROM said
    GROUP BY ALL
    HAVING count(*) FILTER (label = 'right') > 0 AND count(*) FILTER (label = 'wrong') > 0
    ORDER BY study, model, problem_id, sample_index
    LIMIT 50
)
SELECT DISTINCT ON (study, model, problem_id, sample_index)
    study, model, problem_id, sample_index, right_by, wrong_by, reasons, s.completion
FROM differ
JOIN samples AS s USING (study, model, problem_id, sample_index)
ORDER BY study, model, problem_id, sample_index, s.budget;
