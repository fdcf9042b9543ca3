-- How does each judge do on its controls: reference solutions, which are right, and samples with a wrong answer?
-- One row per study and judge that has judged controls; sets share controls, and each counts once.
CREATE VIEW judges AS
WITH controls AS (
    SELECT DISTINCT ON (study, judge, control, sampler, problem_id, sample_index)
        study, judge, control, problem_id, sample_index, wrong_reasoning,
        CASE WHEN control = 'wrong_answer' THEN model END AS sampler
    FROM judgements
    WHERE control IS NOT NULL
    ORDER BY study, judge, control, sampler, problem_id, sample_index, wrong_reasoning NULLS LAST
),
sums AS (
    SELECT
        study, judge, problem_id,
        count(*) FILTER (control = 'reference' AND wrong_reasoning) AS alarms,
        count(wrong_reasoning) FILTER (control = 'reference') AS rights,
        count(*) FILTER (control = 'wrong_answer' AND wrong_reasoning) AS caught,
        count(wrong_reasoning) FILTER (control = 'wrong_answer') AS wrongs,
        count(*) - count(wrong_reasoning) AS unread
    FROM controls
    GROUP BY ALL
),
shares AS (
    SELECT
        *,
        sum(alarms) OVER one_judge / nullif(sum(rights) OVER one_judge, 0) AS false_alarms,
        sum(caught) OVER one_judge / nullif(sum(wrongs) OVER one_judge, 0) AS recall
    FROM sums
    WINDOW one_judge AS (PARTITION BY study, judge)
),
variances AS (
    SELECT
        study, judge, any_value(false_alarms) AS false_alarms, any_value(recall) AS recall,
        sum(rights) AS reference_solutions, sum(wrongs) AS wrong_answers, sum(unread) AS unread,
        count(*) FILTER (rights > 0) AS n_right, count(*) FILTER (wrongs > 0) AS n_wrong,
        sum((alarms - false_alarms * rights) ^ 2) AS square_right,
        sum((caught - recall * wrongs) ^ 2) AS square_wrong,
        sum((alarms - false_alarms * rights) * (caught - recall * wrongs)) AS product
    FROM shares
    GROUP BY ALL
),
limits AS (
    SELECT
        *,
        n_right / nullif(n_right - 1, 0) * square_right / reference_solutions ^ 2 AS variance_right,
        n_wrong / nullif(n_wrong - 1, 0) * square_wrong / wrong_answers ^ 2 AS variance_wrong,
        coalesce(product / nullif(sqrt(square_right * square_wrong), 0), 0) AS correlation,
        low95(false_alarms, variance_right, n_right) AS false_alarms_low,
        high95(false_alarms, variance_right, n_right) AS false_alarms_high,
        low95(recall, variance_wrong, n_wrong) AS recall_low,
        high95(recall, variance_wrong, n_wrong) AS recall_high,
        recall - recall_low AS below,
        false_alarms_high - false_alarms AS above
    FROM variances
),
judged AS (
    -- Is the lower limit of recall less false alarms above zero, by Newcombe's method 10? Null where a limit is.
    SELECT
        *,
        recall - false_alarms
            > sqrt(abs(below ^ 2 - 2 * correlation * below * above + above ^ 2)) AS tells_right_from_wrong
    FROM limits
)
SELECT
    study, judge, reference_solutions, false_alarms, false_alarms_low, false_alarms_high,
    wrong_answers, recall, recall_low, recall_high, unread, tells_right_from_wrong,
    CASE WHEN NOT tells_right_from_wrong THEN format(
        'this judge cannot tell right from wrong (recall {:.3f}, false alarms {:.3f})', recall, false_alarms
    ) END AS no_rate
FROM judged;
