"""The public names are exactly those written down."""

import langchain_llm_router
from langchain_llm_router import estimators, evaluation, policies
from langchain_llm_router.types.errors import MissingExtraError


def public(module) -> dict:
    """What a module offers here; names behind an extra that is not installed are left out."""
    found = {}
    for name in module.__all__:
        try:
            found[name] = getattr(module, name)
        except MissingExtraError:
            assert name in estimators.__all__, f"{name} must not need an extra"
    return found


def test_the_lists_of_names_are_sorted_and_true():
    for module in (langchain_llm_router, estimators, evaluation, policies):
        names = list(module.__all__)
        assert names == sorted(names)
        assert None not in public(module).values()


def test_the_front_door_has_only_what_is_needed_for_running():
    public = [name for name in langchain_llm_router.__all__ if not name.startswith("__")]
    assert len(public) <= 16


def test_everything_public_says_what_it_is_for():
    for module in (langchain_llm_router, estimators, evaluation, policies):
        for name, thing in public(module).items():
            assert thing.__doc__, name
