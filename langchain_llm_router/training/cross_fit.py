"""Cross-fitting: every row is answered by routers that were fitted on other rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from langchain_llm_router.data import Outcomes, split_indices
from langchain_llm_router.evaluation import Replay
from langchain_llm_router.evaluation.sweeps import utility_choices
from langchain_llm_router.evaluation.table_replay import replay_all
from langchain_llm_router.evaluation.trials import Trials, known_latency
from langchain_llm_router.training.contenders import Contender, Tables, contenders
from langchain_llm_router.types.arrays import Bools, Floats, Indices
from langchain_llm_router.types.progress import Progress

__all__ = ["CrossFit", "cross_fit", "fold_rows"]


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Every setting of every contender on every row.

    Attributes:
        trials: Quality and cost; the knob of a setting is its λ in quality per dollar.
        contender: The contender of each setting.
        accepted: Column of the accepted answer among all candidates, of shape (n_settings, n_rows).
        asked: Whether each candidate was asked, of shape (n_settings, n_rows, n_candidates).
        verified: Whether each candidate's answer was verified, same shape.
        streamed: Whether the accepted answer can be passed on while it is written, of shape
            (n_settings, n_rows).
        left_out: Reason by name for each contender that does not apply.
    """

    trials: Trials
    contender: tuple[Contender, ...]
    accepted: Indices
    asked: Bools
    verified: Bools
    streamed: Bools
    left_out: Mapping[str, str]


def fold_rows(tables: Tables, n_folds: int, seed: int) -> list[Indices]:
    """Split the rows into folds; rows with the same query are in the same fold.

    Raises:
        ValueError: If there are fewer than two different queries, or fewer than two folds.
    """
    n_queries = len(set(tables.outcomes.queries))
    if n_queries < 2:
        msg = f"`data` must have at least 2 different queries, got {n_queries}: add rows."
        raise ValueError(msg)
    if n_folds < 2:
        msg = f"`n_folds` must be >= 2, got {n_folds!r}."
        raise ValueError(msg)
    n = min(n_folds, n_queries)
    shares = [1 / n] * n
    return split_indices(len(tables.outcomes), shares, seed=seed, groups=tables.outcomes.queries)


def cross_fit(
    tables: Tables, lambdas: Floats, folds: list[Indices], progress: Progress
) -> CrossFit | None:
    """Fit every contender without each fold, and replay it on that fold at each λ.

    A contender that fails on one fold is left out, because it does not answer every row.

    Returns:
        The results of the contenders that apply; None if none does.
    """
    left_out: dict[str, str] = {}
    entered: list[Contender] = []
    tried: list[_Tried] = []
    for contender in contenders(tables):
        progress.begin(contender.name)
        try:
            tried.append(_try(contender, tables, _lambdas_of(contender, lambdas), folds))
        except ValueError as error:
            left_out[contender.name] = str(error)
        else:
            entered.append(contender)
    if len(entered) == 0:
        return None
    table = tables.outcomes
    assert table.cost_usd is not None, "fit_router requires every cost"
    trials = Trials(
        knob=np.concatenate([_lambdas_of(contender, lambdas) for contender in entered]),
        quality=np.concatenate([it.quality for it in tried]),
        cost_usd=np.concatenate([it.cost_usd for it in tried]),
        strong=np.concatenate([it.strong for it in tried]),
        single_quality=table.quality,
        single_cost_usd=table.cost_usd,
        cost_ceiling_usd=float(table.cost_usd.max(axis=0).sum()),
        candidates=tuple(table.candidates),
        latency_s=known_latency(np.concatenate([it.latency_s for it in tried])),
        single_latency_s=table.latency_s,
    )
    return CrossFit(
        trials=trials,
        contender=tuple(c for c in entered for _ in _lambdas_of(c, lambdas)),
        accepted=np.concatenate([it.accepted for it in tried]),
        asked=np.concatenate([it.asked for it in tried]),
        verified=np.concatenate([it.verified for it in tried]),
        streamed=np.concatenate([it.streamed for it in tried]),
        left_out=left_out,
    )


def _lambdas_of(contender: Contender, lambdas: Floats) -> Floats:
    return lambdas[::2] if contender.slow else lambdas


class _Tried:
    """One contender at each λ on each row, filled in fold by fold."""

    def __init__(self, n_settings: int, n_rows: int, n_candidates: int) -> None:
        shape = (n_settings, n_rows)
        self.quality, self.cost_usd, self.latency_s = (np.empty(shape) for _ in range(3))
        self.strong, self.accepted = np.zeros(shape, dtype=bool), np.empty(shape, dtype=np.intp)
        self.asked, self.verified = np.zeros((2, *shape, n_candidates), dtype=bool)
        self.streamed = np.ones(shape, dtype=bool)

    def fill(self, setting: int, rows: Indices, done: Replay, names: tuple[str, ...]) -> None:
        columns = np.array([names.index(name) for name in done.candidates])
        self.quality[setting, rows], self.cost_usd[setting, rows] = done.quality, done.cost_usd
        self.accepted[setting, rows] = columns[done.accepted]
        last = columns == len(names) - 1
        self.strong[setting, rows] = done.asked[:, last].any(axis=1)
        self.asked[setting, rows[:, None], columns] = done.asked
        self.verified[setting, rows[:, None], columns] = done.verified
        self.streamed[setting, rows] = done.streamed
        self.latency_s[setting, rows] = done.latency_s

    def fill_chosen(self, setting: int, rows: Indices, outcomes: Outcomes, chosen: Indices) -> None:
        assert outcomes.cost_usd is not None, "fit_router requires every cost"
        each = np.arange(len(rows))
        self.quality[setting, rows] = outcomes.quality[each, chosen]
        self.cost_usd[setting, rows] = outcomes.cost_usd[each, chosen]
        self.accepted[setting, rows] = chosen
        self.strong[setting, rows] = chosen == len(outcomes.candidates) - 1
        self.asked[setting, rows, chosen] = True
        latency_s = outcomes.latency_s
        self.latency_s[setting, rows] = np.nan if latency_s is None else latency_s[each, chosen]


def _try(contender: Contender, tables: Tables, lambdas: Floats, folds: list[Indices]) -> _Tried:
    names = tuple(tables.outcomes.candidates)
    found = _Tried(len(lambdas), len(tables.outcomes), len(names))
    everything = np.arange(len(tables.outcomes))
    for rows in folds:
        training = np.setdiff1d(everything, rows)
        family = contender.train(training)
        quality, outcomes, evaluations, costs = contender.replay_tables(tables, training, rows)
        if contender.one_shot and quality is not None and costs is not None:
            for setting, lambda_ in enumerate(lambdas):
                chosen = utility_choices(quality, costs, float(lambda_))
                found.fill_chosen(setting, rows, outcomes, chosen)
            continue
        policies = [family(float(lambda_)) for lambda_ in lambdas]
        # A family may have the same policy for several λ; it is replayed only once.
        distinct = list({id(policy): policy for policy in policies}.values())
        replayed = replay_all(
            distinct, quality, outcomes, evaluations=evaluations, expected_cost_usd=costs
        )
        done = {id(policy): it for policy, it in zip(distinct, replayed, strict=True)}
        for setting, policy in enumerate(policies):
            found.fill(setting, rows, done[id(policy)], names)
    if np.isnan(found.cost_usd).any():
        msg = "the verification cost of some answers is unknown"
        raise ValueError(msg)
    if tables.timed and np.isnan(found.latency_s).any():
        msg = "the latency of some answers or verifications is unknown"
        raise ValueError(msg)
    return found
