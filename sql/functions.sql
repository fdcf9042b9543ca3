-- 95 % intervals clustered by problem, as cos_assets.metrics.intervals has them. For a ratio of two sums over problems,
-- share = sum(y) / sum(x), the variance is n / (n - 1) * sum((y - share * x)^2) / sum(x)^2, n being the problems with x > 0.

-- Student's t for n problems: exact for few, else an expansion (Abramowitz & Stegun 26.7.5) that is within 0.1 %.
CREATE MACRO t95(n) AS CASE
    WHEN n < 2 THEN NULL
    WHEN n = 2 THEN 12.7062
    WHEN n = 3 THEN 4.3027
    WHEN n = 4 THEN 3.1824
    ELSE 1.959964 + 2.372271 / (n - 1) + 2.822500 / (n - 1) ^ 2 + 2.555850 / (n - 1) ^ 3 + 1.589536 / (n - 1) ^ 4
END;

-- t^2 over the effective number of observations (Kish 1965); where all problems agree that is n - 1.
CREATE MACRO shift95(share, variance, n) AS
    t95(n) ^ 2 / CASE WHEN variance > 1e-24 THEN share * (1 - share) / variance ELSE greatest(n - 1, 1) END;

-- Wilson's score limits (1927) of a share between 0 and 1; null below two problems, and for no share.
CREATE MACRO low95(share, variance, n) AS CASE WHEN n >= 2 AND share IS NOT NULL THEN greatest(0, least(share, (
    share + shift95(share, variance, n) / 2
    - sqrt(shift95(share, variance, n) * (share * (1 - share) + shift95(share, variance, n) / 4))
) / (1 + shift95(share, variance, n)))) END;

CREATE MACRO high95(share, variance, n) AS CASE WHEN n >= 2 AND share IS NOT NULL THEN least(1, greatest(share, (
    share + shift95(share, variance, n) / 2
    + sqrt(shift95(share, variance, n) * (share * (1 - share) + shift95(share, variance, n) / 4))
) / (1 + shift95(share, variance, n)))) END;
