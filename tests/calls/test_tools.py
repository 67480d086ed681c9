"""Tools as other libraries find them, tools that a model cannot bind, and built-in tools."""

import copy
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.tools import StructuredTool, tool
from pydantic import BaseModel

from langchain_llm_router import (
    Candidate,
    ChatLLMRouter,
    Price,
    SelfEvaluator,
    create_cascade,
    route_of,
)
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.calls.bindings import Bindings
from langchain_llm_router.calls.tools import (
    BoundTool,
    bound_tools,
    foreign_tool,
    tools_for_provider,
)
from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.live import Live, Resilience
from langchain_llm_router.policies import Always, ConfidenceThreshold, Utility
from langchain_llm_router.router.first_step import first_situation
from langchain_llm_router.types.errors import NoCandidateError
from tests.support.fakes import CapableModel, ScriptedModel


class Sum(BaseModel):
    """A sum."""

    total: int


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def plus(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


# Both candidates are as good, so the cheaper one is asked first.
ALIKE = NearestNeighbors(n_neighbors=1).fit(
    Outcomes(["a", "b"], candidates=("small", "large"), quality=[[1, 1], [1, 1]])
)


class Unable(ScriptedModel):
    """A model whose class cannot bind tools or a schema, like many small ones."""

    def bind_tools(self, tools, **kwargs):
        raise NotImplementedError("this model takes no tools")


def one_shot(small, large, **kwargs) -> ChatLLMRouter:
    pool = [
        Candidate("small", small, Price(1, 1), max_output_tokens=10, expected_cost_usd=0.001),
        Candidate("large", large, Price(2, 2), max_output_tokens=10, expected_cost_usd=0.002),
    ]
    if "policy" not in kwargs:
        kwargs |= {"policy": Utility(cost=1.0), "estimator": ALIKE}
    return ChatLLMRouter(candidates=pool, **kwargs)


def cascade(small, large, **kwargs) -> ChatLLMRouter:
    return one_shot(
        small,
        large,
        policy=ConfidenceThreshold(threshold=0.5),
        verifier=SelfEvaluator(n_samples=1),
        **kwargs,
    )


# As other libraries find them


@pytest.mark.parametrize("given", [add, plus, Sum], ids=["tool", "function", "class"])
def test_bound_tools_are_dicts_in_openais_format(given):
    bound = one_shot(CapableModel(), CapableModel()).bind_tools([given])
    (found,) = bound.kwargs["tools"]
    assert found.get("type") == "function"
    assert json.loads(json.dumps(found))["function"]["name"] in ("add", "plus", "Sum")


def test_a_candidate_gets_the_original_tool_and_not_the_dict():
    class Exact(CapableModel):
        def bind_tools(self, tools, **kwargs):
            assert tools[0] is add
            return super().bind_tools(tools, **kwargs)

    answer = one_shot(Exact(), CapableModel()).bind_tools([add]).invoke("1 and 2")
    assert answer.tool_calls[0]["name"] == "add"


def test_tools_taken_from_one_router_can_be_bound_to_another():
    first, second = (one_shot(CapableModel(), CapableModel()) for _ in range(2))
    tools = first.bind_tools([add]).kwargs["tools"]
    assert second.bind_tools(tools).invoke("1 and 2").tool_calls[0]["name"] == "add"
    plain = [dict(tool) for tool in tools]
    assert second.bind(tools=plain).invoke("1 and 2").tool_calls[0]["name"] == "add"


def test_a_bound_tool_is_copied_with_its_original_which_is_not():
    (bound,) = bound_tools([add])
    for copied in (copy.copy(bound), copy.deepcopy(bound)):
        assert type(copied) is BoundTool
        assert copied == bound
        assert copied.original is add


def test_an_object_that_only_one_provider_knows_stays_as_it_is():
    class Grounding:
        pass

    given = Grounding()
    assert bound_tools([given]) == (given,)


def test_many_threads_bind_fresh_tools_at_once():
    bindings, candidate = Bindings(), Candidate("small", CapableModel())

    def bind(_: int) -> None:
        for _ in range(100):
            tools = ({"type": "function", "function": {"name": "f", "parameters": {}}},)
            bindings.apply(candidate, {"tools": tools}, include_raw=False)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(bind, range(48)))
    finally:
        sys.setswitchinterval(before)


# A candidate that cannot bind them

BUILDS = {"one-shot": one_shot, "cascade": cascade}


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
@pytest.mark.parametrize("live", [None, Live(resilience=Resilience(retries=2))], ids=["", "live"])
async def test_a_candidate_that_cannot_bind_tools_is_one_failed_candidate(build, live):
    router = build(Unable("no"), CapableModel(), live=live).bind_tools([add])
    answers = [router.invoke("1 and 2"), await router.ainvoke("1 and 2")]
    *_, streamed = router.stream("1 and 2")
    *_, astreamed = [chunk async for chunk in router.astream("1 and 2")]
    for answer in (*answers, streamed, astreamed):
        record = route_of(answer)
        assert record["candidate"] == "large"
        failed = record["attempts"][0]
        assert failed["error"] == "NotImplementedError: this model takes no tools"
        assert [failure["may_be_billed"] for failure in failed["failures"]] == [False]


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
async def test_a_candidate_that_cannot_take_a_schema_is_one_failed_candidate(build):
    router = build(Unable("no"), CapableModel()).with_structured_output(Sum)
    assert router.invoke("7") == await router.ainvoke("7") == Sum(total=7)
    assert list(router.stream("7"))[-1] == Sum(total=7)


async def test_a_node_of_a_graph_that_cannot_bind_tools_is_one_failed_candidate():
    pool = [Candidate("small", Unable("no")), Candidate("large", CapableModel())]
    graph = create_cascade(pool, policy=Utility(), estimator=ALIKE, tools=[add]).compile()
    for state in (
        graph.invoke({"messages": [("human", "1 and 2")]}),
        await graph.ainvoke({"messages": [("human", "1 and 2")]}),
    ):
        assert route_of(state["messages"][-1])["candidate"] == "large"


def test_a_candidate_that_was_not_asked_is_not_charged():
    budgets = Budgets([Budget(0.1, per="user", period_s=60)])
    router = one_shot(Unable("no"), CapableModel(), budgets=budgets).bind_tools([add])
    record = route_of(router.invoke("1 and 2", {"configurable": {"user": "ann"}}))
    assert record["budget"]["charged_usd"] == pytest.approx(record["attempts"][1]["cost_usd"])


def test_where_no_candidate_can_bind_tools_the_error_says_so():
    router = one_shot(Unable("no"), Unable("no")).bind_tools([add])
    with pytest.raises(NotImplementedError, match="takes no tools"):
        router.invoke("1 and 2")


# Built-in tools

BUILT_IN = [
    ("anthropic", {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}),
    ("anthropic", {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}),
    ("anthropic", {"type": "mcp_toolset", "mcp_server_name": "s"}),
    ("openai", {"type": "web_search_preview"}),
    ("openai", {"type": "code_interpreter", "container": {"type": "auto"}}),
    ("openai", {"type": "mcp", "server_label": "s", "server_url": "https://s.example"}),
    ("google", {"google_search": {}}),
    ("google", {"googleSearch": {}}),
    ("google", {"code_execution": {}}),
    ("google", {"url_context": {}}),
    ("bedrock", {"systemTool": {"name": "nova_grounding"}}),
]


@pytest.mark.parametrize(("home", "given"), BUILT_IN, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "bedrock", "cohere"])
def test_a_built_in_tool_is_foreign_to_other_providers_only(home, given, provider):
    at_home = provider == home or (home == "anthropic" and provider == "bedrock")
    assert (foreign_tool([given], provider) is None) == at_home


@pytest.mark.parametrize("provider", [None, "fake", "openrouter"])
def test_nothing_is_claimed_of_a_provider_that_is_not_known(provider):
    assert foreign_tool([given for _, given in BUILT_IN], provider) is None


@pytest.mark.parametrize(
    "given",
    [
        add,
        {"name": "add", "input_schema": {"type": "object"}},
        {"type": "custom", "name": "add", "input_schema": {"type": "object"}},
        {"title": "add", "type": "object", "properties": {}},
        {"type": "function", "function": {"name": "web_search", "parameters": {}}},
        {"toolSpec": {"name": "add", "inputSchema": {"json": {}}}},
        {},
    ],
    ids=lambda given: getattr(given, "name", None) or str(given),
)
@pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "bedrock"])
def test_a_tool_of_the_callers_is_foreign_to_no_provider(given, provider):
    assert foreign_tool(bound_tools([given]), provider) is None


def test_a_candidate_of_another_provider_is_not_asked_with_a_built_in_tool():
    small, large = CapableModel(provider="openai"), CapableModel(provider="anthropic")
    bound = one_shot(small, large).bind_tools([add, BUILT_IN[0][1]])
    assert route_of(bound.invoke("1 and 2"))["candidate"] == "large"
    assert small.calls == []


def test_where_a_built_in_tool_suits_no_candidate_the_error_names_it():
    bound = one_shot(CapableModel(provider="openai"), CapableModel(provider="google"))
    with pytest.raises(NoCandidateError, match="'web_search_20250305' is another provider's"):
        bound.bind_tools([BUILT_IN[0][1]]).invoke("1 and 2")


def test_the_policy_chooses_among_the_candidates_that_a_built_in_tool_suits():
    pool = [Candidate(name, CapableModel(provider=name)) for name in ("openai", "google", "fake")]
    router = ChatLLMRouter(candidates=pool, policy=Always("openai"))
    request = router._request("x", None, {"tools": ({"google_search": {}},)})
    assert list(first_situation(request).names) == ["google", "fake"]


# Cache settings on tools


def test_cache_settings_on_tools_stay_with_the_provider_that_has_them():
    marked = StructuredTool.from_function(plus, extras={"cache_control": {"type": "ephemeral"}})
    as_dict = {"type": "function", "function": {"name": "f"}, "cache_control": {"type": "x"}}
    tools = [marked, as_dict, *bound_tools([marked])]
    assert tools_for_provider(tools, "anthropic") is tools
    kept = tools_for_provider(tools, "openai")
    assert kept[0].extras is None
    assert kept[1] == {"type": "function", "function": {"name": "f"}}
    assert kept[2].original.extras is None
    assert marked.extras == {"cache_control": {"type": "ephemeral"}}


def test_a_candidate_is_not_sent_a_cache_setting_that_its_provider_rejects():
    as_dict = {"type": "function", "function": {"name": "f", "parameters": {}}, "cache_control": 1}
    sent = {}
    for provider in ("openai", "anthropic"):
        model = CapableModel(provider=provider)
        one_shot(model, CapableModel()).bind_tools([as_dict]).invoke("x", cache_control={"a": 1})
        _, kwargs = model.calls[0]
        sent[provider] = ("cache_control" in kwargs["tools"][0], "cache_control" in kwargs)
    assert sent == {"openai": (False, False), "anthropic": (True, True)}
