-- Which share of the correct answers rests on wrong reasoning, by each judge, give or take how much?
-- With 95 % intervals over problems, and the judge's own errors on its controls. Where only some samples were judged, each
-- counts for those it was drawn from. no_rate says why a judge gives none. corrected_by_controls is the rate without the
-- judge's errors (Rogan & Gladen 1978); `cos label show` has it by people's labels, which go before controls.
WITH sums AS (
    SELECT study, budget, model, judge, problem_id,
           coalesce(sum(weight) FILTER (wrong_reasoning), 0) AS wrong,
           sum(weight) FILTER (wrong_reasoning IS NOT NULL) AS read,
           count(wrong_reasoning) AS samples,
           count(*) - count(wrong_reasoning) AS unread
    FROM judgements
    WHERE correct AND control IS NULL
    GROUP BY ALL
), rates AS (
    SELECT *, sum(wrong) OVER one_rate / sum(read) OVER one_rate AS rate
    FROM sums
    WINDOW one_rate AS (PARTITION BY study, budget, model, judge)
), sets AS (
    SELECT study, budget, model, judge, any_value(rate) AS rate,
           count(read) AS n, sum(samples) AS samples, sum(unread) AS unread,
           count(read) / nullif(count(read) - 1, 0) * sum((wrong - rate * read) ^ 2) / sum(read) ^ 2 AS variance
    FROM rates
    GROUP BY ALL
), told AS (
    SELECT sets.* EXCLUDE (rate), judges.* EXCLUDE (study, judge, unread, no_rate), judges.unread AS controls_unread,
           nullif(concat_ws('; ',
               CASE WHEN samples < sets.unread THEN format(
                   'this judge could read {} of {} correct solutions, less than half', samples, samples + sets.unread
               ) END,
               judges.no_rate
           ), '') AS why,
           CASE WHEN why IS NULL THEN sets.rate END AS rate
    FROM sets
    LEFT JOIN judges USING (study, judge)
)
SELECT study, budget, model, judge, round(rate, 4) AS false_positive_rate,
       round(low95(rate, variance, n), 4) AS low, round(high95(rate, variance, n), 4) AS high,
       n AS n_problems, samples, unread, round(samples / (samples + unread), 4) AS readable_share, why AS no_rate,
       CASE WHEN rate IS NOT NULL AND tells_right_from_wrong THEN round(
           greatest(0, least(1, (rate - false_alarms) / (recall - false_alarms))), 4
       ) END AS corrected_by_controls,
       round(false_alarms, 4) AS false_alarms, round(false_alarms_low, 4) AS false_alarms_low,
       round(false_alarms_high, 4) AS false_alarms_high, reference_solutions,
       round(recall, 4) AS recall, round(recall_low, 4) AS recall_low, round(recall_high, 4) AS recall_high,
       wrong_answers, controls_unread
FROM told
ORDER BY study, budget, model, judge;
