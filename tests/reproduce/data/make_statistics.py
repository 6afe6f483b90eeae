"""Makes statistics.txt: what scipy and statsmodels say of samples of accuracies.

pip install scipy statsmodels; python make_statistics.py > statistics.txt
"""

import numpy as np
import scipy.stats
from statsmodels.stats.power import TTestPower

samples = [
    ([71.9, 72.3, 72.1, 71.6, 72.5], [73.6, 73.9, 73.4, 73.8, 74.1]),
    ([41.02, 40.61, 41.48, 39.9, 40.77, 41.3], [41.15, 40.55, 41.7, 40.2, 40.71, 41.62]),
    ([12.5, 13.0], [12.75, 13.5]),
    ([55.0, 55.5, 54.5], [54.9, 58.1, 50.3]),
    ([1e-3, 2e-3, 4e-3, 1e-3, 3e-3, 2.5e-3, 2e-3, 1.5e-3], [5e-3, 1e-3, 2e-3, 7e-3, 4e-3, 6e-3, 2e-3, 3e-3]),
]


def line(*numbers):
    print(" ".join(repr(float(number)) for number in numbers))


print("# each case: first sample; second; Welch's and the paired test's statistic, degrees, p, low, high;")
print("# standard deviation of each sample; smallest detectable effect (paired, alpha 0.05, power 0.8)")
for first, second in samples:
    line(*first)
    line(*second)
    for test in (
        scipy.stats.ttest_ind(first, second, equal_var=False),
        scipy.stats.ttest_rel(first, second),
    ):
        interval = test.confidence_interval(0.95)
        line(test.statistic, test.df, test.pvalue, interval.low, interval.high)
    effect = TTestPower().solve_power(nobs=len(first), alpha=0.05, power=0.8, alternative="two-sided")
    line(
        np.std(first, ddof=1),
        np.std(second, ddof=1),
        effect * np.std(np.subtract(first, second), ddof=1),
    )
