"""The design that goes with the article: a package for LangChain and LangGraph."""

import re
import runpy
import tomllib

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableParallel
from langchain_core.tracers import LangChainTracer
from langgraph.graph import END, START, MessagesState, StateGraph

from langchain_llm_router import (
    Candidate,
    ChatLLMRouter,
    Outcomes,
    Price,
    SelfEvaluations,
    SelfEvaluator,
    create_cascade,
    route_of,
    routing_edge,
)
from langchain_llm_router.estimators import Constant
from langchain_llm_router.policies import (
    Always,
    ConfidenceThreshold,
    Policy,
    Pomdp,
    Threshold,
    Unsure,
    Utility,
)
from langchain_llm_router.router import LLMRouterMiddleware
from langchain_llm_router.testing import ScriptedChatModel
from tests.support.article_rows import row
from tests.support.fake_langsmith import FakeLangSmith
from tests.support.paths import ROOT

QUESTION = {"messages": [("human", "question?")]}
NAMES = ("small", "medium", "large", "largest")


def pool(n: int = 2, *, verdict: str = "Incorrect") -> list[Candidate]:
    names = ("small", "large") if n == 2 else NAMES[:n]
    return [
        Candidate(name, ScriptedChatModel(f"{name} says", verdicts=[verdict]), Price(10**i, 10**i))
        for i, name in enumerate(names)
    ]


def cascade(n: int = 2, *, verdict: str = "Incorrect", **settings) -> StateGraph:
    given = {"policy": ConfidenceThreshold(threshold=0.7), "verifier": SelfEvaluator(2), **settings}
    return create_cascade(pool(n, verdict=verdict), **given)


@row(71, "top level: pyproject, README, langchain_llm_router, tests, examples")
def test_the_repository_has_the_five_and_an_example_runs_as_it_stands(capsys):
    for name in ("pyproject.toml", "README.md", "langchain_llm_router", "tests", "examples"):
        assert (ROOT / name).exists()
    runpy.run_path(str(ROOT / "examples" / "cascade.py"), run_name="__main__")
    assert "of 40 drafts; the others went to claude-3.5-sonnet" in capsys.readouterr().out


@row(72, "routers are Runnables, and compose by LCEL")
async def test_a_router_is_a_link_of_a_chain_like_any_model():
    router = ChatLLMRouter(candidates=pool(), policy=Always("small"))
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{question}")])
    chain = prompt | router | StrOutputParser()
    given = {"question": "hello?"}
    assert chain.invoke(given) == "small says"
    assert "".join(chain.stream(given)) == "small says"
    assert chain.batch([given, given]) == ["small says"] * 2
    assert await chain.ainvoke(given) == "small says"
    dear = router.with_config(configurable={"llm_router": {"force": "large"}})
    both = RunnableParallel(usual=chain, dear=prompt | dear | StrOutputParser())
    assert both.invoke(given) == {"usual": "small says", "dear": "large says"}


@row(73, "a state machine: answer, self-evaluate by structured output, decide")
def test_the_graph_answers_evaluates_and_decides_until_an_answer_is_good_enough():
    updates = cascade(3).compile().stream(QUESTION, stream_mode="updates")
    assert [node for update in updates for node in update] == [
        "predict", "decide", "small", "decide", "self_evaluate",
        "decide", "medium", "decide", "self_evaluate", "decide", "large", "decide",
    ]  # fmt: skip
    kept = cascade(3, verdict="Correct").compile().stream(QUESTION, stream_mode="updates")
    assert [node for update in kept for node in update] == [
        "predict", "decide", "small", "decide", "self_evaluate", "decide",
    ]  # fmt: skip


@row(74, "the cascade is an explicit graph, whose order and edges are in the drawing")
def test_the_readme_shows_the_graphs_of_two_and_four_candidates_as_they_are_drawn():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```mermaid\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    drawn = [cascade(n).compile().get_graph().draw_mermaid(with_styles=False) for n in (2, 4)]
    assert shown == drawn
    # The candidates are numbered in the order in which they are asked.
    assert re.findall(r"&nbsp;(\d) (?:ask|escalate)&nbsp; \.-> (\w+)", drawn[1]) == [
        (str(i), name) for i, name in sorted(enumerate(NAMES, 1), key=lambda pair: pair[1])
    ]
    cheap = create_cascade(pool(), policy=Always("small")).compile().get_graph()
    assert "self_evaluate" not in cheap.draw_mermaid()


def own_graph(policy: Policy, outcomes: Outcomes) -> str:
    """Return who answers in a graph of one's own, with the policy as its only edge."""
    graph = StateGraph(MessagesState)
    candidates = pool()
    for candidate in candidates:
        graph.add_node(
            candidate.name,
            lambda state, c=candidate: {"messages": [c.model.invoke(state["messages"])]},
        )
        graph.add_edge(candidate.name, END)
    edge = routing_edge(policy, candidates, estimator=Constant().fit(outcomes))
    graph.add_conditional_edges(START, edge)
    return graph.compile().invoke(QUESTION)["messages"][-1].content


@row(75, "other policies plug in as routing edges")
def test_policies_are_the_conditional_edges_of_a_graph_of_ones_own_and_of_the_cascade():
    names = ("small", "large")
    outcomes = Outcomes(
        [f"q{i}" for i in range(40)], names, [[i % 2, 1.0] for i in range(40)], [[1e-6, 1e-3]] * 40
    )
    said = SelfEvaluations(names, [[i % 2, 1.0] for i in range(40)], [[0.0, 0.0]] * 40)
    edges = {
        Always("large"): "large says",
        Utility(cost=1e9): "small says",
        Utility(): "large says",
        Threshold(0.7): "large says",
        Threshold(0.8): "small says",
    }
    for policy, content in edges.items():
        assert own_graph(policy, outcomes) == content
    simple = ConfidenceThreshold(threshold=0.7)
    cascades: list[tuple[Policy, str, list[str]]] = [
        (simple, "large says", ["ask", "verify", "ask", "accept"]),
        (
            Pomdp(100.0, n_samples=2).fit(outcomes, said),
            "large says",
            ["ask", "verify", "ask", "accept"],
        ),
        (
            Unsure(simple, value=0.5, verify_last=True, message="Unsure."),
            "Unsure.",
            ["ask", "verify", "ask", "verify", "abstain"],
        ),
    ]
    for policy, content, actions in cascades:
        answer = cascade(policy=policy).compile().invoke(QUESTION)["messages"][-1]
        assert answer.content == content
        assert [step["action"] for step in route_of(answer)["steps"]] == actions
        chat = ChatLLMRouter(candidates=pool(), policy=policy, verifier=SelfEvaluator(2))
        assert chat.invoke("question?").content == content


def weather(city: str) -> str:
    """Say what the weather is like in a city."""
    return f"18 degrees in {city}"


@row(76, "routers are embedded in LangGraph agents")
def test_a_router_is_an_agents_model_its_middleware_and_a_node_of_a_graph():
    agents = pytest.importorskip("langchain.agents", reason="langchain (extra `agents`) is missing")
    call = {"name": "weather", "args": {"city": "Lima"}, "id": "call_1"}

    def router() -> ChatLLMRouter:
        candidates = [
            Candidate(name, ScriptedChatModel(AIMessage("", tool_calls=[call]), f"{name} says"))
            for name in ("small", "large")
        ]
        return ChatLLMRouter(candidates=candidates, policy=Always("small"))

    question = {"messages": [HumanMessage("What is the weather in Lima?")]}
    said = agents.create_agent(router(), [weather]).invoke(question)["messages"]
    assert [message.type for message in said] == ["human", "ai", "tool", "ai"]
    assert said[2].content == "18 degrees in Lima"
    assert (said[3].content, route_of(said[3])["candidate"]) == ("small says", "small")
    dear = LLMRouterMiddleware(router(), options=lambda request: {"force": "large"})
    agent = agents.create_agent(router(), [weather], middleware=[dear])
    assert agent.invoke(question)["messages"][-1].content == "large says"
    outer = StateGraph(MessagesState)
    outer.add_node("route", cascade(verdict="Correct").compile())
    outer.add_edge(START, "route")
    outer.add_edge("route", END)
    assert outer.compile().invoke(QUESTION)["messages"][-1].content == "small says"


@row(77, "LangSmith: a trace of every decision")
def test_a_traced_cascade_reads_as_a_sentence_and_counts_every_token_once():
    langsmith = pytest.importorskip("langsmith", reason="langsmith is not installed")

    def traced(verdict: str) -> FakeLangSmith:
        router = ChatLLMRouter(
            candidates=pool(verdict=verdict),
            policy=ConfidenceThreshold(threshold=0.79),
            verifier=SelfEvaluator(n_samples=8),
        )
        fake = FakeLangSmith()
        with fake, get_usage_metadata_callback() as usage:
            client = langsmith.Client(api_url=fake.url, api_key="lsv2_sk_secret")
            router.invoke("question?", {"callbacks": [LangChainTracer(client=client)]})
            client.flush()
            client.cleanup()
        counted = sum(model["total_tokens"] for model in usage.usage_metadata.values())
        assert fake.tokens() == counted > 0
        return fake

    assert traced("Correct").tree().splitlines() == [
        "[chain] llm_router",
        "  [chain] decide: ask small",
        "  [llm] small",
        "  [llm] self_evaluate ×8 → 1.000",
        "  [chain] decide: accept small (P 1.000 > 0.790)",
    ]
    assert traced("Incorrect").tree().splitlines() == [
        "[chain] llm_router",
        "  [chain] decide: ask small",
        "  [llm] small",
        "  [llm] self_evaluate ×8 → 0.000",
        "  [chain] decide: ask large (P 0.000 < 0.790)",
        "  [llm] large",
    ]


@row(70, "packages: langchain-core, langchain-openai, langgraph, numpy, scipy, pydantic, pytest")
def test_the_core_has_the_six_and_the_readme_names_every_package_that_it_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [re.split(r"[<>=~! ]", one)[0] for one in project["dependencies"]]
    asked = {"langchain-core", "langchain-openai", "langgraph", "numpy", "scipy", "pydantic"}
    assert asked <= set(needed)
    assert any(one.startswith("pytest>") for one in project["optional-dependencies"]["tests"])
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"^The core needs ([^.]*)\.", text, flags=re.MULTILINE)
    assert re.split(r", | and ", sentence) == needed
