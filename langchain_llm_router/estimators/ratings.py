"""From battles to the strength of each candidate: Elo, Bradley–Terry, tiers, two groups.

Candidates are numbered 0 .. n_candidates - 1. A score is 1 when a won, 0 when b won, 0.5 for a tie;
values between are soft preferences. Strengths are in natural-log units: a beats b with
probability 1 / (1 + exp(s_b - s_a)); `to_elo` converts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from langchain_llm_router.data import Battles
from langchain_llm_router.types.arrays import Floats, Indices

__all__ = [
    "bootstrap_intervals",
    "bradley_terry",
    "candidate_tiers",
    "elo",
    "fit_win_tables",
    "from_elo",
    "mean_win_rates",
    "strong_weak_battles",
    "tiers",
    "to_elo",
    "win_table",
]


_ELO_PER_NAT = 400 / np.log(10)
_MAX_STEPS = 100
_STEP_TOLERANCE = 1e-9


def elo(
    a: ArrayLike,
    b: ArrayLike,
    score: ArrayLike,
    *,
    n_candidates: int,
    k_factor: float = 32.0,
    initial: float = 1000.0,
) -> Floats:
    """Rate candidates online, battle after battle: the order matters.

    Args:
        a: Candidate numbers on side a, of shape (n_battles,).
        b: Candidate numbers on side b, same shape.
        score: 1 a won, 0 b won, 0.5 tie, same shape.
        n_candidates: How many candidates there are.
        k_factor: Largest change by one battle, in Elo points.
        initial: The rating that every candidate starts with.

    Returns:
        Ratings in Elo points, of shape (n_candidates,); their mean stays `initial`.

    References:
        Elo, 1978, The Rating of Chessplayers; R += K (score - expected), expected on base 10 / 400.
    """
    left, right, scores = _battles(a, b, score, n_candidates)
    if not k_factor > 0:
        msg = f"`k_factor` must be > 0, got {k_factor!r}."
        raise ValueError(msg)
    ratings = [float(initial)] * n_candidates
    for i, j, won in zip(left.tolist(), right.tolist(), scores.tolist(), strict=True):
        expected = 1 / (1 + 10 ** ((ratings[j] - ratings[i]) / 400))
        change = k_factor * (won - expected) if i != j else 0.0
        ratings[i] += change
        ratings[j] -= change
    return np.array(ratings)


def bradley_terry(
    a: ArrayLike,
    b: ArrayLike,
    score: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    n_candidates: int,
    ridge: float = 1e-4,
) -> Floats:
    """Rate candidates by maximum likelihood: the order does not matter, a tie is half a win each.

    Battles enter only through the weighted wins per pair, so Newton's method runs on a table of
    n_candidates x n_candidates, however many battles there are.

    Args:
        a: Candidate numbers on side a, of shape (n_battles,).
        b: Candidate numbers on side b, same shape. Battles of a candidate with itself are dropped.
        score: 1 a won, 0 b won, 0.5 tie, same shape.
        weights: Weight of each battle, >= 0; a battle of weight 2 counts as two battles.
        n_candidates: How many candidates there are.
        ridge: Precision of a Gaussian prior on strengths; it keeps a candidate that never lost
            finite and fixes the mean of the strengths at 0.

    Returns:
        Strengths in natural-log units, of shape (n_candidates,).

    References:
        Bradley and Terry, 1952; Ong et al., 2024, RouteLLM, arXiv:2406.18665, section 4.2
        (the fit of its similarity-weighted ranking). Deviation: the small ridge.
    """
    wins = win_table(a, b, score, weights=weights, n_candidates=n_candidates)
    return fit_win_tables(wins, ridge=ridge)


def win_table(
    a: ArrayLike,
    b: ArrayLike,
    score: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    n_candidates: int,
) -> Floats:
    """Weighted wins of row over column, of shape (n_candidates, n_candidates), diagonal 0."""
    left, right, scores = _battles(a, b, score, n_candidates)
    weight = np.ones(len(left)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != left.shape or not (np.isfinite(weight) & (weight >= 0)).all():
        msg = f"`weights` must be {len(left)} finite numbers >= 0, got shape {weight.shape}."
        raise ValueError(msg)
    cells = np.concatenate([left * n_candidates + right, right * n_candidates + left])
    won = np.concatenate([weight * scores, weight * (1 - scores)])
    sums = np.bincount(cells, won, n_candidates**2)
    return np.asarray(sums.reshape(n_candidates, n_candidates) * (1 - np.eye(n_candidates)))


def fit_win_tables(wins: ArrayLike, *, ridge: float = 1e-4) -> Floats:
    """Fit Bradley–Terry strengths to many win tables in one call.

    Args:
        wins: Weighted wins of row over column, of shape (..., n_candidates, n_candidates).
        ridge: Precision of the Gaussian prior, > 0.

    Returns:
        Strengths in natural-log units, of shape (..., n_candidates), each with mean 0.
    """
    table = np.asarray(wins, dtype=np.float64)
    if table.ndim < 2 or table.shape[-1] != table.shape[-2]:
        msg = f"`wins` must end in two equal dimensions, got shape {table.shape}."
        raise ValueError(msg)
    if not ridge > 0:
        msg = f"`ridge` must be > 0, got {ridge!r}: without it an unbeaten candidate is infinite."
        raise ValueError(msg)
    k = table.shape[-1]
    flat = table.reshape(-1, k, k) * (1 - np.eye(k))
    strengths = np.zeros((len(flat), k))
    open_rows = np.arange(len(flat))
    for _ in range(_MAX_STEPS):
        if len(open_rows) == 0:
            break
        moved = _newton_step(flat[open_rows], strengths[open_rows], ridge)
        change = np.abs(moved - strengths[open_rows]).max(axis=-1, initial=0.0)
        strengths[open_rows] = moved
        open_rows = open_rows[change > _STEP_TOLERANCE]
    return strengths.reshape(table.shape[:-1])


def _newton_step(wins: Floats, strengths: Floats, ridge: float) -> Floats:
    """One damped Newton step on the penalized log-likelihood of every table."""
    games = wins + wins.swapaxes(-1, -2)
    rate = expit(strengths[:, :, None] - strengths[:, None, :])
    gradient = (wins - games * rate).sum(axis=-1) - ridge * strengths
    curvature = games * rate * (1 - rate)
    hessian = -curvature
    diagonal = np.arange(wins.shape[-1])
    # Slightly more than the curvature keeps the matrix regular where weights dwarf the ridge.
    hessian[:, diagonal, diagonal] += curvature.sum(axis=-1) * (1 + 1e-10) + ridge
    step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
    # Far from the optimum a full step may overshoot; near it the first test passes.
    before = _log_posterior(wins, strengths, ridge)
    before -= 1e-12 * np.abs(before)
    scale = np.ones((len(wins), 1))
    for _ in range(30):
        worse = _log_posterior(wins, strengths + scale * step, ridge) < before
        if not worse.any():
            break
        scale[worse] /= 2
    scale[worse] = 0.0
    return np.asarray(strengths + scale * step)


def _log_posterior(wins: Floats, strengths: Floats, ridge: float) -> Floats:
    difference = strengths[:, :, None] - strengths[:, None, :]
    likelihood = -(wins * np.logaddexp(0.0, -difference)).sum(axis=(-1, -2))
    return np.asarray(likelihood - ridge / 2 * (strengths**2).sum(axis=-1))


def to_elo(
    strengths: ArrayLike, *, anchor: tuple[int, float] | None = None, center: float = 1000.0
) -> Floats:
    """Convert natural-log strengths to Elo points: 400 / ln 10 x strength + `center`.

    Args:
        strengths: Strengths, of shape (..., n_candidates).
        anchor: A candidate's number and the rating it should get; None: `center` is the middle.
        center: The rating of strength 0, used without an anchor.
    """
    points = np.asarray(strengths, dtype=np.float64) * _ELO_PER_NAT
    if anchor is None:
        return np.asarray(points + center)
    number, rating = anchor
    return np.asarray(points - points[..., number, None] + rating)


def from_elo(ratings: ArrayLike, *, center: float = 1000.0) -> Floats:
    """Convert Elo points to natural-log strengths, undoing `to_elo` without an anchor."""
    return np.asarray((np.asarray(ratings, dtype=np.float64) - center) / _ELO_PER_NAT)


def mean_win_rates(strengths: ArrayLike) -> Floats:
    """Each candidate's predicted win rate against the others, ties counted half.

    For two candidates these are P and 1 - P, hence 1/2 (1 + q_a - q_b) = P: the difference of the
    two is the pair's win rate again. For more than two the order is kept, but a pair's exact win
    rate is only in the strengths. A candidate without opponents gets 0.5.

    Args:
        strengths: Natural-log strengths, of shape (..., n_candidates).

    Returns:
        Numbers in [0, 1] of the same shape, with mean 0.5.
    """
    values = np.asarray(strengths, dtype=np.float64)
    k = values.shape[-1]
    if k == 1:
        return np.full(values.shape, 0.5)
    rate = expit(values[..., :, None] - values[..., None, :])
    return np.asarray((rate.sum(axis=-1) - 0.5) / (k - 1))


def bootstrap_intervals(
    a: ArrayLike,
    b: ArrayLike,
    score: ArrayLike,
    *,
    n_candidates: int,
    groups: ArrayLike | None = None,
    n_resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Floats:
    """How sure the Bradley–Terry strengths are: percentile intervals over resampled battles.

    Args:
        a: Candidate numbers on side a, of shape (n_battles,).
        b: Candidate numbers on side b, same shape.
        score: 1 a won, 0 b won, 0.5 tie, same shape.
        n_candidates: How many candidates there are.
        groups: Battles with the same label are drawn together. Give the query where one query was
            fought over many times: such battles are not independent.
        n_resamples: How often to resample.
        level: Coverage in (0, 1).
        seed: Same seed, same intervals.

    Returns:
        Lower and upper strength in natural-log units, of shape (n_candidates, 2).
    """
    left, right, scores = _battles(a, b, score, n_candidates)
    if not 0 < level < 1 or n_resamples < 1:
        msg = f"`level` must be in (0, 1), `n_resamples` >= 1, got {level!r} and {n_resamples!r}."
        raise ValueError(msg)
    labels = np.arange(len(left))
    if groups is not None:
        labels = np.unique(np.asarray(groups), return_inverse=True)[1]
    if labels.shape != left.shape or len(left) == 0:
        msg = f"Give at least one battle and one group per battle, got {len(labels)}."
        raise ValueError(msg)
    n_groups = int(labels.max()) + 1
    rng = np.random.default_rng(seed)
    tables = np.empty((n_resamples, n_candidates, n_candidates))
    for table in tables:
        drawn = np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)[labels]
        table[:] = win_table(left, right, scores, weights=drawn, n_candidates=n_candidates)
    tail = (1 - level) / 2
    return np.quantile(fit_win_tables(tables), [tail, 1 - tail], axis=0).T


def tiers(ratings: ArrayLike, n_tiers: int) -> Indices:
    """Cut ratings into tiers of similar strength, the strongest tier being 0.

    Exact dynamic programming over the sorted ratings: contiguous groups, none empty, with the
    least sum of within-group variances.

    Args:
        ratings: One number per candidate, on any scale, of shape (n_candidates,).
        n_tiers: How many tiers, at most one per candidate.

    Returns:
        Tier of each candidate, of shape (n_candidates,).

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, appendix A; as in its code, the cost of a
        group is its variance (`np.var`), not its sum of squares.
    """
    values = np.asarray(ratings, dtype=np.float64)
    n = len(values)
    if values.ndim != 1 or not np.isfinite(values).all() or not 1 <= n_tiers <= n:
        msg = f"`n_tiers` must be in 1..{n} for {n} finite ratings, got {n_tiers!r}."
        raise ValueError(msg)
    order = np.argsort(-values, kind="stable")
    centered = values[order] - values.mean()
    total = np.concatenate([[0.0], np.cumsum(centered)])
    squares = np.concatenate([[0.0], np.cumsum(centered**2)])
    start, stop = np.arange(n + 1)[:, None], np.arange(n + 1)[None, :]
    size = np.maximum(stop - start, 1)
    mean = (total[stop] - total[start]) / size
    variance = np.maximum((squares[stop] - squares[start]) / size - mean**2, 0.0)
    cost = np.where(stop > start, variance, np.inf)
    best, cuts = cost[0], []
    for _ in range(1, n_tiers):
        through = best[:, None] + cost
        cuts.append(through.argmin(axis=0))
        best = through.min(axis=0)
    tier_of, end = np.empty(n, dtype=np.intp), n
    for tier in range(n_tiers - 1, -1, -1):
        begin = int(cuts[tier - 1][end]) if tier > 0 else 0
        tier_of[order[begin:end]] = tier
        end = begin
    return tier_of


def candidate_tiers(battles: Battles, n_tiers: int = 10) -> tuple[tuple[str, ...], ...]:
    """Names by tier of their Bradley–Terry rating, strongest tier and strongest name first."""
    a, b = _numbered(battles)
    names = battles.candidates
    strengths = bradley_terry(a, b, battles.score_a, n_candidates=len(names))
    tier_of = tiers(strengths, n_tiers)
    order = np.argsort(-strengths, kind="stable")
    return tuple(tuple(names[i] for i in order if tier_of[i] == tier) for tier in range(n_tiers))


def strong_weak_battles(battles: Battles, strong: Sequence[str], weak: Sequence[str]) -> Battles:
    """Merge sparse battles among many models into battles of one strong and one weak candidate.

    Args:
        battles: Battles among any models.
        strong: Models that count as strong; RouteLLM takes `candidate_tiers(...)[0]` and `[1]`.
        weak: Models that count as weak; RouteLLM takes `candidate_tiers(...)[2]`.

    Returns:
        The battles between the two groups; `candidate_a` is always `"strong"`: `score_a` is 1
        where the strong model won, 0.5 for a tie, 0 where the weak one won. Others are dropped.

    Raises:
        ValueError: If a name is unknown, is in both groups, or the groups never met.

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, section 4.1 and appendix A.
    """
    both = sorted(set(strong) & set(weak))
    unknown = sorted((set(strong) | set(weak)) - set(battles.candidates))
    if both or unknown:
        msg = f"Groups must be disjoint and known: {both} are in both, {unknown} never fought."
        raise ValueError(msg)
    strong_a = np.isin(battles.candidate_a, list(strong)) & np.isin(battles.candidate_b, list(weak))
    weak_a = np.isin(battles.candidate_a, list(weak)) & np.isin(battles.candidate_b, list(strong))
    rows: list[int] = np.flatnonzero(strong_a | weak_a).tolist()
    if len(rows) == 0:
        msg = f"No battle between {list(strong)} and {list(weak)}: choose wider groups."
        raise ValueError(msg)
    score = np.where(strong_a, battles.score_a, 1 - battles.score_a)[rows]
    n = len(rows)
    return Battles([battles.queries[i] for i in rows], ["strong"] * n, ["weak"] * n, score)


def _numbered(battles: Battles) -> tuple[Indices, Indices]:
    number = {name: i for i, name in enumerate(battles.candidates)}
    n = len(battles)
    a = np.fromiter((number[name] for name in battles.candidate_a), dtype=np.intp, count=n)
    b = np.fromiter((number[name] for name in battles.candidate_b), dtype=np.intp, count=n)
    return a, b


def _battles(
    a: ArrayLike, b: ArrayLike, score: ArrayLike, n_candidates: int
) -> tuple[Indices, Indices, Floats]:
    left, right = np.asarray(a, dtype=np.intp), np.asarray(b, dtype=np.intp)
    scores = np.asarray(score, dtype=np.float64)
    if not left.shape == right.shape == scores.shape or left.ndim != 1:
        msg = (
            "`a`, `b` and `score` must be of one shape (n_battles,), "
            f"got {left.shape}, {right.shape} and {scores.shape}."
        )
        raise ValueError(msg)
    numbers = np.concatenate([left, right])
    if numbers.size > 0 and not 0 <= numbers.min() <= numbers.max() < n_candidates:
        wrong = int(numbers[(numbers < 0) | (numbers >= n_candidates)][0])
        msg = f"Candidate numbers must be in 0..{n_candidates - 1}, got {wrong!r}."
        raise ValueError(msg)
    fine = (scores >= 0) & (scores <= 1)
    if not fine.all():
        msg = f"`score` must be in [0, 1], got {float(scores[~fine][0])!r}."
        raise ValueError(msg)
    return left, right, scores
