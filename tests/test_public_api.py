"""The public names are exactly those written down."""

import langchain_llm_router
from langchain_llm_router import estimators, evaluation, policies


def test_the_lists_of_names_are_sorted_and_true():
    for module in (langchain_llm_router, estimators, evaluation, policies):
        names = list(module.__all__)
        assert names == sorted(names)
        for name in names:
            assert getattr(module, name) is not None


def test_the_front_door_has_only_what_is_needed_for_running():
    assert len(langchain_llm_router.__all__) <= 16


def test_everything_public_says_what_it_is_for():
    for module in (langchain_llm_router, estimators, evaluation, policies):
        for name in module.__all__:
            assert getattr(module, name).__doc__, name
