"""Ratings of candidates from battles: Elo, Bradley–Terry, tiers, strong and weak groups.

Candidates have indices 0 .. n_candidates - 1. A score is 1 where a won, 0 where b won, 0.5 for a
tie; other values in [0, 1] are soft preferences. Strengths are on the log-odds scale: a beats b
with probability 1 / (1 + exp(s_b - s_a)); `to_elo` converts them to Elo points.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from langchain_llm_router.data import Battles, NamedNumbers
from langchain_llm_router.types.arrays import Floats, Indices, label_indices

__all__ = [
    "bootstrap_intervals",
    "bradley_terry",
    "bradley_terry_table",
    "candidate_tiers",
    "elo",
    "elo_table",
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
    """Rate candidates by online Elo updates, whose result depends on the order of the battles.

    Args:
        a: Index of the candidate on side a in each battle, of shape (n_battles,).
        b: Index of the candidate on side b in each battle, same shape.
        score: 1 where a won, 0 where b won, 0.5 for a tie, same shape.
        n_candidates: Number of candidates.
        k_factor: Largest change of a rating by one battle, in Elo points.
        initial: Initial rating of every candidate.

    Returns:
        Ratings in Elo points, of shape (n_candidates,); their mean is `initial`.

    References:
        Elo, 1978, The Rating of Chessplayers; R += K (score - expected), expected on base 10 / 400.
    """
    left, right, scores = _check_battles(a, b, score, n_candidates)
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
    """Rate candidates by maximum likelihood, where a tie is half a win for each side.

    Battles enter only through the weighted wins per pair, so Newton's method runs on a table of
    n_candidates x n_candidates, however many battles there are.

    Args:
        a: Index of the candidate on side a in each battle, of shape (n_battles,).
        b: Index of the candidate on side b in each battle, same shape. Battles of a candidate
            with itself are dropped.
        score: 1 where a won, 0 where b won, 0.5 for a tie, same shape.
        weights: Weight of each battle, >= 0; a battle of weight 2 counts as two battles. If None,
            every weight is 1.
        n_candidates: Number of candidates.
        ridge: Precision of a Gaussian prior on the strengths, which keeps undefeated candidates
            finite and fixes the mean of the strengths at 0.

    Returns:
        Strengths on the log-odds scale, of shape (n_candidates,).

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
    """Count the weighted wins of row over column, of shape (n_candidates, n_candidates)."""
    left, right, scores = _check_battles(a, b, score, n_candidates)
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
        Strengths on the log-odds scale, of shape (..., n_candidates), with mean 0 per table.
    """
    table = np.asarray(wins, dtype=np.float64)
    if table.ndim < 2 or table.shape[-1] != table.shape[-2]:
        msg = f"The last two dimensions of `wins` must be equal, got shape {table.shape}."
        raise ValueError(msg)
    if not ridge > 0:
        msg = f"`ridge` must be > 0 to keep undefeated candidates finite, got {ridge!r}."
        raise ValueError(msg)
    k = table.shape[-1]
    flat = table.reshape(-1, k, k) * (1 - np.eye(k))
    strengths = np.zeros((len(flat), k))
    unconverged = np.arange(len(flat))
    for _ in range(_MAX_STEPS):
        if len(unconverged) == 0:
            break
        moved = _newton_step(flat[unconverged], strengths[unconverged], ridge)
        change = np.abs(moved - strengths[unconverged]).max(axis=-1, initial=0.0)
        strengths[unconverged] = moved
        unconverged = unconverged[change > _STEP_TOLERANCE]
    return strengths.reshape(table.shape[:-1])


def _newton_step(wins: Floats, strengths: Floats, ridge: float) -> Floats:
    """Take one damped Newton step on the penalized log-likelihood of every table."""
    games = wins + wins.swapaxes(-1, -2)
    rate = expit(strengths[:, :, None] - strengths[:, None, :])
    gradient = (wins - games * rate).sum(axis=-1) - ridge * strengths
    curvature = games * rate * (1 - rate)
    negative_hessian = -curvature
    diagonal = np.arange(wins.shape[-1])
    # Adding slightly more keeps the matrix regular where the weights are far above the ridge.
    negative_hessian[:, diagonal, diagonal] += curvature.sum(axis=-1) * (1 + 1e-10) + ridge
    step = np.linalg.solve(negative_hessian, gradient[:, :, None])[:, :, 0]
    # Far from the optimum a full step may overshoot; near the optimum it is accepted.
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
    """Convert strengths on the log-odds scale to Elo points: 400 / ln 10 x strength + `center`.

    Args:
        strengths: Strengths, of shape (..., n_candidates).
        anchor: Index and rating of a candidate to which all ratings are shifted. If None,
            strength 0 has the rating `center`.
        center: Rating of strength 0, used without an anchor.
    """
    points = np.asarray(strengths, dtype=np.float64) * _ELO_PER_NAT
    if anchor is None:
        return np.asarray(points + center)
    index, rating = anchor
    return np.asarray(points - points[..., index, None] + rating)


def from_elo(ratings: ArrayLike, *, center: float = 1000.0) -> Floats:
    """Convert Elo points to strengths on the log-odds scale: the inverse of `to_elo`."""
    return np.asarray((np.asarray(ratings, dtype=np.float64) - center) / _ELO_PER_NAT)


def mean_win_rates(strengths: ArrayLike) -> Floats:
    """Compute each candidate's mean predicted win rate against the other candidates.

    For two candidates these are P and 1 - P, so 1/2 (1 + q_a - q_b) = P. For more candidates
    they keep the order, but a pair's exact win rate follows only from the strengths. A single
    candidate gets 0.5.

    Args:
        strengths: Strengths on the log-odds scale, of shape (..., n_candidates).

    Returns:
        Win rates in [0, 1] of the same shape, with mean 0.5 over candidates.
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
    groups: Sequence[Hashable] | None = None,
    n_resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Floats:
    """Compute bootstrap percentile intervals of Bradley–Terry strengths.

    Args:
        a: Index of the candidate on side a in each battle, of shape (n_battles,).
        b: Index of the candidate on side b in each battle, same shape.
        score: 1 where a won, 0 where b won, 0.5 for a tie, same shape.
        n_candidates: Number of candidates.
        groups: Label of each battle; battles with the same label are resampled together. Use the
            query where a query has several battles, because they are not independent. If None,
            battles are resampled one by one.
        n_resamples: Number of resamples.
        level: Confidence level, in (0, 1).
        seed: Seed of the resampling.

    Returns:
        Lower and upper strength on the log-odds scale, of shape (n_candidates, 2).
    """
    left, right, scores = _check_battles(a, b, score, n_candidates)
    if not 0 < level < 1 or n_resamples < 1:
        msg = (
            f"`level` must be in (0, 1) and `n_resamples` >= 1, got {level!r} and {n_resamples!r}."
        )
        raise ValueError(msg)
    labels = np.arange(len(left)) if groups is None else label_indices(groups)
    if labels.shape != left.shape or len(left) == 0:
        msg = (
            f"`groups` must have one label per battle, and at least one battle is needed, "
            f"got {len(labels)} labels for {len(left)} battles."
        )
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
    """Split ratings into tiers of similar strength, where tier 0 is the strongest.

    Exact dynamic programming over the sorted ratings finds nonempty contiguous tiers with the
    smallest sum of within-tier variances.

    Args:
        ratings: Rating of each candidate, on any scale, of shape (n_candidates,).
        n_tiers: Number of tiers, at most the number of candidates.

    Returns:
        Tier index of each candidate, of shape (n_candidates,).

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, appendix A. As in its code, the cost of a
        tier is its variance (`np.var`), not its sum of squares.
    """
    values = np.asarray(ratings, dtype=np.float64)
    n = len(values)
    if values.ndim != 1 or not np.isfinite(values).all() or not 1 <= n_tiers <= n:
        msg = f"`n_tiers` must be 1 to {n}, and the {n} ratings finite, got {n_tiers!r} tiers."
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


def elo_table(battles: Battles, *, k_factor: float = 32.0, initial: float = 1000.0) -> NamedNumbers:
    """Rate candidates by `elo` in the order of the battles, the strongest first.

    Args:
        battles: Battles among any candidates.
        k_factor: Largest change of a rating by one battle, in Elo points.
        initial: Initial rating of every candidate.

    Returns:
        Elo points by name, which print as a table.
    """
    a, b = _side_indices(battles)
    names = battles.candidates
    points = elo(a, b, battles.score_a, n_candidates=len(names), k_factor=k_factor, initial=initial)
    return NamedNumbers("Elo rating", dict(zip(names, points.tolist(), strict=True)))


def bradley_terry_table(battles: Battles, *, ridge: float = 1e-4) -> NamedNumbers:
    """Rate candidates by `bradley_terry`, in Elo points around 1000, the strongest first.

    Unlike `elo_table`, the ratings do not depend on the order of the battles.

    Args:
        battles: Battles among any candidates.
        ridge: Precision of the Gaussian prior, > 0, as in `bradley_terry`.

    Returns:
        Elo points by name, which print as a table.
    """
    a, b = _side_indices(battles)
    names = battles.candidates
    strengths = bradley_terry(a, b, battles.score_a, n_candidates=len(names), ridge=ridge)
    points = to_elo(strengths).tolist()
    return NamedNumbers("Bradley–Terry rating", dict(zip(names, points, strict=True)))


def candidate_tiers(
    battles: Battles, n_tiers: int = 10, *, rated: Mapping[str, float] | None = None
) -> tuple[tuple[str, ...], ...]:
    """Group candidates into tiers of similar strength, the strongest first.

    Args:
        battles: Battles among any candidates.
        n_tiers: Number of tiers, at most the number of candidates.
        rated: Rating of each candidate, e.g. `elo_table(battles)`. If None, the Bradley–Terry
            strengths.

    Raises:
        ValueError: If `rated` does not have the candidates of the battles.
    """
    if rated is None:
        rated = bradley_terry_table(battles)
    names = sorted(battles.candidates)
    if sorted(rated) != names:
        msg = f"`rated` must have the candidates of the battles, {names}, got {sorted(rated)}."
        raise ValueError(msg)
    ordered = sorted(rated, key=lambda name: -rated[name])
    tier_of = tiers([rated[name] for name in ordered], n_tiers)
    return tuple(
        tuple(name for name, own in zip(ordered, tier_of, strict=True) if own == tier)
        for tier in range(n_tiers)
    )


def strong_weak_battles(
    battles: Battles,
    strong: Sequence[str],
    weak: Sequence[str],
    *,
    ties: Literal["half", "weak", "drop"] = "half",
) -> Battles:
    """Merge sparse battles among many models into battles of one strong and one weak candidate.

    Args:
        battles: Battles among any models.
        strong: Names of the strong models; RouteLLM uses `candidate_tiers(...)[0]` and `[1]`.
        weak: Names of the weak models; RouteLLM uses `candidate_tiers(...)[2]`.
        ties: What a tie counts as: `"half"` a win for each side; `"weak"` a win of the weak model,
            because the strong one was not needed; `"drop"` leaves it out.

    Returns:
        The battles between the two groups. `candidate_a` is always `"strong"`, so `score_a` is 1
        where the strong model won, 0.5 for a tie and 0 where the weak model won. Battles within
        a group or with other models are dropped.

    Raises:
        ValueError: If a name is in no battle or in both groups, or if no battle is left between the
            groups.

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, section 4.1 and appendix A.
    """
    if ties not in ("half", "weak", "drop"):
        msg = f"`ties` must be 'half', 'weak' or 'drop', got {ties!r}."
        raise ValueError(msg)
    both = sorted(set(strong) & set(weak))
    unknown = sorted((set(strong) | set(weak)) - set(battles.candidates))
    if both or unknown:
        problems = [f"{both} are in both"] if both else []
        problems += [f"{unknown} are in no battle"] if unknown else []
        msg = (
            "`strong` and `weak` must be disjoint names from the battles, but "
            f"{' and '.join(problems)}."
        )
        raise ValueError(msg)
    strong_a = np.isin(battles.candidate_a, list(strong)) & np.isin(battles.candidate_b, list(weak))
    weak_a = np.isin(battles.candidate_a, list(weak)) & np.isin(battles.candidate_b, list(strong))
    chosen = strong_a | weak_a
    if ties == "drop":
        chosen &= battles.score_a != 0.5
    rows: list[int] = np.flatnonzero(chosen).tolist()
    if len(rows) == 0:
        msg = f"There is no battle between {list(strong)} and {list(weak)}: use larger groups."
        raise ValueError(msg)
    score = np.where(strong_a, battles.score_a, 1 - battles.score_a)[rows]
    if ties == "weak":
        score[score == 0.5] = 0.0
    n = len(rows)
    return Battles([battles.queries[i] for i in rows], ["strong"] * n, ["weak"] * n, score)


def _side_indices(battles: Battles) -> tuple[Indices, Indices]:
    index = {name: i for i, name in enumerate(battles.candidates)}
    n = len(battles)
    a = np.fromiter((index[name] for name in battles.candidate_a), dtype=np.intp, count=n)
    b = np.fromiter((index[name] for name in battles.candidate_b), dtype=np.intp, count=n)
    return a, b


def _check_battles(
    a: ArrayLike, b: ArrayLike, score: ArrayLike, n_candidates: int
) -> tuple[Indices, Indices, Floats]:
    left, right = np.asarray(a, dtype=np.intp), np.asarray(b, dtype=np.intp)
    scores = np.asarray(score, dtype=np.float64)
    if not left.shape == right.shape == scores.shape or left.ndim != 1:
        msg = (
            "`a`, `b` and `score` must all have the shape (n_battles,), "
            f"got {left.shape}, {right.shape} and {scores.shape}."
        )
        raise ValueError(msg)
    indices = np.concatenate([left, right])
    if indices.size > 0 and not 0 <= indices.min() <= indices.max() < n_candidates:
        wrong = int(indices[(indices < 0) | (indices >= n_candidates)][0])
        msg = f"Indices of candidates must be 0 to {n_candidates - 1}, got {wrong!r}."
        raise ValueError(msg)
    valid = (scores >= 0) & (scores <= 1)
    if not valid.all():
        msg = f"`score` must be in [0, 1], got {float(scores[~valid][0])!r}."
        raise ValueError(msg)
    return left, right, scores
