"""What a router says of itself: its provider, and the safe minimum of its candidates' profiles."""

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.messages import AIMessage, HumanMessage

from langchain_llm_router import Candidate, ChatLLMRouter
from langchain_llm_router.policies import Always
from tests.support.fakes import CapableModel


def router_of(*profiles: dict | None, providers=("openai", "openai", "openai"), **kwargs):
    pool = [
        Candidate(str(i), CapableModel(profile=profile, provider=provider, reply="SUMMARY"))
        for i, (profile, provider) in enumerate(zip(profiles, providers, strict=False))
    ]
    return ChatLLMRouter(candidates=pool, policy=Always("0"), **kwargs)


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        ([{"max_input_tokens": 100}, {"max_input_tokens": 50}], {"max_input_tokens": 50}),
        ([{"max_input_tokens": 100}, None], {"max_input_tokens": 100}),
        ([{"max_input_tokens": 100}, {"max_output_tokens": 9}],
         {"max_input_tokens": 100, "max_output_tokens": 9}),
        ([{"tool_calling": True}, {"tool_calling": True}], {"tool_calling": True}),
        ([{"tool_calling": True}, {"tool_calling": False}], {"tool_calling": False}),
        ([{"tool_calling": True}, None], None),
        ([{"tool_calling": False}, None], {"tool_calling": False}),
        ([{"structured_output": True}, {}], None),
        ([None, None], None),
    ],
    ids=str,
)  # fmt: skip
def test_the_profile_is_the_safe_minimum_of_what_is_known(profiles, expected):
    assert router_of(*profiles).profile == expected


def test_the_profile_follows_the_candidates_unless_it_is_given():
    small, large = (Candidate(n, CapableModel(profile={"max_input_tokens": int(n)})) for n in "19")
    router = ChatLLMRouter(candidates=[large], policy=Always("9"))
    assert router.profile == {"max_input_tokens": 9}
    copied = router.model_copy(update={"candidates": [small], "policy": Always("1")})
    assert copied.profile == {"max_input_tokens": 1}
    router.candidates = [large, small]
    assert router.profile == {"max_input_tokens": 1}
    given = ChatLLMRouter(candidates=[small], policy=Always("1"), profile={"max_input_tokens": 5})
    given.candidates = [large, small]
    assert given.profile == {"max_input_tokens": 5}


@pytest.mark.parametrize(
    ("providers", "expected"),
    [
        (["openai", "openai"], "openai"),
        (["azure", "azure"], "azure"),
        (["openai", "azure"], "openai"),
        (["openai", "anthropic"], "llm_router"),
        (["google_genai", "google_vertexai"], "llm_router"),
    ],
)
def test_the_router_has_the_provider_that_its_candidates_share(providers, expected):
    assert router_of(None, None, providers=providers)._get_ls_params()["ls_provider"] == expected


def summarized(trigger, router) -> bool:
    middleware = SummarizationMiddleware(model=router, trigger=trigger, keep=("messages", 1))
    answer = AIMessage(
        "b",
        usage_metadata={"input_tokens": 9000, "output_tokens": 10, "total_tokens": 9010},
        response_metadata={"model_provider": "openai"},
    )
    agent = create_agent(router, [], middleware=[middleware])
    state = agent.invoke({"messages": [HumanMessage("a"), answer, HumanMessage("c")]})
    return "summary" in state["messages"][0].text


@pytest.mark.parametrize("tokens", [5000, 20_000])
def test_a_conversation_is_summarized_by_reported_tokens(tokens):
    assert summarized(("tokens", tokens), router_of(None, None)) == (tokens == 5000)


@pytest.mark.parametrize(("limit", "expected"), [(10_000, True), (1_000_000, False)])
def test_a_conversation_is_summarized_by_a_fraction_of_the_lowest_known_limit(limit, expected):
    pool = [{"max_input_tokens": limit}, None, {"max_input_tokens": 2_000_000}]
    assert summarized(("fraction", 0.8), router_of(*pool)) == expected


def test_a_pool_of_which_nothing_is_known_has_no_fraction():
    with pytest.raises(ValueError, match="profile"):
        SummarizationMiddleware(model=router_of(None), trigger=("fraction", 0.8))
