"""The best next step in a pool, against an expectimax that shares no code with it."""

from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router.policies.answer_partitions import answer_partitions, canonical
from langchain_llm_router.policies.difficulty_classes import ClassModel
from langchain_llm_router.policies.pool_search import STOP, PoolTables

N, K = 3, 2


def random_model(rng: np.random.Generator, n: int = N, k: int = K) -> ClassModel:
    return ClassModel(
        rng.dirichlet(np.ones(k)),
        rng.dirichlet([2, 1, 0.4], size=(k, n)),
        rng.random((k, n)) * 0.5,
        np.exp(rng.uniform(-2, 3, k)),
    )


class Expectimax:
    """Every possible world is listed: class, kinds of the answers, partition of the wrong ones."""

    def __init__(self, model: ClassModel, belief, cost, lambda_: float, available) -> None:
        self.model, self.cost, self.lambda_, self.available = model, cost, lambda_, available
        self.worlds = []
        n = model.rates.shape[1]
        for z, kinds in product(range(model.n_classes), product(range(4), repeat=n)):
            p = belief[z]
            for j, kind in enumerate(kinds):
                right, wrong, unread = model.rates[z, j]
                u = model.right_unread[z, j]
                p *= (right, wrong, unread * u, unread * (1 - u))[kind]
            wrong = [j for j, kind in enumerate(kinds) if kind == 1]
            for seats, chance in self.seatings(len(wrong), model.theta[z]):
                answers = ["right" if kind == 0 else None for kind in kinds]
                for j, seat in zip(wrong, seats, strict=True):
                    answers[j] = seat
                good = [kind in (0, 2) for kind in kinds]
                self.worlds.append((p * chance, z, answers, good))
        self.best = cache(self._best)

    def seatings(self, n: int, theta: float):
        """Seat n guests one by one."""
        if n == 0:
            yield (), 1.0
            return
        for seats, chance in self.seatings(n - 1, theta):
            for seat in range(max(seats, default=-1) + 2):
                weight = seats.count(seat) or theta
                yield (*seats, seat), chance * weight / (n - 1 + theta)

    def look(self, answers, asked):
        """What is seen of the answers, as a state."""
        numbers = {}
        return canonical(
            [
                -2 if j not in asked else -1 if a is None else numbers.setdefault(a, len(numbers))
                for j, a in enumerate(answers)
            ]
        )

    def _best(self, seen):
        """Return (value × P(seen), action, value × P(seen) of each action)."""
        asked = {j for j, g in enumerate(seen) if g != -2}
        here = [w for w in self.worlds if self.look(w[2], asked) == seen]
        actions = {}
        if asked:
            actions[STOP] = max(sum(w[0] for w in here if w[3][j]) for j in asked)
        for j in range(len(seen)):
            if j in asked or not self.available[j]:
                continue
            paid = sum(w[0] * self.cost[w[1], j] for w in here)
            following = {self.look(w[2], asked | {j}) for w in here}
            actions[j] = sum(self.best(s)[0] for s in following) - self.lambda_ * paid
        action = max(actions, key=lambda a: actions[a])
        return actions[action], action, actions


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.3, 3.0, 30.0]),
    st.sampled_from([(True, True, True), (True, False, True), (False, True, False)]),
)
def test_values_and_actions_are_those_of_a_search_through_all_worlds(seed, lambda_, available):
    rng = np.random.default_rng(seed)
    model, usual = random_model(rng), rng.uniform(0.001, 0.1, N)
    relative = rng.uniform(0.5, 2, (K, N))
    beliefs = np.vstack([model.prior, rng.dirichlet(np.ones(K))])
    tables = PoolTables.build(model, beliefs, relative, np.argsort(usual))
    plan = tables.solve(lambda_, usual, available)
    for column, belief in enumerate(beliefs):
        oracle = Expectimax(model, belief, relative * usual, lambda_, available)
        for i, state in enumerate(answer_partitions(N).states):
            seen = tuple(state.tolist())
            if any(g != -2 and not free for g, free in zip(seen, available, strict=True)):
                continue
            value, _, actions = oracle.best(seen)
            assert plan.value[i, column] == pytest.approx(value, abs=1e-10)
            # Of equally good actions any may be taken.
            chosen = int(plan.action[i, column])
            assert actions[chosen] == pytest.approx(value, abs=1e-10)
            asking = tables.values_of_asking(plan, i, column) * tables.mass[i, column]
            for j in set(actions) - {STOP}:
                assert asking[j] == pytest.approx(actions[j], abs=1e-10)


def test_the_cheapest_member_of_the_best_group_is_kept():
    rng = np.random.default_rng(0)
    model = random_model(rng)
    tables = PoolTables.build(model, model.prior[None], np.ones((K, N)), np.array([2, 0, 1]))
    index = answer_partitions(N).index
    assert tables.answer[index[(0, 0, 0)], 0] == 2
    assert tables.answer[index[(0, 0, -2)], 0] == 0
    assert tables.answer[index[(-2, 0, -2)], 0] == 1


def test_the_chances_are_those_of_the_worlds_that_are_left():
    rng = np.random.default_rng(1)
    model = random_model(rng)
    tables = PoolTables.build(model, model.prior[None], np.ones((K, N)), np.arange(N))
    oracle = Expectimax(model, model.prior, np.ones((K, N)), 0.0, (True,) * N)
    for i, state in enumerate(answer_partitions(N).states):
        asked = {j for j, g in enumerate(state) if g != -2}
        here = [w for w in oracle.worlds if oracle.look(w[2], asked) == tuple(state)]
        *right, total = tables.right[i] @ model.prior
        assert total == pytest.approx(sum(w[0] for w in here))
        for j in range(N):
            assert right[j] == pytest.approx(sum(w[0] for w in here if w[3][j]))


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_higher_lambda_never_makes_it_dearer_in_its_own_expectation(seed):
    rng = np.random.default_rng(seed)
    model, usual = random_model(rng), rng.uniform(0.001, 0.1, N)
    tables = PoolTables.build(model, model.prior[None], np.ones((K, N)), np.argsort(usual))
    lambdas = np.linspace(0, 40, 60)
    start = answer_partitions(N).index[(-2,) * N]
    values = [tables.solve(lam, usual, (True,) * N).value[start, 0] for lam in lambdas]
    # The slope of the value in λ is minus the expected cost.
    cost = -np.diff(values) / np.diff(lambdas)
    assert (np.diff(cost) <= 1e-9).all()
    assert cost[-1] >= usual.min() - 1e-9
