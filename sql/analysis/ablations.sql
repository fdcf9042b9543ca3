-- By how many points does each data arm train better or worse models than the samplers' own data, on the mean of them?
SELECT study, benchmark, budget, arm, reference, round(arm_value, 4) AS accuracy,
       round(100 * difference, 2) AS difference_in_points, round(100 * low, 2) AS low, round(100 * high, 2) AS high,
       better, n_problems
FROM ablations
WHERE target = 'all'
ORDER BY study, benchmark, budget, arm, reference;
