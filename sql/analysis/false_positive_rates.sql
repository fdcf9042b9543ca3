-- Which share of the correct answers rests on wrong reasoning, by each judge, give or take how much?
-- With 95 % intervals over problems. Where only some samples were judged, each counts for those it was drawn from.
WITH sums AS (
    SELECT study, budget, model, judge, problem_id,
           coalesce(sum(weight) FILTER (wrong_reasoning), 0) AS wrong,
           sum(weight) FILTER (wrong_reasoning IS NOT NULL) AS read,
           count(wrong_reasoning) AS samples,
           count(*) - count(wrong_reasoning) AS unread
    FROM judgements
    WHERE correct
    GROUP BY ALL
), rates AS (
    SELECT *, sum(wrong) OVER one_rate / sum(read) OVER one_rate AS rate
    FROM sums
    WINDOW one_rate AS (PARTITION BY study, budget, model, judge)
), judges AS (
    SELECT study, budget, model, judge, any_value(rate) AS rate,
           count(read) AS n, sum(samples) AS samples, sum(unread) AS unread,
           count(read) / nullif(count(read) - 1, 0) * sum((wrong - rate * read) ^ 2) / sum(read) ^ 2 AS variance
    FROM rates
    GROUP BY ALL
)
SELECT study, budget, model, judge, round(rate, 4) AS false_positive_rate,
       round(low95(rate, variance, n), 4) AS low, round(high95(rate, variance, n), 4) AS high,
       n AS n_problems, samples, unread
FROM judges
ORDER BY study, budget, model, judge;
