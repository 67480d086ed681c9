"""LangChain's own middleware around the router's and within: fallbacks, retries, caches."""

import importlib.util
from itertools import permutations

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
)
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.messages import AIMessage, SystemMessage
from langchain_core.tools import tool
from pydantic import Field

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, route_of
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.policies import Always, ConfidenceThreshold
from langchain_llm_router.router.middleware import LLMRouterMiddleware
from langchain_llm_router.types.errors import NoCandidateError
from tests.support.fakes import CapableModel, ScriptedModel

QUESTION = {"messages": [("human", "What is 3 and 4?")]}
DOWN = RuntimeError("down")


class Named(ScriptedModel):
    """A scripted model that says which model it is, as providers do."""

    @property
    def model_name(self) -> str:
        return self.model


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def agent_of(*middleware: AgentMiddleware, model=None, tools=()):
    return create_agent(
        model or Named("the agent's own", model="own"), tools, middleware=middleware
    )


def routing(small, large=None, **kwargs) -> LLMRouterMiddleware:
    pool = [
        Candidate("small", small, Price(1, 1), max_output_tokens=100),
        Candidate("large", large or Named("from large", model="large"), Price(9, 9)),
    ]
    kwargs = {"policy": Always("small"), **kwargs}
    return LLMRouterMiddleware(ChatLLMRouter(candidates=pool, **kwargs))


def checking(small, large=None, **kwargs) -> LLMRouterMiddleware:
    arguments = {
        "policy": ConfidenceThreshold(threshold=0.6),
        "verifier": SelfEvaluator(n_samples=1),
    }
    return routing(small, large or CapableModel(), **arguments, **kwargs)


async def ask(*middleware: AgentMiddleware, **kwargs) -> AIMessage:
    """Ask in both ways, which must agree."""
    agent = agent_of(*middleware, **kwargs)
    answer = agent.invoke(QUESTION)["messages"][-1]
    other = (await agent.ainvoke(QUESTION))["messages"][-1]
    assert answer.text == other.text
    return answer


# A fallback


async def test_a_fallback_outside_is_asked_itself_once_the_router_has_failed():
    spare = Named("from the fallback", model="spare")
    answer = await ask(ModelFallbackMiddleware(spare), routing(Named(DOWN)))
    assert answer.text == "from the fallback"
    assert route_of(answer) is None
    assert len(spare.seen) == 2


async def test_the_router_chooses_again_at_the_next_step_after_a_fallback():
    flaky = Named(DOWN, "from small", model="small")
    agent = agent_of(ModelFallbackMiddleware(Named("spare")), routing(flaky))
    assert agent.invoke(QUESTION)["messages"][-1].text == "spare"
    answer = (await agent.ainvoke(QUESTION))["messages"][-1]
    assert answer.text == "from small"
    assert route_of(answer)["candidate"] == "small"


async def test_a_router_that_answers_leaves_a_fallback_outside_alone():
    spare = Named("from the fallback")
    answer = await ask(ModelFallbackMiddleware(spare), routing(Named("from small")))
    assert route_of(answer)["candidate"] == "small"
    assert spare.seen == []


def test_a_fallback_outside_does_not_evade_a_budget():
    spare = Named("from the fallback")
    budgets = Budgets([Budget(1e-9, per="user", period_s=60)])
    agent = agent_of(ModelFallbackMiddleware(spare), routing(Named("x"), budgets=budgets))
    with pytest.raises(NoCandidateError):
        agent.invoke(QUESTION, {"configurable": {"user": "ann"}})
    assert spare.seen == []


def test_a_fallback_outside_does_not_evade_a_cost_cap():
    spare = Named("from the fallback")
    agent = agent_of(ModelFallbackMiddleware(spare), routing(Named("x")))
    options = {"llm_router": {"max_cost_usd": 1e-9}}
    with pytest.raises(NoCandidateError):
        agent.invoke(QUESTION, {"configurable": options})
    assert spare.seen == []


def test_a_fallback_outside_is_asked_where_no_candidate_can_take_the_tools():
    small, large = (CapableModel(profile={"tool_calling": False}) for _ in range(2))

    class Able(Named):
        def bind_tools(self, tools, **kwargs):
            return self.bind()

    spare = Able("from the fallback")
    agent = agent_of(ModelFallbackMiddleware(spare), routing(small, large), tools=[add])
    assert agent.invoke(QUESTION)["messages"][-1].text == "from the fallback"


@pytest.mark.parametrize("known", [True, False])
async def test_a_fallback_inside_that_answers_is_named_in_the_record(known):
    spare = Named("from the fallback", model="large" if known else "spare")
    answer = await ask(routing(Named(DOWN, model="small")), ModelFallbackMiddleware(spare))
    assert answer.text == "from the fallback"
    (attempt,) = route_of(answer)["attempts"]
    assert attempt["candidate"] == "small"
    assert attempt["answered_by"] == ("large" if known else "spare")
    # The price of a model that is no candidate is not known.
    assert (attempt["cost_usd"] is None) != known


async def test_a_fallback_inside_that_is_not_needed_leaves_no_trace():
    inner = ModelFallbackMiddleware(Named("spare"))
    (attempt,) = route_of(await ask(routing(Named("x", model="small")), inner))["attempts"]
    assert "answered_by" not in attempt
    assert attempt["cost_usd"] is not None


async def test_a_cascade_escalates_where_the_fallback_inside_fails_too():
    inner = ModelFallbackMiddleware(Named(DOWN))
    answer = await ask(checking(Named(DOWN), CapableModel(reply="from large")), inner)
    assert answer.text == "from large"


# Retries


async def test_retries_outside_route_again():
    flaky = Named(DOWN, "from small", DOWN, "from small")
    answer = await ask(ModelRetryMiddleware(max_retries=1, initial_delay=0), routing(flaky))
    assert route_of(answer)["candidate"] == "small"


async def test_retries_inside_stay_with_the_candidate():
    flaky = Named(DOWN, "from small", DOWN, "from small")
    answer = await ask(routing(flaky), ModelRetryMiddleware(max_retries=1, initial_delay=0))
    assert route_of(answer)["candidate"] == "small"
    assert "answered_by" not in route_of(answer)["attempts"][0]


async def test_a_message_that_a_retry_makes_of_an_error_is_no_answer():
    inner = ModelRetryMiddleware(max_retries=1, initial_delay=0, on_failure="continue")
    answer = await ask(checking(Named(DOWN), CapableModel(reply="from large")), inner)
    assert answer.text == "from large"
    assert route_of(answer)["attempts"][0]["error"] == "RuntimeError: down"


async def test_a_message_that_middleware_gives_without_asking_is_taken():
    class Canned(AgentMiddleware):
        def wrap_model_call(self, request, handler):
            return AIMessage("closed today")

        async def awrap_model_call(self, request, handler):
            return AIMessage("closed today")

    assert (await ask(routing(Named(AssertionError("asked"))), Canned())).text == "closed today"


# LangChain's router

needs_decisions = pytest.mark.skipif(
    importlib.util.find_spec("langchain_core.decisions") is None,
    reason="this langchain-core has no decision models",
)


def langchains_router(**models):
    from langchain.agents.middleware import ModelChoice, ModelRouterMiddleware

    chooser = ChatLLMRouter(
        candidates=[Candidate(name, model) for name, model in models.items()],
        policy=Always(next(iter(models))),
    )
    choices = {name: ModelChoice(model=model, criteria=name) for name, model in models.items()}
    return ModelRouterMiddleware(
        choices=choices, instructions="Choose.", classifier=chooser.as_decision_model()
    )


@needs_decisions
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
async def test_langchains_router_fallback_and_retries_work_in_every_order_with_ours(order):
    for down in (False, True):
        choice = Named(DOWN if down else "from the choice", model="choice")
        small = Named(DOWN if down else "from small", model="small")
        middleware = [
            routing(small),
            langchains_router(choice=choice, other=Named("x", model="other")),
            ModelFallbackMiddleware(Named("from the fallback", model="spare")),
            ModelRetryMiddleware(max_retries=1, initial_delay=0, on_failure="error"),
        ]
        chain = [middleware[i] for i in order]
        # The innermost of those that choose a model has the last word.
        choosing = [i for i in order if i != 3]
        if not down:
            answer = await ask(*chain)
            assert answer.text == ("from small" if order.index(0) > order.index(1)
                                   else "from the choice")  # fmt: skip
            continue
        replaced = choosing[-1] == 1
        if replaced or (choosing == [2, 1, 0]):
            # LangChain's router puts its choice in place of the fallback, too.
            with pytest.raises(RuntimeError, match="down"):
                agent_of(*chain).invoke(QUESTION)
            continue
        assert (await ask(*chain)).text == "from the fallback"


# Prompt caches


class Caching(AgentMiddleware):
    """Marks the prompt as Anthropic's caching middleware does for an agent with its model."""

    def _marked(self, request):
        mark = {"cache_control": {"type": "ephemeral"}}
        text = {"type": "text", "text": "Be brief.", **mark}
        tools = [*request.tools[:-1], request.tools[-1].model_copy(update={"extras": mark})]
        return request.override(
            system_message=SystemMessage([text]),
            tools=tools,
            model_settings={**request.model_settings, **mark, "prompt_cache_key": "k"},
        )

    def wrap_model_call(self, request, handler):
        return handler(self._marked(request))

    async def awrap_model_call(self, request, handler):
        return await handler(self._marked(request))


class Seeing(CapableModel):
    """A model that keeps the tools as they came."""

    given: list = Field(default_factory=list)

    def bind_tools(self, tools, **kwargs):
        self.given.append(tools)
        return super().bind_tools(tools, **kwargs)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("provider", "kept"), [("openai", False), ("google", False), ("anthropic", True)]
)
async def test_marks_of_a_prompt_cache_reach_only_the_provider_that_has_them(
    provider, kept, inside
):
    model = Seeing(provider=provider, given=[])
    router = routing(model, Named("x"))
    chain = [router, Caching()] if inside else [Caching(), router]
    await ask(*chain, tools=[add])
    messages, kwargs = model.calls[0]
    sent = (
        "cache_control" in messages[0].content[0],
        "cache_control" in kwargs,
        bool(model.given[0][-1].extras),
    )
    # A middleware inside sees the candidate's own model, and is responsible itself.
    assert sent == ((True,) * 3 if inside else (kept,) * 3)
    assert ("prompt_cache_key" in kwargs) == (inside or provider == "openai")


# Handlers of the candidates


class Counter(BaseCallbackHandler):
    """Counts the calls of a model."""

    def __init__(self) -> None:
        self.n_started = 0

    def on_chat_model_start(self, *args, **kwargs):
        self.n_started += 1


@pytest.mark.parametrize("manager", [True, False])
async def test_a_candidates_own_handlers_are_told_once(manager):
    counter = Counter()
    own = CallbackManager([counter]) if manager else [counter]
    await ask(routing(Named("x", callbacks=own)))
    assert counter.n_started == 2
