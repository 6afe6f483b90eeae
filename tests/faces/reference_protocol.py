"""LFW's protocol by NumPy, SciPy and scikit-learn alone, once; writes data/protocol.json, which the tests compare with.

    python3 -m venv venv && venv/bin/pip install numpy scipy scikit-learn
    venv/bin/python reference_protocol.py data/protocol.json

The features are formulas of the image's number, written out again in protocol_test.cpp.
"""

import json
import sys

import numpy as np
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import KFold
from sklearn.preprocessing import normalize

FOLDS = 10
FAR = (1e-2, 1e-3)


def scattered(seed, count):
    """Numbers without pattern in [-0.5, 0.5)."""
    state, numbers = seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        numbers.append((state >> 40) / 2**24 - 0.5)
    return np.array(numbers)


def pairs(half):
    """In each fold first the pairs of one identity, then the different ones."""
    return np.array(([True] * half + [False] * half) * FOLDS)


def noisy_identities(half, dimension=8, noise=0.9):
    """Pair p shows the identity p twice, or p and p + 100000; images are their identity and noise."""
    same = pairs(half)
    rows = []
    for pair, is_same in enumerate(same):
        for image in (2 * pair, 2 * pair + 1):
            identity = pair if is_same or image % 2 == 0 else pair + 100000
            rows.append(scattered(identity + 1, dimension) + noise * scattered(image + 500000, dimension))
    return np.array(rows), same


def many_ties(half):
    """Corners of the 24-cell: unit vectors whose squared distances are 0, 1, 2, 3 or 4 exactly."""
    corners = [sign * np.eye(4)[k] for k in range(4) for sign in (1, -1)]
    corners += [np.array([1 if n >> k & 1 else -1 for k in range(4)]) / 2 for n in range(16)]
    same = pairs(half)
    rows = []
    for pair, is_same in enumerate(same):
        first = int((scattered(pair + 1, 1)[0] + 0.5) * 24)
        draw = scattered(pair + 700000, 2) + 0.5
        second = first if is_same and draw[0] < 0.4 else int(draw[1] * 24)
        rows += [corners[first], corners[second]]
    return np.array(rows), same


def midpoints(distances):
    distinct = np.unique(distances)
    return np.concatenate([[0.0], (distinct[1:] + distinct[:-1]) / 2, [5.0]])


def grid(_):
    return np.arange(0, 4, 0.01)


def chosen(distances, same, candidates):
    accuracies = [np.mean((distances < threshold) == same) for threshold in candidates]
    return candidates[int(np.argmax(accuracies))]  # the first of the best


def cross_validation(distances, same, candidates):
    folds = []
    for train, test in KFold(n_splits=FOLDS, shuffle=False).split(distances):
        threshold = chosen(distances[train], same[train], candidates(distances[train]))
        correct = int(np.sum((distances[test] < threshold) == same[test]))
        folds.append({"threshold": float(threshold), "correct": correct, "pairs": len(test)})
    accuracies = np.array([fold["correct"] / fold["pairs"] for fold in folds])
    return {
        "folds": folds,
        "mean": float(accuracies.mean()),
        "deviation": float(accuracies.std(ddof=1)),
        "standard_error": float(accuracies.std(ddof=1) / np.sqrt(FOLDS)),
    }


def judged(features, same):
    unit = normalize(features)
    distances = np.sum(np.square(unit[0::2] - unit[1::2]), axis=1)
    far, tar, _ = roc_curve(same, -distances, drop_intermediate=False)
    return {
        "midpoints": cross_validation(distances, same, midpoints),
        "grid": cross_validation(distances, same, grid),
        "auc": float(roc_auc_score(same, -distances)),
        "eer": float(brentq(lambda x: 1 - x - interp1d(far, tar)(x), 0, 1)),
        "tar": [float(tar[far <= rate + 1e-12].max()) for rate in FAR],
    }


if __name__ == "__main__":
    cases = {
        "noisy identities": judged(*noisy_identities(120)),
        "uneven folds": judged(*(part[:n] for part, n in zip(noisy_identities(120), (2 * 2393, 2393)))),
        "many ties": judged(*many_ties(120)),
    }
    with open(sys.argv[1], "w") as file:
        json.dump(cases, file, indent=1)
        file.write("\n")
