"""Which candidates are worth comparing, by a plain rule."""

import numpy as np
import pytest

from langchain_llm_router.data import Outcomes
from langchain_llm_router.policies import choose_pool
from langchain_llm_router.policies.pool_choice import expected_costs
from langchain_llm_router.types import Candidate, Price


def table(**candidates: tuple[float, float, int]) -> Outcomes:
    """Candidates as (cost, share of right answers, query from which on they are right)."""
    n = 100
    quality = np.zeros((n, len(candidates)))
    for j, (_, share, start) in enumerate(candidates.values()):
        quality[(start + np.arange(round(share * n))) % n, j] = 1
    cost = np.tile([cost for cost, _, _ in candidates.values()], (n, 1))
    return Outcomes([str(i) for i in range(n)], tuple(candidates), quality, cost)


def test_the_front_without_its_weakest_and_a_second_strong_candidate_are_chosen():
    outcomes = table(
        best=(9.0, 0.9, 0), tiny=(1.0, 0.3, 0), small=(2.0, 0.5, 0), medium=(3.0, 0.7, 0),
        dear=(4.0, 0.6, 0), other=(10.0, 0.85, 40),
    )  # fmt: skip
    assert choose_pool(outcomes) == ("small", "medium", "best", "other")


def test_a_second_candidate_that_errs_where_the_best_one_does_is_not_chosen():
    outcomes = table(
        best=(9.0, 0.9, 0), tiny=(1.0, 0.3, 0), small=(2.0, 0.5, 0), medium=(3.0, 0.7, 0),
        copy=(10.0, 0.89, 0),
    )  # fmt: skip
    assert choose_pool(outcomes) == ("small", "medium", "best")


def test_at_most_five_are_chosen_and_a_small_pool_is_kept():
    many = {f"m{i}": (1.0 + i, 0.2 + 0.07 * i, 0) for i in range(10)}
    assert choose_pool(table(**many)) == ("m5", "m6", "m7", "m8", "m9")
    assert choose_pool(table(b=(2.0, 0.8, 0), a=(1.0, 0.5, 30))) == ("a", "b")


def test_a_candidate_without_a_known_cost_is_refused():
    outcomes = Outcomes(["q"], ("a", "b"), [[1.0, 0.0]], [[np.nan, 1.0]])
    with pytest.raises(ValueError, match="no cost for 'a'"):
        choose_pool(outcomes)


def test_expected_costs_are_those_given_or_made_from_prices():
    assert expected_costs({"a": 0.5}) == {"a": 0.5}
    priced = Candidate("b", price=Price(1.0, 2.0), expected_output_tokens=100)
    given = Candidate("c", price=Price(1.0, 2.0), expected_cost_usd=0.3)
    assert expected_costs([priced, given]) == {"b": pytest.approx(7e-4), "c": 0.3}
    with pytest.raises(ValueError, match=r"cost of 'd' is unknown.*price"):
        expected_costs([Candidate("d")])
