"""Loss curves of a mode against the plain row's by arithmetic of its own: all squares over those within the sides, relabelled."""

from __future__ import annotations

import math
import random
from functools import lru_cache
from itertools import combinations, product
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Matrix = NDArray[np.float64]
LossCurve = tuple[float, ...]
CurvesBySeed = tuple[tuple[int, LossCurve], ...]
"""Log loss by epoch of each seed, by seed."""
MOST_RELABELLINGS, FEWER_RELABELLINGS, SETS = 10_000, 1000, 200
ROUNDING = 1e-9
"""Spread of log losses, and a share of the statistic, that is rounding."""


@lru_cache(maxsize=256)
def expect_values(variant: CurvesBySeed, plain: CurvesBySeed) -> dict[str, object]:
    """What the test says of these curves."""
    names = ("p", "ratio", "detectable", "higher", "lower")
    nothing = dict.fromkeys(names)
    same = [seed for seed, _ in variant] == [seed for seed, _ in plain]
    if not variant or not plain:
        return {"verdict": "no losses", **nothing}
    if not _can_reject(len(variant), len(plain), same):
        return {"verdict": "too few seeds", **nothing}
    values = _test_curves(variant, plain, same)
    return {"verdict": "differs" if values[0] <= 0.05 else "indistinguishable", **dict(zip(names, values, strict=True))}


def _can_reject(a: int, b: int, same: bool) -> bool:
    ways = 2.0**a if same else float(math.comb(a + b, a))
    return min(a, b) >= 2 and (2 if same or a == b else 1) <= 0.05 * ways


def _test_curves(
    variant: CurvesBySeed, plain: CurvesBySeed, same: bool
) -> tuple[float, float, float | None, str | None, str | None]:
    """Return p, ratio of losses, the ratio that would be seen, and the epochs that stand out."""
    ours, theirs = [curve for _, curve in variant], [curve for _, curve in plain]
    labels = _relabel(len(ours), None if same else len(theirs))
    gaps = [float(each) for each in np.mean(ours, axis=0) - np.mean(theirs, axis=0)]
    values = np.subtract(ours, theirs) if same else np.array([*ours, *theirs])
    alone = _log_ratios(values if same else values - values.mean(axis=0), labels)
    p, most = _p_value(alone), alone.max(axis=1)
    clear = [each[0] > 0 and np.mean(most >= each[0] * (1 - ROUNDING)) <= 0.05 and p <= 0.05 for each in alone.T]
    higher = [n for n, (stands, gap) in enumerate(zip(clear, gaps, strict=True), 1) if stands and gap > 0]
    lower = [n for n, (stands, gap) in enumerate(zip(clear, gaps, strict=True), 1) if stands and gap < 0]
    parts = [values] if same else [values[: len(ours)], values[len(ours) :]]
    rest = np.concatenate([part - part.mean(axis=0) for part in parts])
    seen = _find_detectable(
        rest, len(rest) - len(parts), labels[:: math.ceil(len(labels) / FEWER_RELABELLINGS)], len(ours), same
    )
    return p, math.exp(fmean(gaps)), seen, _join_epochs(higher), _join_epochs(lower)


def _log_ratios(values: Matrix, labels: Matrix) -> Matrix:
    """(relabellings, epochs): log of all squares over those within the sides."""
    every = np.einsum("ij,ij->j", values, values)
    moving = every > len(values) * ROUNDING**2
    between = (labels @ values[:, moving]) ** 2 / float(labels[0] @ labels[0])
    within = np.maximum(every[moving] - between, ROUNDING * every[moving])
    found = np.zeros((len(labels), values.shape[1]))
    found[:, moving] = np.log(every[moving] / within)
    return found


def _p_value(evidence: Matrix) -> float:
    total = evidence.sum(axis=1)
    return float(np.mean(total >= total[0] * (1 - ROUNDING)))


@lru_cache(maxsize=8)
def _relabel(a: int, b: int | None) -> Matrix:
    """Each curve's weight in a difference of means, a row a relabelling; `b` is None of pairs."""
    stream = random.Random(0)
    if b is None:
        signs = [*product((1, -1), repeat=a)] if 2**a <= MOST_RELABELLINGS else [(1,) * a]
        while 2**a > MOST_RELABELLINGS and len(signs) < MOST_RELABELLINGS:
            signs.append(tuple(-1 if stream.random() < 0.5 else 1 for _ in range(a)))
        return np.array(signs) / a
    chosen = [*combinations(range(a + b), a)] if math.comb(a + b, a) <= MOST_RELABELLINGS else [tuple(range(a))]
    while math.comb(a + b, a) > MOST_RELABELLINGS and len(chosen) < MOST_RELABELLINGS:
        keys = [(stream.random(), n) for n in range(a + b)]
        chosen.append(tuple(n for _, n in sorted(keys)[:a]))
    own = (set(each) for each in chosen)
    return np.array([[1 / a if n in each else -1 / b for n in range(a + b)] for each in own])


def _find_detectable(rest: Matrix, freedom: int, labels: Matrix, ours: int, same: bool) -> float | None:
    """The smallest 1.01^k that is found in 80 % of normal sets of the same covariance; k is looked for by halving."""
    if np.mean(rest**2) <= ROUNDING**2:
        return None
    stream, n = random.Random(1), len(rest)
    normal = ndtri(np.array([stream.random() for _ in range(SETS * n * n)])).reshape(SETS, n, n)
    sets = [each @ rest / math.sqrt(freedom) for each in normal]
    mark = np.array([[1.0 if n < ours else 0.0] for n in range(n)])
    below, found = 0, 1001
    while found - below > 1:
        k = (below + found) // 2
        moved = (each + mark * (k * math.log(1.01)) for each in sets)
        fixed = (each if same else each - each.mean(axis=0) for each in moved)
        detected = sum(_p_value(_log_ratios(each, labels)) <= 0.05 for each in fixed)
        below, found = (below, k) if detected >= 0.8 * SETS else (k, found)
    return None if found > 1000 else 1.01**found


def _join_epochs(epochs: list[int]) -> str | None:
    """`1, 3 to 5`."""
    first = [n for n in epochs if n - 1 not in epochs]
    last = [n for n in epochs if n + 1 not in epochs]
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in zip(first, last, strict=True)) or None
