-- How far do annotators agree with one another and with the judges?
-- Cohen's kappa on the samples that both decided; `cos label show STUDY` has the same with intervals. Needs labels that
-- were imported (`cos label import`).
WITH people AS (
    SELECT study, model, problem_id, sample_index, annotator AS rater, label FROM labels WHERE latest
),
judges AS (
    SELECT DISTINCT ON (study, model, problem_id, sample_index, judge)
        study, model, problem_id, sample_index, judge AS rater, label
    FROM judgements
    WHERE control IS NULL
),
pairs AS (
    SELECT a.study, a.rater AS annotator, b.rater AS other, a.label = 'wrong' AS x, b.label = 'wrong' AS y
    FROM people AS a
    JOIN (SELECT *, true AS person FROM people UNION ALL SELECT *, false FROM judges) AS b
        USING (study, model, problem_id, sample_index)
    WHERE (NOT b.person OR a.rater < b.rater) AND a.label IN ('right', 'wrong') AND b.label IN ('right', 'wrong')
),
counted AS (
    SELECT
        study, annotator, other, count(*) AS samples,
        count(*) FILTER (NOT x AND NOT y) AS both_right, count(*) FILTER (NOT x AND y) AS only_other_wrong,
        count(*) FILTER (x AND NOT y) AS only_annotator_wrong, count(*) FILTER (x AND y) AS both_wrong,
        avg((x = y)::INT) AS agree,
        avg(x::INT) * avg(y::INT) + (1 - avg(x::INT)) * (1 - avg(y::INT)) AS by_chance
    FROM pairs
    GROUP BY study, annotator, other
)
SELECT
    * EXCLUDE (agree, by_chance),
    round(agree, 4) AS agree,
    round((agree - by_chance) / nullif(1 - by_chance, 0), 4) AS kappa
FROM counted
ORDER BY study, annotator, other;
