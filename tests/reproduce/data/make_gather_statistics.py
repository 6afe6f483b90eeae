"""Makes gather_statistics.txt: what scipy and statsmodels say of numbers of pairs and of correlations.

pip install scipy statsmodels; python make_gather_statistics.py > gather_statistics.txt
"""

import math

import numpy as np
import scipy.stats
from statsmodels.stats.power import TTestPower


def power_of(pairs, effect, deviation, alpha):
    """How often a two-sided paired test finds the effect: both tails of the noncentral t."""
    degrees, noncentrality = pairs - 1, effect / deviation * math.sqrt(pairs)
    critical = scipy.stats.t.ppf(1 - alpha / 2, degrees)
    return scipy.stats.nct.sf(critical, degrees, noncentrality) + scipy.stats.nct.cdf(-critical, degrees, noncentrality)


def pairs_needed(effect, deviation, alpha, power):
    pairs = 2
    while power_of(pairs, effect, deviation, alpha) < power:
        pairs += 1
    of_statsmodels = TTestPower().power(effect / deviation, pairs, alpha, alternative="two-sided")
    assert of_statsmodels >= power, "the two packages do not agree"
    return pairs


print("# needed: effect, deviation of the differences, alpha, power, the fewest pairs")
for effect, deviation, alpha, power in [
    (0.3, 0.05, 0.05, 0.8),
    (0.3, 0.1, 0.05, 0.8),
    (0.3, 0.2, 0.05, 0.8),
    (0.3, 0.35, 0.05, 0.8),
    (0.3, 0.5502, 0.05, 0.8),
    (0.3, 1.3, 0.05, 0.8),
    (0.3, 7.5, 0.05, 0.8),
    (1.0, 0.8, 0.01, 0.9),
]:
    print("needed", effect, deviation, alpha, power, pairs_needed(effect, deviation, alpha, power))

print("# correlation: x; y; Pearson's coefficient, low and high of its 95 % interval (Fisher's)")
random = np.random.default_rng(7)
angles = np.round(random.normal(60, 8, 12), 3)
for x, y in [
    ([56.262, 70.1, 71.5, 55.9], [67.9, 69.1, 69.3, 68.1]),
    ([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0]),
    ([80.5, 62.25, 71.0, 55.5, 90.0, 12.0], [71.0, 74.5, 73.25, 74.0, 70.5, 75.25]),
    (list(angles), list(np.round(0.02 * angles + random.normal(70, 0.5, 12), 3))),
]:
    result = scipy.stats.pearsonr(x, y)
    interval = result.confidence_interval(0.95)
    print("correlation")
    for numbers in (x, y, (result.statistic, interval.low, interval.high)):
        print(" ".join(repr(float(number)) for number in numbers))
