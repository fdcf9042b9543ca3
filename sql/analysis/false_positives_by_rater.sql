-- Which share of the correct answers rests on wrong reasoning, by each judge and each annotator?
-- With 95 % intervals over problems. Every row is over the samples that this one read, each counting once; compare only
-- raters of the same samples (`cos label show STUDY` does). A judge stands with its errors on its controls; one that
-- cannot tell right from wrong gives no rate.
WITH said AS (
    SELECT study, model, problem_id, sample_index, judge AS rater, 'judge' AS kind, label
    FROM judgements
    WHERE control IS NULL
    UNION
    SELECT study, model, problem_id, sample_index, annotator, 'human', label FROM labels WHERE latest
),
correct AS (SELECT study, model, problem_id, sample_index FROM verdicts WHERE coalesce(correct, true)),
sums AS (
    SELECT
        study, model, rater, kind, problem_id,
        count(*) FILTER (label = 'wrong') AS wrong,
        count(*) FILTER (label IN ('right', 'wrong')) AS read,
        count(*) FILTER (label NOT IN ('right', 'wrong')) AS undecided
    FROM said
    SEMI JOIN correct USING (study, model, problem_id, sample_index)
    GROUP BY ALL
),
rates AS (
    SELECT *, sum(wrong) OVER one_rate / nullif(sum(read) OVER one_rate, 0) AS rate
    FROM sums
    WINDOW one_rate AS (PARTITION BY study, model, rater, kind)
),
raters AS (
    SELECT
        study, model, rater, kind, any_value(rate) AS rate,
        count(*) FILTER (read > 0) AS n, sum(read) AS samples, sum(undecided) AS undecided,
        n / nullif(n - 1, 0) * sum((wrong - rate * read) ^ 2) / nullif(sum(read), 0) ^ 2 AS variance
    FROM rates
    GROUP BY study, model, rater, kind
),
told AS (
    SELECT
        raters.* EXCLUDE (rate), false_alarms, recall, no_rate, CASE WHEN no_rate IS NULL THEN raters.rate END AS rate
    FROM raters
    LEFT JOIN judges ON judges.study = raters.study AND judges.judge = raters.rater AND raters.kind = 'judge'
)
SELECT
    study, model, rater, kind, samples, undecided, round(rate, 4) AS false_positive_rate,
    round(low95(rate, variance, n), 4) AS low, round(high95(rate, variance, n), 4) AS high, n AS n_problems,
    round(false_alarms, 4) AS false_alarms, round(recall, 4) AS recall, no_rate
FROM told
ORDER BY study, model, kind, rater;
