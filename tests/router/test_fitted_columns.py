"""Predictions are read by the names of the candidates, and one that is missing is named."""

import pytest

from langchain_llm_router.estimators import Constant
from langchain_llm_router.policies import Utility
from langchain_llm_router.router import SavedRouter
from langchain_llm_router.router.fitted_columns import columns_of
from tests.support.fakes import make_outcomes


def fitted(*names):
    return Constant().fit(make_outcomes(candidates=names))


def test_columns_are_in_the_order_of_the_names():
    assert columns_of(fitted("a", "b"), ["b", "a"]) == [1, 0]
    assert columns_of(None, ["a"]) == []


def test_a_saved_router_says_which_candidate_its_estimator_does_not_know():
    router = SavedRouter(("a", "c"), Utility(), fitted("a", "b"))
    with pytest.raises(ValueError, match=r"fitted on the candidates \['a', 'b'\], not on \['c'\]"):
        router.predict(["hi"])
