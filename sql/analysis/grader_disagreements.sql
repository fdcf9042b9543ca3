-- Which answers does the second grader, which compares strings, judge differently?
-- The most frequent first; a sample counts in every budget that it is part of.
SELECT v.study, p.answer AS gold, v.answer, v.verdict, CASE WHEN v.strict THEN 'correct' ELSE 'wrong' END AS second_verdict,
       count(*) AS samples, count(DISTINCT v.problem_id) AS problems
FROM verdicts AS v
JOIN problems AS p USING (study, problem_id)
WHERE v.strict <> v.correct AND v.verdict IN ('correct', 'wrong')
GROUP BY ALL
ORDER BY samples DESC, v.study, gold, v.answer, v.verdict
LIMIT 50;
