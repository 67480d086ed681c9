"""A choice of tools in any provider's words, and built-in tools that were added later."""

import pytest
from langchain_core.tools import tool

from langchain_llm_router import Candidate, ChatLLMRouter, route_of
from langchain_llm_router.calls.tools import choice_for_provider, foreign_tool
from langchain_llm_router.policies import Always
from tests.support.fakes import CapableModel

OF_OPENAI = {"type": "function", "function": {"name": "add"}}
OF_RESPONSES = {"type": "function", "name": "add"}
OF_ANTHROPIC = {"type": "tool", "name": "add", "disable_parallel_tool_use": True}
OF_GOOGLE = {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["add"]}}
OF_BEDROCK = {"tool": {"name": "add"}}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.mark.parametrize(
    ("provider", "own"),
    [
        ("openai", OF_OPENAI),
        ("mistralai", OF_OPENAI),
        ("anthropic", OF_ANTHROPIC),
        ("google", OF_GOOGLE),
        ("bedrock", OF_BEDROCK),
    ],
)
@pytest.mark.parametrize(
    "choice", [OF_OPENAI, OF_RESPONSES, OF_ANTHROPIC, OF_GOOGLE, OF_BEDROCK, "add"]
)
def test_a_named_tool_is_chosen_in_words_that_each_provider_takes(provider, own, choice):
    assert choice_for_provider(choice, provider) == (own if choice == own else "add")


@pytest.mark.parametrize(
    ("choice", "openai", "anthropic", "google"),
    [
        (True, "any", "any", "any"),
        ("any", "any", "any", "any"),
        ("required", "required", "any", "any"),
        ({"type": "any"}, "any", {"type": "any"}, "any"),
        ({"any": {}}, "any", "any", "any"),
        ({"function_calling_config": {"mode": "ANY"}}, "any", "any", None),
        ("auto", "auto", "auto", "auto"),
        ("none", "none", {"type": "none"}, "none"),
        ({"type": "web_search"}, {"type": "web_search"}, {"type": "web_search"}, None),
        (False, False, False, False),
    ],
)
def test_some_tool_and_no_tool_are_chosen_in_words_that_each_provider_takes(
    choice, openai, anthropic, google
):
    assert choice_for_provider(choice, "openai") == openai
    assert choice_for_provider(choice, "anthropic") == anthropic
    assert choice_for_provider(choice, "google") == (choice if google is None else google)
    assert choice_for_provider(choice, None) is choice


def test_the_router_translates_the_choice_for_the_candidate_that_it_asks():
    model = CapableModel(provider="anthropic")
    router = ChatLLMRouter(candidates=[Candidate("a", model)], policy=Always("a"))
    answer = router.bind_tools([add], tool_choice=OF_OPENAI).invoke("1 and 2")
    assert route_of(answer)["candidate"] == "a"
    assert model.calls[0][1]["tool_choice"] == "add"


@pytest.mark.parametrize(
    ("given", "homes"),
    [
        ({"type": "tool_search"}, {"openai"}),
        ({"type": "namespace", "name": "n", "tools": []}, {"openai"}),
        ({"type": "custom", "name": "c", "format": {"type": "text"}}, {"openai"}),
        ({"type": "collections_search"}, {"xai"}),
        ({"type": "openrouter:web_search"}, set()),
        ({"mcp_servers": [{}]}, {"google"}),
        ({"google_search": {}, "function_declarations": []}, {"google"}),
        ({"type": "web_search_20250305", "name": "web_search"}, {"anthropic", "bedrock"}),
    ],
)
def test_a_built_in_tool_is_foreign_to_every_family_but_its_own(given, homes):
    families = ("openai", "anthropic", "google", "bedrock", "xai", "cohere", "ollama", "deepseek")
    fits = {family for family in families if foreign_tool([given], family) is None}
    assert fits == homes


def test_a_family_that_may_adopt_openais_tools_is_not_ruled_out_by_them():
    assert foreign_tool([{"type": "mcp", "server_label": "s"}], "fireworks") is None
