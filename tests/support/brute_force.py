"""Small tables, and figures computed the long way."""

import itertools

import numpy as np

RATE = np.array([0.9, 0.8, 0.4, 0.1])
WEAK = np.array([0.0, 1.0, 0.0, 1.0])
STRONG = np.array([1.0, 1.0, 1.0, 0.0])


def brute_apgr(rate, weak, strong):
    """Every threshold tried in turn, the trapezoid rule by hand."""
    points = []
    for threshold in [np.inf, *sorted(set(rate), reverse=True)]:
        sent = rate >= threshold
        points.append((sent.mean(), np.where(sent, strong, weak).mean()))
    gap = strong.mean() - weak.mean()
    total = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        total += (x1 - x0) * ((y0 - weak.mean()) + (y1 - weak.mean())) / 2 / gap
    return total
