-- What share of the correct answers has wrong reasoning according to each judge, and how reliable is the judge?
-- Intervals are at the study's confidence, over problems. no_rate says why a judge gives no rate. corrected_by_controls
-- removes the judge's errors on its controls (Rogan & Gladen 1978); `cos label show` corrects by people's labels.
SELECT study, budget, model, judge, round(false_positive_rate, 4) AS false_positive_rate, round(low, 4) AS low,
       round(high, 4) AS high, round(corrected_by_controls, 4) AS corrected_by_controls,
       round(corrected_low, 4) AS corrected_low, round(corrected_high, 4) AS corrected_high,
       round(readable_share, 4) AS readable_share, no_rate,
       round(false_alarms, 4) AS false_alarms, round(false_alarms_low, 4) AS false_alarms_low,
       round(false_alarms_high, 4) AS false_alarms_high, reference_solutions,
       round(recall, 4) AS recall, round(recall_low, 4) AS recall_low, round(recall_high, 4) AS recall_high,
       wrong_answers, controls_unread
FROM judges
ORDER BY study, budget, model, judge;
