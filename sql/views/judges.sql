CREATE VIEW judges AS
WITH sets AS (
    SELECT DISTINCT
        study, facts,
        split_part("partition", '|', 1) AS budget,
        split_part("partition", '|', 2) AS model
    FROM lineage
    WHERE asset = 'judgements'
),
named AS (
    -- The facts of the first judge have plain names; those of the others end in its name.
    SELECT *, CASE WHEN judge = facts ->> 'judge' THEN '' ELSE '_by_' || judge END AS suffix
    FROM sets
    JOIN (SELECT DISTINCT study, budget, model, judge FROM judgements) USING (study, budget, model)
)
SELECT
    study, budget, model, judge, (facts ->> 'confidence')::DOUBLE AS confidence,
    (facts ->> ('false_positive_rate' || suffix))::DOUBLE AS false_positive_rate,
    (facts ->> ('false_positive_rate' || suffix || '_low'))::DOUBLE AS low,
    (facts ->> ('false_positive_rate' || suffix || '_high'))::DOUBLE AS high,
    (facts ->> ('corrected_by_controls' || suffix))::DOUBLE AS corrected_by_controls,
    (facts ->> ('corrected_by_controls' || suffix || '_low'))::DOUBLE AS corrected_low,
    (facts ->> ('corrected_by_controls' || suffix || '_high'))::DOUBLE AS corrected_high,
    (facts ->> ('readable_share' || suffix))::DOUBLE AS readable_share,
    facts ->> ('no_false_positive_rate' || suffix) AS no_rate,
    (facts ->> ('control_false_alarms' || suffix))::DOUBLE AS false_alarms,
    (facts ->> ('control_false_alarms' || suffix || '_low'))::DOUBLE AS false_alarms_low,
    (facts ->> ('control_false_alarms' || suffix || '_high'))::DOUBLE AS false_alarms_high,
    (facts ->> ('control_reference_solutions' || suffix))::BIGINT AS reference_solutions,
    (facts ->> ('control_recall' || suffix))::DOUBLE AS recall,
    (facts ->> ('control_recall' || suffix || '_low'))::DOUBLE AS recall_low,
    (facts ->> ('control_recall' || suffix || '_high'))::DOUBLE AS recall_high,
    (facts ->> ('control_wrong_answers' || suffix))::BIGINT AS wrong_answers,
    (facts ->> ('control_unread' || suffix))::BIGINT AS controls_unread
FROM named;
