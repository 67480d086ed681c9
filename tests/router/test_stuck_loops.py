"""A tool loop that is stuck goes up: in an agent, in its middleware and in the graph."""

import asyncio
import json

import numpy as np
import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from langchain_llm_router import (
    Candidate,
    ChatLLMRouter,
    Outcomes,
    Price,
    create_cascade,
    route_of,
)
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.estimators import Constant
from langchain_llm_router.evaluation import explain
from langchain_llm_router.history import DecisionLog, read_log, replay_log
from langchain_llm_router.loop import StuckModel, StuckRules
from langchain_llm_router.policies import Always, ConfidenceThreshold, Utility
from langchain_llm_router.router.edges import routing_edge
from langchain_llm_router.router.middleware import LLMRouterMiddleware
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.types import ArtifactError
from langchain_llm_router.types.figures import format_usd
from langchain_llm_router.verification import SelfEvaluator
from tests.support.fakes import ScriptedModel

QUESTION = {"messages": [("human", "What is it?")]}
SMALL_PRICE = Price(1, 2, cache_read_usd_per_mtok=0.1)
LARGE_PRICE = Price(10, 20, cache_read_usd_per_mtok=1.0)


def search(query: str) -> str:
    """Search."""
    return f"Error: the service is down, asked for {query}"


def count(n: int) -> str:
    """Count."""
    return f"{n} it is, and nothing else was ever said about the number {n} in this place"


def calls(name: str, **arguments) -> AIMessage:
    call = {"name": name, "args": arguments, "id": "call"}
    return AIMessage("", tool_calls=[call], usage_metadata=usage(2_000, 10))


def usage(n_in: int, n_out: int) -> dict:
    return {"input_tokens": n_in, "output_tokens": n_out, "total_tokens": n_in + n_out}


def pool(*small, large=("found it",)) -> list[Candidate]:
    small = small or (calls("search", query="x"),)
    return [
        Candidate("small", ScriptedChatModel(*small), SMALL_PRICE),
        Candidate("large", ScriptedChatModel(*large), LARGE_PRICE),
    ]


def as_model(candidates, checkpointer=None, **arguments):
    router = ChatLLMRouter(candidates=candidates, **arguments)
    return create_agent(router, [search, count], checkpointer=checkpointer)


def as_middleware(candidates, checkpointer=None, **arguments):
    router = ChatLLMRouter(candidates=candidates, **arguments)
    never = ScriptedModel(AssertionError("the agent's own model was asked"))
    layers = [LLMRouterMiddleware(router)]
    return create_agent(never, [search, count], middleware=layers, checkpointer=checkpointer)


def as_graph(candidates, checkpointer=None, **arguments):
    cascade = create_cascade(candidates, tools=[search, count], **arguments).compile()
    graph = StateGraph(MessagesState)
    graph.add_node("model", cascade)
    graph.add_node("tools", ToolNode([search, count]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph.compile(checkpointer=checkpointer)


SHAPES = {"as the model": as_model, "as middleware": as_middleware, "as a graph": as_graph}
shapes = pytest.mark.parametrize("build", SHAPES.values(), ids=SHAPES.keys())


def invoked(agent, config=None):
    return agent.invoke(QUESTION, config)["messages"]


def ainvoked(agent, config=None):
    return asyncio.run(agent.ainvoke(QUESTION, config))["messages"]


def streamed(agent, config=None):
    return list(agent.stream(QUESTION, config, stream_mode="values"))[-1]["messages"]


def astreamed(agent, config=None):
    async def last():
        states = [state async for state in agent.astream(QUESTION, config, stream_mode="values")]
        return states[-1]["messages"]

    return asyncio.run(last())


ways = pytest.mark.parametrize("run", [invoked, ainvoked, streamed, astreamed])


def answered(messages) -> list[str]:
    return [route_of(m)["candidate"] for m in messages if isinstance(m, AIMessage)]


def records(messages) -> list[dict]:
    return [route_of(m) for m in messages if isinstance(m, AIMessage)]


@shapes
@ways
def test_an_agent_that_loops_on_a_failing_tool_climbs_and_finishes(build, run):
    messages = run(build(pool(), policy=Always("small"), stuck=StuckRules()))
    assert answered(messages) == ["small", "small", "small", "large"]
    assert messages[-1].text == "found it"
    assert [record["signal"] for record in records(messages)] == [
        None,
        None,
        None,
        "repeated_calls",
    ]
    assert records(messages)[-1]["reason"].startswith(
        "small is stuck: the same call brought the same result 3 times (limit 3); large goes on"
    )


@shapes
@ways
def test_an_agent_that_works_stays_with_its_candidate(build, run):
    steps = [calls("count", n=n) for n in range(8)]
    messages = run(build(pool(*steps, "eight"), policy=Always("small"), stuck=StuckRules()))
    assert answered(messages) == ["small"] * 9
    assert all(record["signal"] is None for record in records(messages))


@shapes
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_it_climbs_after_the_number_of_signals_that_was_set(build, limit):
    rules = StuckRules(errors_in_a_row=limit, repeated_calls=None)
    messages = invoked(build(pool(), policy=Always("small"), stuck=rules))
    assert answered(messages) == ["small"] * limit + ["large"]
    assert records(messages)[-1]["signal"] == "errors_in_a_row"


@shapes
def test_the_price_of_the_lost_prompt_cache_is_in_the_decision(build):
    messages = invoked(build(pool(), policy=Always("small"), stuck=StuckRules()))
    scores = records(messages)[-1]["scores"]
    # Of the prompt, small's provider has 2,010 tokens in its cache; the rest is the last result.
    new = len("Error: the service is down, asked for x") / 4
    small = (2_010 * 0.1 + new * 1) / 1e6
    large = (2_010 + new) * 10 / 1e6
    assert scores["small"]["prompt_usd"] == pytest.approx(small)
    assert scores["large"]["prompt_usd"] == pytest.approx(large)
    assert scores["large"]["switch_usd"] == pytest.approx(large - small)
    assert f"costs {format_usd(large - small)} more" in records(messages)[-1]["reason"]


@shapes
def test_a_switch_that_costs_more_than_its_limit_is_not_made(build):
    small = [*[calls("search", query="x")] * 5, "I could not find it."]
    rules = StuckRules(max_switch_usd=0.01)
    messages = invoked(build(pool(*small), policy=Always("small"), stuck=rules))
    assert answered(messages) == ["small"] * 6
    assert "but none of ['large'] may be asked" in records(messages)[-1]["reason"]
    assert records(messages)[-1]["signal"] is None
    dear = StuckRules(max_switch_usd=1.0)
    assert answered(invoked(build(pool(), policy=Always("small"), stuck=dear)))[-1] == "large"


@shapes
def test_a_loop_climbs_one_step_at_a_time_and_every_candidate_starts_afresh(build):
    failing = calls("search", query="x")
    candidates = [
        Candidate("small", ScriptedChatModel(failing), SMALL_PRICE),
        Candidate("middle", ScriptedChatModel(failing), Price(5, 10)),
        Candidate(
            "large", ScriptedChatModel(failing, failing, failing, failing, "done"), LARGE_PRICE
        ),
    ]
    messages = invoked(build(candidates, policy=Always("small"), stuck=StuckRules()))
    assert answered(messages) == ["small"] * 3 + ["middle"] * 3 + ["large"] * 5
    assert "but it may escalate to no stronger one" in records(messages)[-1]["reason"]


@shapes
def test_a_loop_resumed_from_a_checkpoint_stays_where_it_climbed_to(build):
    saver, config = InMemorySaver(), {"configurable": {"thread_id": "1"}}
    going_on = (calls("count", n=1), calls("count", n=2), "found it")
    agent = build(
        pool(large=going_on), policy=Always("small"), stuck=StuckRules(), checkpointer=saver
    )
    node = "tools"
    agent.invoke(QUESTION, config, interrupt_after=[node])
    while agent.get_state(config).next:
        # Another process builds the agent again; the models' scripts go on.
        agent.invoke(None, config, interrupt_after=[node])
    messages = agent.get_state(config).values["messages"]
    assert answered(messages) == ["small"] * 3 + ["large"] * 3
    assert messages[-1].text == "found it"


@shapes
def test_the_next_question_is_routed_anew(build):
    saver, config = InMemorySaver(), {"configurable": {"thread_id": "1"}}
    script = [*[calls("search", query="x")] * 3, "small again"]
    agent = build(pool(*script), policy=Always("small"), stuck=StuckRules(), checkpointer=saver)
    assert answered(invoked(agent, config))[-1] == "large"
    assert answered(invoked(agent, config))[-1] == "small"


@shapes
def test_a_cascade_climbs_too_and_never_asks_the_weaker_candidate_again(build):
    verdicts = ["Incorrect"] * 8
    candidates = [
        Candidate("small", ScriptedChatModel(calls("search", query="x"), verdicts=verdicts)),
        Candidate("middle", ScriptedChatModel("a guess", verdicts=verdicts)),
        Candidate("large", ScriptedChatModel("found it")),
    ]
    messages = invoked(
        build(
            candidates,
            policy=ConfidenceThreshold(threshold=0.6),
            verifier=SelfEvaluator(n_samples=2),
        )
    )
    assert answered(messages) == ["small"] * 3 + ["large"]
    last = records(messages)[-1]
    assert [attempt["candidate"] for attempt in last["attempts"]] == ["middle", "large"]
    assert last["signal"] == "repeated_calls"


@shapes
def test_a_candidate_that_fails_on_the_way_up_is_passed_over(build):
    down = ScriptedModel(ConnectionError("down"))
    candidates = [pool()[0], Candidate("middle", down, Price(5, 10)), pool()[1]]
    messages = invoked(build(candidates, policy=Always("small"), stuck=StuckRules()))
    assert answered(messages) == ["small"] * 3 + ["large"]
    attempts = records(messages)[-1]["attempts"]
    assert [attempt["candidate"] for attempt in attempts] == ["middle", "large"]


@shapes
def test_always_small_means_always_unless_rules_are_asked_for(build):
    small = [*[calls("search", query="x")] * 5, "I could not find it."]
    for arguments in ({}, {"stuck": None}, {"stuck": False}):
        messages = invoked(build(pool(*small), policy=Always("small"), **arguments))
        assert answered(messages) == ["small"] * 6, arguments
    messages = invoked(build(pool(*small), policy=Always("small"), stuck=True))
    assert answered(messages) == ["small"] * 3 + ["large"]


@shapes
def test_a_policy_that_names_no_candidate_climbs_by_default_and_can_be_told_not_to(build):
    outcomes = Outcomes(["q"] * 2, ["small", "large"], np.array([[0.2, 0.9]] * 2))
    cheap = {"policy": Utility(cost=1e6), "estimator": Constant().fit(outcomes)}
    assert answered(invoked(build(pool(), **cheap))) == ["small"] * 3 + ["large"]
    small = [*[calls("search", query="x")] * 5, "I could not find it."]
    assert answered(invoked(build(pool(*small), **cheap, stuck=False))) == ["small"] * 6


def loop_of(candidate: str, n: int, question="What is it?") -> list:
    turns = []
    for i in range(n):
        asked = AIMessage("", tool_calls=[{"name": "search", "args": {"q": 1}, "id": f"{i}"}])
        asked.response_metadata = {"llm_router": {"candidate": candidate}}
        turns += [asked, ToolMessage("Error: down", tool_call_id=f"{i}")]
    return [HumanMessage(question), *turns]


def test_a_request_that_forces_or_allows_one_candidate_is_obeyed():
    router = ChatLLMRouter(candidates=pool("hm"), policy=Always("small"), stuck=StuckRules())
    for options in ({"force": "small"}, {"candidates": ["small"]}, {"filters": ["cost<0.001"]}):
        config = {"configurable": {"llm_router": options}}
        assert router.route(loop_of("small", 4), config).candidate == "small", options
    assert router.route(loop_of("small", 4)).candidate == "large"


def test_after_a_failed_call_the_loop_goes_back_to_the_stronger_candidate():
    router = ChatLLMRouter(candidates=pool("hm"), policy=Always("small"), stuck=StuckRules())
    thread = [*loop_of("large", 1), *loop_of("small", 1)[1:]]
    decision = router.route(thread)
    assert (decision.candidate, decision.signal) == ("large", None)


def test_an_edge_of_your_own_graph_climbs_too():
    edge = routing_edge(Always("small"), pool(), stuck=StuckRules())
    assert edge({"messages": loop_of("small", 2)}, {}) == "small"
    assert edge({"messages": loop_of("small", 3)}, {}) == "large"


def test_recorded_loops_are_decided_again_just_so_and_the_log_names_the_signal(tmp_path):
    path = tmp_path / "log.jsonl"
    log = DecisionLog(path)
    for build in SHAPES.values():
        invoked(build(pool(), policy=Always("small"), stuck=StuckRules(), log=log))
    log.flush()
    history = read_log(path)
    replayed = replay_log(history, Always("small"))
    assert replayed.n_identical == len(replayed) == 12
    moved = [entry for entry in history.entries if entry.steps[0].signal is not None]
    assert [entry.steps[0].signal for entry in moved] == ["repeated_calls"] * 3
    for entry in moved:
        (frame,) = {json.dumps(frame["stuck"], sort_keys=True) for frame in entry.frames}
        assert json.loads(frame)["signals"]["errors_in_a_row"] == 3
    # What would have happened is in the record too: another policy climbs from there as well.
    other = replay_log(history, Utility())
    assert sum(row.went.candidate == "large" for row in other.rows) >= 3


def test_explain_and_events_show_the_signal():
    router = ChatLLMRouter(candidates=pool("hm"), policy=Always("small"), stuck=StuckRules())
    assert "signal: repeated_calls" in router.route(loop_of("small", 3)).explain()
    told = explain(router, loop_of("small", 3))
    assert told.as_dict()["steps"][0]["signal"] == "repeated_calls"
    assert "small is stuck: the same call brought the same result 3 times" in told.text()
    assert explain(router, "What is it?").as_dict()["steps"][0]["signal"] is None
    graph = create_cascade(pool("hm"), policy=Always("small"), stuck=StuckRules()).compile()
    events = list(graph.stream({"messages": loop_of("small", 3)}, stream_mode="custom"))
    assert next(e["signal"] for e in events if e["event"] == "decision") == "repeated_calls"


@pytest.mark.parametrize("value", [3, "yes", Always("small")])
def test_another_kind_of_detector_is_refused_in_words(value):
    for build in (as_model, as_graph):
        with pytest.raises(TypeError, match="`stuck` must be a `StuckRules` or `StuckModel`"):
            build(pool(), policy=Always("small"), stuck=value)


def test_rules_without_anything_to_climb_to_are_refused_in_words():
    with pytest.raises(ValueError, match=r"`stuck` has no effect with \['small'\] alone"):
        as_model(pool()[:1], policy=Always("small"), stuck=StuckRules())
    assert as_model(pool()[:1], policy=Always("small")) is not None


def question_and_errors(messages):
    """Keep the question, and tell in words what was tried."""
    tried = sum(isinstance(message, ToolMessage) for message in messages)
    question = next(message for message in messages if isinstance(message, HumanMessage))
    return [question, HumanMessage(f"{tried} searches failed.")]


@shapes
@ways
def test_a_hand_over_is_what_the_next_candidate_reads_in_all_its_turns(build, run):
    candidates = pool(large=(calls("count", n=1), calls("count", n=2), "found it"))
    rules = StuckRules(hand_over=question_and_errors)
    messages = run(build(candidates, policy=Always("small"), stuck=rules))
    assert answered(messages) == ["small"] * 3 + ["large"] * 3
    seen = [[m.text for m in call.messages] for call in candidates[1].model.calls]
    start = ["What is it?", "3 searches failed."]
    assert [texts[:2] for texts in seen] == [start] * 3
    assert [len(texts) for texts in seen] == [2, 4, 6]
    assert len(candidates[0].model.calls[-1].messages) == 5


@pytest.mark.parametrize("returned", [None, [], "a summary", [("human", "hi")], HumanMessage("hi")])
def test_a_hand_over_that_returns_no_messages_is_refused_in_words(returned):
    rules = StuckRules(hand_over=lambda messages: returned)
    router = ChatLLMRouter(candidates=pool("hm"), policy=Always("small"), stuck=rules)
    with pytest.raises(TypeError, match="`hand_over` must return a list of at least one message"):
        router.invoke(loop_of("small", 3))


def test_a_hand_over_that_cannot_be_honoured_is_refused_in_words():
    rules = StuckRules(hand_over=question_and_errors)
    with pytest.raises(ValueError, match="because a routing edge asks no candidate"):
        routing_edge(Always("small"), pool(), stuck=rules)
    budgets = Budgets([Budget(1.0)])
    with pytest.raises(ValueError, match="because the bounds of `budgets`"):
        ChatLLMRouter(candidates=pool(), policy=Always("small"), stuck=rules, budgets=budgets)


MODEL = StuckModel({"errors_in_a_row": 3.0}, {"errors_in_a_row": 0.5}, -0.6, 0.7, ("uff",))


@pytest.mark.parametrize("detector", [None, StuckRules(turns=9, max_switch_usd=0.5), MODEL])
def test_a_detector_is_saved_and_loaded_with_its_router(tmp_path, detector):
    SavedRouter(("small", "large"), Always("small"), stuck=detector).save(tmp_path)
    assert SavedRouter.load(tmp_path).stuck == detector
    router = ChatLLMRouter.load(tmp_path, candidates=pool("hm"))
    assert router.stuck == detector
    assert router.route(loop_of("small", 9)).candidate == ("small" if detector is None else "large")
    assert ChatLLMRouter.load(tmp_path, candidates=pool("hm"), stuck=False).stuck is False


def test_a_detector_with_a_function_is_not_saved_and_the_error_says_what_to_do(tmp_path):
    saved = SavedRouter(
        ("small",), Always("small"), stuck=StuckRules(hand_over=question_and_errors)
    )
    with pytest.raises(ArtifactError, match=r"pass it to `ChatLLMRouter.load`"):
        saved.save(tmp_path)


@shapes
def test_a_fitted_model_of_the_hazard_moves_the_loop_too(build):
    messages = invoked(build(pool(), policy=Always("small"), stuck=MODEL))
    assert answered(messages) == ["small", "small", "large"]
    last = records(messages)[-1]
    assert last["signal"] == "errors_in_a_row"
    assert "small is stuck: P(it fails) = 0.768 (threshold 0.700)" in last["reason"]


def test_a_budget_that_does_not_cover_the_stronger_candidate_keeps_the_loop_where_it_is():
    bounded = [Candidate(c.name, c.model, c.price, max_output_tokens=100) for c in pool("hm")]
    rules = StuckRules()
    for usd, chosen in ((0.001, "small"), (1.0, "large")):
        router = ChatLLMRouter(
            candidates=bounded,
            policy=Always("small"),
            stuck=rules,
            budgets=Budgets([Budget(usd)]),
        )
        assert route_of(router.invoke(loop_of("small", 3)))["candidate"] == chosen


class Heard(BaseCallbackHandler):
    """The inputs and outputs of the runs that decide."""

    def __init__(self):
        self.inputs, self.outputs = [], []

    def on_chain_start(self, serialized, inputs, **kwargs):
        self.inputs += [inputs] if "arms" in inputs else []

    def on_chain_end(self, outputs, **kwargs):
        self.outputs += [outputs] if "action" in outputs else []


def test_the_chat_model_climbs_in_every_way_to_call_it_and_its_trace_says_why():
    router = ChatLLMRouter(candidates=pool("hm"), policy=Always("small"), stuck=StuckRules())
    messages, heard = loop_of("small", 3), Heard()
    config = {"callbacks": [heard]}

    async def astreamed():
        return [chunk async for chunk in router.astream(messages, config)]

    answers = [
        router.invoke(messages, config),
        asyncio.run(router.ainvoke(messages, config)),
        add_ai_message_chunks(*router.stream(messages, config)),
        add_ai_message_chunks(*asyncio.run(astreamed())),
    ]
    assert [(m.text, route_of(m)["signal"]) for m in answers] == [
        ("found it", "repeated_calls")
    ] * 4
    assert [inputs["stuck"]["signal"] for inputs in heard.inputs] == ["repeated_calls"] * 4
    assert [outputs["signal"] for outputs in heard.outputs] == ["repeated_calls"] * 4
