"""Agents as candidates: run the cheap one, check what it did, keep it or undo it and escalate."""

import asyncio
import subprocess
import sys
from dataclasses import replace

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import LangChainTracer
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph
from langgraph.types import Command as Resume
from langgraph.types import interrupt
from langsmith import Client
from pydantic import BaseModel
from typing_extensions import TypedDict

from langchain_llm_router import Candidate, ChatLLMRouter, Price, create_cascade, route_of
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.policies import Always, BetaBinomial, ConfidenceThreshold, Unsure
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.types.errors import BudgetExceededError, LlmRouterError, RestoreError
from langchain_llm_router.verification import CheckResult, Checks, Command, SelfReported
from tests.support.fake_langsmith import FakeLangSmith

TASK = {"messages": [("human", "Make add() add.")]}
WRONG, RIGHT = "def add(a, b):\n    return a - b\n", "def add(a, b):\n    return a + b\n"
TEST = "from adder import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n"


def calling(name: str, **args) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": f"{name}-1"}])


def model(*script, **kwargs) -> ScriptedChatModel:
    return ScriptedChatModel(*script, **{"max_tokens": 20, **kwargs})


def writer(desk, text: str, says: str) -> tuple[ScriptedChatModel, object]:
    """An agent that writes one file, and its model."""

    def write(text: str) -> str:
        """Write the file adder.py."""
        (desk / "adder.py").write_text(text)
        return "written"

    scripted = model(calling("write", text=text), says)
    return scripted, create_agent(scripted, [write])


class Desk:
    """A folder with one file, and hooks that keep and bring back its text."""

    def __init__(self, folder) -> None:
        self.folder, self.calls = folder, []
        (folder / "adder.py").write_text("start")

    def __truediv__(self, name):
        return self.folder / name

    @property
    def text(self) -> str:
        return (self.folder / "adder.py").read_text()

    def prepare(self, name: str) -> str:
        self.calls.append(f"prepare {name}")
        return self.text

    def restore(self, name: str, prepared: str) -> None:
        self.calls.append(f"restore {name}")
        (self.folder / "adder.py").write_text(prepared)

    def is_right(self, case) -> CheckResult:
        return CheckResult(self.text == RIGHT, f"the file says {self.text!r}")


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path)


def pool(desk, first=WRONG, **kwargs) -> list[Candidate]:
    return [
        Candidate("cheap", writer(desk, first, "Done, says cheap.")[1], Price(1, 2), **kwargs),
        Candidate("strong", writer(desk, RIGHT, "Done, says strong.")[1], Price(10, 20), **kwargs),
    ]


def cascade(desk, candidates=None, **kwargs):
    given = {
        "policy": ConfidenceThreshold(),
        "verifier": Checks([desk.is_right]),
        "prepare": desk.prepare,
        "restore": desk.restore,
    }
    return create_cascade(candidates or pool(desk), **{**given, **kwargs})


def git(folder, *args: str) -> str:
    done = subprocess.run(
        ["git", *args], cwd=folder, capture_output=True, text=True, check=True,
        env={"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "PATH": PATH,
             "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.c",
             "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b.c"},
    )  # fmt: skip
    return done.stdout.strip()


PATH = "/usr/local/bin:/usr/bin:/bin"


async def ask(graph, way: str, config=None, given=TASK) -> AIMessage:
    """The answer by `invoke`, `ainvoke`, `stream` or `astream`."""
    if way == "invoke":
        state = graph.invoke(given, config)
    elif way == "ainvoke":
        state = await graph.ainvoke(given, config)
    elif way == "stream":
        *_, state = graph.stream(given, config, stream_mode="values")
    else:
        async for part in graph.astream(given, config, stream_mode="values"):
            state = part
    return state["messages"][-1]


# Keep, or undo and escalate


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_a_rejected_agent_is_undone_before_the_next_and_a_kept_one_is_not(desk, way):
    answer = await ask(cascade(desk).compile(), way)
    assert answer.content == "Done, says strong."
    assert desk.text == RIGHT
    assert desk.calls == ["prepare cheap", "restore cheap", "prepare strong"]
    cheap, strong = route_of(answer)["attempts"]
    assert (cheap["confidence"], cheap["restored"]) == (0.0, True)
    assert cheap["check_outputs"] == [f"the file says {WRONG!r}"]
    assert "restored" not in strong
    desk.calls.clear()
    answer = await ask(cascade(desk, pool(desk, RIGHT)).compile(), way)
    assert (answer.content, desk.calls) == ("Done, says cheap.", ["prepare cheap"])


def test_a_git_worktree_and_a_command_that_runs_the_tests(tmp_path, monkeypatch):
    # The plugins that happen to be installed take longer than the tests of that tree.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    repository, tree = tmp_path / "repository", tmp_path / "tree"
    repository.mkdir()
    git(repository, "init", "-q")
    (repository / "test_adder.py").write_text(TEST)
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "A test")
    git(repository, "worktree", "add", "-q", str(tree))

    def prepare(name: str) -> str:
        return git(tree, "rev-parse", "HEAD")

    def restore(name: str, commit: str) -> None:
        git(tree, "reset", "-q", "--hard", commit)
        git(tree, "clean", "-q", "-f", "-d", "-x")
        assert not (tree / "adder.py").exists()

    tests = Command(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=tree, timeout_s=60
    )
    graph = create_cascade(
        pool(tree), policy=ConfidenceThreshold(), verifier=Checks([tests]),
        prepare=prepare, restore=restore,
    ).compile()  # fmt: skip
    answer = graph.invoke(TASK)["messages"][-1]
    cheap, strong = route_of(answer)["attempts"]
    assert cheap["check_outputs"][0].startswith("exit code 1\n")
    assert "1 failed" in cheap["check_outputs"][0]
    assert strong["candidate"] == "strong"
    assert (tree / "adder.py").read_text() == RIGHT
    assert tests(None).passed


def test_hooks_may_be_async_in_an_async_graph_alone(desk):
    async def prepare(name):
        return desk.prepare(name)

    async def restore(name, prepared):
        desk.restore(name, prepared)

    graph = cascade(desk, prepare=prepare, restore=restore).compile()
    answer = asyncio.run(graph.ainvoke(TASK))["messages"][-1]
    assert (answer.content, len(desk.calls)) == ("Done, says strong.", 3)
    with pytest.raises(TypeError, match="is async: run the graph with `ainvoke`"):
        graph.invoke(TASK)


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_a_restore_that_fails_stops_the_request_and_is_repeated_when_it_goes_on(desk, way):
    broken = [OSError("disk full")]

    def restore(name, prepared):
        if broken:
            raise broken.pop()
        desk.restore(name, prepared)

    strong, agent = writer(desk, RIGHT, "Done.")
    graph = cascade(desk, [pool(desk)[0], Candidate("strong", agent)], restore=restore)
    config = {"configurable": {"thread_id": "1"}}
    graph = graph.compile(checkpointer=InMemorySaver())
    with pytest.raises(RestoreError, match="'cheap', so 'strong' was not asked: OSError: disk ful"):
        await ask(graph, way, config)
    assert (desk.text, len(strong.calls)) == (WRONG, 0)
    answer = await ask(graph, way, config, None)
    assert (answer.content, desk.text) == ("Done.", RIGHT)
    assert desk.calls == ["prepare cheap", "restore cheap", "prepare strong"]


def test_a_chat_model_after_an_agent_finds_its_effects_undone(desk):
    large = Candidate("large", model("Do it yourself."), Price(10, 20))
    answer = cascade(desk, [pool(desk)[0], large]).compile().invoke(TASK)["messages"][-1]
    assert (answer.content, desk.text) == ("Do it yourself.", "start")
    assert route_of(answer)["attempts"][0]["restored"]


def test_an_answer_whose_effects_were_undone_is_not_kept_when_the_next_agent_fails(desk):
    failing = Candidate("strong", create_agent(model(ConnectionError("gone")), []))
    with pytest.raises(ConnectionError, match="gone"):
        cascade(desk, [pool(desk)[0], failing]).compile().invoke(TASK)
    graph = cascade(desk, [pool(desk)[0], failing], restore=None, prepare=None).compile()
    assert route_of(graph.invoke(TASK)["messages"][-1])["candidate"] == "cheap"


# What the next agent learns


@pytest.mark.parametrize("given", ["a text", [], None])
def test_a_function_that_hands_over_no_messages_is_refused(desk, given):
    strong, agent = writer(desk, RIGHT, "Done.")
    chain = [pool(desk)[0], Candidate("strong", agent)]
    graph = cascade(desk, chain, hand_over=lambda messages, before: given).compile()
    with pytest.raises(TypeError, match="`hand_over` must return a list of at least one message"):
        graph.invoke(TASK)
    assert not strong.calls


@pytest.mark.parametrize("hand_over", ["nothing", "last", "function"])
def test_the_next_agent_learns_what_the_user_chose(desk, hand_over):
    def summarize(messages, before):
        n_made = len(before["state"]["messages"])
        return [*messages, HumanMessage(f"{before['attempt']['candidate']} made {n_made}")]

    strong, agent = writer(desk, RIGHT, "Done.")
    chosen = summarize if hand_over == "function" else hand_over
    graph = cascade(desk, [pool(desk)[0], Candidate("strong", agent)], hand_over=chosen).compile()
    graph.invoke(TASK)
    heard = [str(message.text) for message in strong.calls[0].messages]
    assert heard[0] == "Make add() add."
    if hand_over == "nothing":
        assert len(heard) == 1
    elif hand_over == "last":
        assert "Done, says cheap." in heard[1]
        assert f"the file says {WRONG!r}" in heard[1]
    else:
        assert heard[1] == "cheap made 4"


# What is shown


def test_the_steps_of_an_agent_are_those_of_a_subgraph_and_rejected_drafts_are_hidden(desk):
    graph = cascade(desk).compile()
    parts = list(graph.stream(TASK, stream_mode=["updates", "messages"], subgraphs=True))
    steps = [
        (ns[0].split(":")[0], *update) for ns, mode, update in parts if ns and mode == "updates"
    ]
    assert steps == [
        (name, step) for name in ("cheap", "strong") for step in ("model", "tools", "model")
    ]
    shown = [str(part[0].text) for _, mode, part in parts if mode == "messages"]
    assert "Done, says strong." in "".join(shown)
    assert "cheap" not in "".join(shown)
    assert {"cheap:model", "strong:tools"} <= set(graph.get_graph(xray=True).nodes)


async def test_no_token_of_a_rejected_agent_is_in_the_events(desk):
    events = [event async for event in cascade(desk).compile().astream_events(TASK, version="v2")]
    tokens = [e["data"]["chunk"].text for e in events if e["event"] == "on_chat_model_stream"]
    assert "cheap" not in "".join(tokens)


CASCADE_TREE = """\
[chain] cascade
  [chain] predict
  [chain] decide: ask cheap
  [chain] cheap
    [chain] prepare
    [chain] attempt 1: cheap
      [chain] model
        [llm] ScriptedChatModel
      [chain] tools
        [tool] write
      [chain] model
        [llm] ScriptedChatModel
  [chain] decide: verify cheap
  [chain] self_evaluate
    [chain] self_evaluate → 0.000
  [chain] decide: ask strong (P 0.000 < 0.500)
  [chain] strong
    [chain] restore
    [chain] prepare
    [chain] attempt 2: strong
      [chain] model
        [llm] ScriptedChatModel
      [chain] tools
        [tool] write
      [chain] model
        [llm] ScriptedChatModel
  [chain] decide: accept strong
"""


def test_a_trace_is_one_tree_and_counts_each_token_once(desk):
    with FakeLangSmith() as fake:
        client = Client(api_url=fake.url, api_key="lsv2_sk_secret")
        graph = cascade(desk).compile(name="cascade")
        answer = graph.invoke(TASK, {"callbacks": [LangChainTracer(client=client)]})["messages"][-1]
        client.flush()
    assert strip_models(fake.tree()) == CASCADE_TREE.rstrip()
    attempts = route_of(answer)["attempts"]
    counted = sum(one["input_tokens"] + one["output_tokens"] for one in attempts)
    assert fake.tokens() == counted


def strip_models(tree: str) -> str:
    """The tree without the edges of the agents' own graphs."""
    return "\n".join(line for line in tree.splitlines() if "_to_" not in line)


# Money


def test_a_run_costs_the_sum_of_its_calls_each_at_the_price_of_its_model(desk):
    def usage(n_in: int, n_out: int) -> dict:
        return {"input_tokens": n_in, "output_tokens": n_out, "total_tokens": n_in + n_out}

    def spend(x: str) -> str:
        """Ask another model, which is not in the messages."""
        inner = model(AIMessage("inner", usage_metadata=usage(1_000, 5)))
        return str(inner.invoke(x).text)

    first = calling("spend", x="y")
    first.usage_metadata = usage(100, 10)
    last = AIMessage("done", usage_metadata=usage(200, 20))
    agent = create_agent(model(first, last), [spend])
    graph = create_cascade([Candidate("one", agent, Price(1, 10))], policy=Always("one")).compile()
    (attempt,) = route_of(graph.invoke(TASK)["messages"][-1])["attempts"]
    assert attempt["calls"] == 3
    assert (attempt["input_tokens"], attempt["output_tokens"]) == (1_300, 35)
    assert attempt["cost_usd"] == pytest.approx((1_300 * 1 + 35 * 10) / 1e6)
    unpriced = create_cascade([Candidate("one", agent)], policy=Always("one")).compile()
    assert route_of(unpriced.invoke(TASK)["messages"][-1])["cost_usd"] is None


def test_a_call_that_could_exceed_the_limit_of_its_run_is_not_made(desk):
    scripted, agent = writer(desk, WRONG, "Done.")
    limited = Candidate("cheap", agent, Price(1, 1000), max_cost_usd=0.03)
    answer = cascade(desk, [limited, pool(desk)[1]]).compile().invoke(TASK)["messages"][-1]
    cheap, strong = route_of(answer)["attempts"]
    assert "more than `max_cost_usd` (0.03)" in cheap["error"]
    assert len(scripted.calls) == cheap["calls"] == 1
    assert 0 < cheap["cost_usd"] <= 0.03
    assert cheap["restored"], "what it did before it stopped is undone as well"
    assert strong["error"] is None


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"price": None}, "its price is not known: give the candidate a `price`"),
        ({"price": Price(1, 2)}, "has no maximum length: give the model `max_tokens`"),
    ],
)
def test_under_a_limit_a_call_without_a_bound_is_not_made(limits, says):
    scripted = model("Hi.", max_tokens=None)
    agent = Candidate("one", create_agent(scripted, []), max_cost_usd=1.0, **limits)
    with pytest.raises(BudgetExceededError, match=says):
        create_cascade([agent], policy=Always("one")).compile().invoke(TASK)
    assert scripted.calls == []


def spent(budgets: Budgets) -> float:
    return budgets.ledger.used_nano(budgets.budgets[0].account({}, 0.0)) / 1e9


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_a_budget_is_charged_exactly_what_the_runs_cost(desk, way):
    budgets = Budgets([Budget(1.0)])
    graph = cascade(desk, pool(desk, max_cost_usd=0.4), budgets=budgets).compile()
    record = route_of(await ask(graph, way))
    assert record["budget"]["charged_usd"] == pytest.approx(record["cost_usd"])
    assert spent(budgets) == pytest.approx(record["cost_usd"], abs=2e-9)


def test_under_a_budget_an_agent_needs_a_limit_of_its_own(desk):
    with pytest.raises(BudgetExceededError, match="run has no upper bound: give it `max_c"):
        cascade(desk, budgets=Budgets([Budget(1.0)])).compile().invoke(TASK)
    tokens = Budgets([Budget(limit_tokens=10_000)])
    with pytest.raises(BudgetExceededError, match="no upper bound in tokens"):
        cascade(desk, pool(desk, max_cost_usd=0.1), budgets=tokens).compile().invoke(TASK)


def test_a_failed_call_in_a_run_is_booked_at_its_worst_case_beside_what_is_known(desk):
    def look() -> str:
        """Look."""
        return "nothing"

    agent = create_agent(model(calling("look"), ConnectionError("lost")), [look])
    budgets = Budgets([Budget(1.0)])
    first = Candidate("cheap", agent, Price(1, 2), max_cost_usd=0.4)
    second = pool(desk, max_cost_usd=0.4)[1]
    record = route_of(
        cascade(desk, [first, second], budgets=budgets).compile().invoke(TASK)["messages"][-1]
    )
    cheap = record["attempts"][0]
    assert "ConnectionError" in cheap["error"]
    assert cheap["cost_usd"] > 0
    assert cheap["unsure_usd"] > 0
    total = record["cost_usd"] + cheap["unsure_usd"]
    assert record["budget"]["charged_usd"] == pytest.approx(total)
    assert spent(budgets) == pytest.approx(total, abs=2e-9)


async def test_a_cancelled_run_is_charged_for_what_it_had_in_flight():
    began = asyncio.Event()

    class Slow(ScriptedChatModel):
        async def _agenerate(self, *args, **kwargs):
            began.set()
            await asyncio.sleep(30)

    agent = create_agent(Slow("never", max_tokens=10), [])
    budgets = Budgets([Budget(1.0)])
    candidate = Candidate("one", agent, Price(1, 1000), max_cost_usd=0.5)
    graph = create_cascade([candidate], policy=Always("one"), budgets=budgets).compile()
    running = asyncio.create_task(graph.ainvoke(TASK))
    await asyncio.wait_for(began.wait(), 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert 0.01 <= spent(budgets) < 0.02, "one answer of ten tokens, and its prompt"


# Pauses


def asking_agent(**kwargs):
    """An agent that asks a person between two calls of its model."""

    def confirm() -> str:
        """Ask a person."""
        return str(interrupt("May I?"))

    scripted = model(calling("confirm"), "Done.")
    return scripted, Candidate("one", create_agent(scripted, [confirm]), Price(1, 2), **kwargs)


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_an_agent_may_pause_for_a_person_and_nothing_is_asked_or_billed_twice(desk, way):
    budgets = Budgets([Budget(1.0)])
    scripted, agent = asking_agent(max_cost_usd=0.4)
    graph = create_cascade(
        [agent], policy=Always("one"), budgets=budgets, prepare=desk.prepare
    ).compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    await ask(graph, way, config)
    (paused,) = graph.get_state(config, subgraphs=True).tasks
    assert paused.interrupts[0].value == "May I?"
    assert len(paused.state.values["messages"]) == 2
    answer = await ask(graph, way, config, Resume(resume="yes"))
    assert (answer.content, len(scripted.calls), desk.calls) == ("Done.", 2, ["prepare one"])
    record = route_of(answer)
    (attempt,) = record["attempts"]
    assert (attempt["calls"], attempt["unsure_usd"]) == (2, 0.0)
    assert "interrupted" not in attempt
    assert record["budget"]["charged_usd"] == pytest.approx(record["cost_usd"])
    assert spent(budgets) == pytest.approx(record["cost_usd"], abs=2e-9)


def test_a_pause_without_a_checkpointer_is_an_error():
    with pytest.raises(LlmRouterError, match="the cascade has no checkpointer"):
        create_cascade([asking_agent()[1]], policy=Always("one")).compile().invoke(TASK)


def test_a_second_turn_starts_the_agents_anew(desk):
    graph = cascade(desk).compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    first = route_of(graph.invoke(TASK, config)["messages"][-1])
    again = {"messages": [("human", "Once more.")]}
    second = route_of(graph.invoke(again, config)["messages"][-1])
    assert [one["calls"] for one in first["attempts"]] == [2, 2]
    assert [one["unsure_usd"] for one in second["attempts"]] == [0.0] * len(second["attempts"])


# Other runnables, and what is refused


@pytest.mark.parametrize(
    "function",
    [
        lambda messages: AIMessage(f"{len(messages)} heard"),
        lambda messages: [*messages, AIMessage(f"{len(messages)} heard")],
        lambda messages: {"messages": [AIMessage(f"{len(messages)} heard")], "more": 1},
    ],
)
async def test_any_runnable_from_messages_to_messages_is_an_agent(function):
    graph = create_cascade([Candidate("one", RunnableLambda(function))], policy=Always("one"))
    for way in ("invoke", "ainvoke"):
        assert (await ask(graph.compile(), way)).content == "1 heard"


def test_a_structured_response_is_the_answer_and_is_checked():
    class Total(BaseModel):
        total: int

    from langchain_llm_router.verification import parses_as

    agents = [
        create_agent(model(Total(total=3)), [], response_format=Total),
        create_agent(model("?"), []),
    ]
    pool = [Candidate("cheap", agents[0]), Candidate("strong", agents[1])]
    checks = Checks([parses_as(Total, key="structured_response"), parses_as(Total)])
    graph = create_cascade(pool, policy=ConfidenceThreshold(), verifier=checks).compile()
    answer = graph.invoke(TASK)["messages"][-1]
    assert answer.content == '{"total": 3}'
    assert route_of(answer)["attempts"][0]["verdicts"] == [True, True]


class NoMessages(TypedDict):
    text: str


def graph_of(state):
    graph = StateGraph(state)
    graph.add_node("only", lambda state: state)
    graph.set_entry_point("only")
    return graph


def agent_of(name="one", **kwargs) -> Candidate:
    return Candidate(name, create_agent(model("Hi."), []), **kwargs)


REFUSED = {
    "no messages": (
        lambda: cascaded(Candidate("one", graph_of(NoMessages).compile())),
        (TypeError, r"'one' does not take messages: its state has the keys \['text'\]"),
    ),
    "a memory of its own": (
        lambda: cascaded(Candidate("one", graph_of(MessagesState).compile(checkpointer=True))),
        (ValueError, "compile it without a checkpointer"),
    ),
    "without a name": (
        lambda: cascaded(create_agent(model("Hi."), [])),
        (TypeError, r"as `Candidate\(\"name\", agent\)`"),
    ),
    "in a chat model": (
        lambda: ChatLLMRouter(candidates=[agent_of()], policy=Always("one")),
        (TypeError, "an agent is a candidate of `create_cascade`"),
    ),
    "parameters": (
        lambda: cascaded(agent_of(parameters={"seed": 1})),
        (ValueError, "`parameters` of 'one' cannot be passed on to an agent"),
    ),
    "tools": (
        lambda: cascaded(agent_of(), tools=[print]),
        (ValueError, "`tools` cannot be passed"),
    ),
    "settings": (
        lambda: cascaded(agent_of(), temperature=0.5),
        (ValueError, "`temperature`, `max_tokens` and `stop` cannot be passed on"),
    ),
    "a report": (
        lambda: cascaded(
            agent_of(), agent_of("two"), policy=ConfidenceThreshold(), verifier=SelfReported()
        ),
        (ValueError, "what SelfReported asks of a model beside its answer cannot"),
    ),
    "hooks without an agent": (
        lambda: cascaded(Candidate("one", FakeListChatModel(responses=["x"])), prepare=print),
        (ValueError, "are about agents, and all candidates are chat models"),
    ),
    "a limit of a chat model": (
        lambda: cascaded(Candidate("one", FakeListChatModel(responses=["x"]), max_cost_usd=1.0)),
        (ValueError, "`max_cost_usd` of 'one' is for an agent"),
    ),
    "a limit of 0": (lambda: agent_of(max_cost_usd=0.0), (ValueError, "`max_cost_usd` must be")),
    "hand_over": (
        lambda: cascaded(agent_of(), hand_over="all"),
        (TypeError, "must be 'nothing', 'last' or a function .* got 'all'"),
    ),
    "restore": (
        lambda: cascaded(agent_of(), restore="git reset"),
        (TypeError, r"`restore` must be a function `f\(name, prepared\)` or None, got 'git reset'"),
    ),
}


def cascaded(*candidates, **kwargs):
    return create_cascade(list(candidates), **{"policy": Always("one"), **kwargs})


@pytest.mark.parametrize(("build", "refusal"), REFUSED.values(), ids=REFUSED)
def test_what_an_agent_cannot_be_or_do_is_refused_in_words(build, refusal):
    kind, says = refusal
    with pytest.raises(kind, match=says):
        build()


@pytest.mark.parametrize(
    ("output", "says"),
    [("text", "must return messages, .*got a str"), ([], "must end with an answer.*no message")],
)
def test_an_agent_that_returns_no_messages_has_failed(output, says):
    agent = Candidate("one", RunnableLambda(lambda messages: output))
    with pytest.raises((TypeError, ValueError), match=says):
        create_cascade([agent], policy=Always("one")).compile().invoke(TASK)


def test_a_check_that_hangs_is_not_taken_for_a_passed_one(desk):
    hangs = Command([sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=0.3)
    graph = cascade(desk, pool(desk, RIGHT), verifier=Checks([hangs])).compile()
    cheap, strong = route_of(graph.invoke(TASK)["messages"][-1])["attempts"]
    assert cheap["confidence"] is None
    assert "did not end within 0.3 s" in cheap["verification_errors"][0]
    assert strong["candidate"] == "strong"


@pytest.mark.parametrize(("right", "kept"), [(9, True), (5, False)])
def test_a_check_that_may_be_wrong_is_read_through_an_observation_model(desk, right, kept):
    wrong = 10 - right
    scores = [1.0] * right + [0.0] * wrong + [0.0] * right + [1.0] * wrong
    good = [True] * 10 + [False] * 10
    observed = BetaBinomial(n_samples=1).fit(scores, good)
    assert observed.p_good(1.0) == pytest.approx(0.87 if kept else 0.5, abs=0.05)
    policy = ConfidenceThreshold(observed, threshold=0.7)
    graph = cascade(desk, pool(desk, RIGHT), policy=policy).compile()
    record = route_of(graph.invoke(TASK)["messages"][-1])
    assert record["candidate"] == ("cheap" if kept else "strong")


# Endings where no answer is good enough


def unsure(do, **kwargs):
    return Unsure(ConfidenceThreshold(threshold=0.5), 0.4, do=do, verify_last=True, **kwargs)


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_a_refused_request_leaves_nothing_that_a_rejected_agent_has_changed(desk, way):
    agents = [*pool(desk)[:1], Candidate("strong", writer(desk, WRONG, "No.")[1], Price(10, 20))]
    answer = await ask(cascade(desk, agents, policy=unsure("refuse")).compile(), way)
    assert answer.content == "I am not sure enough to answer this."
    assert desk.text == "start"
    assert desk.calls[-1] == "restore strong"
    assert [attempt["restored"] for attempt in route_of(answer)["attempts"]] == [True, True]


@pytest.mark.parametrize("do", ["flag", "hold"])
def test_an_answer_whose_effects_were_undone_is_not_given_as_the_best_one(desk, do):
    # The check prefers the first answer, which was undone before the second one was asked.
    verdicts = iter([CheckResult(False, "0.3"), CheckResult(False, "0.1")])
    agents = [*pool(desk)[:1], Candidate("strong", writer(desk, WRONG, "No.")[1], Price(10, 20))]
    graph = cascade(desk, agents, policy=unsure(do), verifier=Checks([lambda case: next(verdicts)]))
    answer = graph.compile().invoke(TASK)["messages"][-1]
    assert (answer.content, route_of(answer)["candidate"]) == ("No.", "strong")
    assert desk.text == WRONG


def test_an_undone_answer_is_not_accepted_where_the_last_one_is_below_the_worth_of_refusing(desk):
    class Never(ConfidenceThreshold):
        """Accepts the first answer at the end, however poor the last one is."""

        def decide(self, situation):
            step = super().decide(situation)
            if step.action == "accept" and len(situation.attempts) == 2:
                return replace(step, candidate=situation.attempts[0]["candidate"])
            return step

    agents = [*pool(desk)[:1], Candidate("strong", writer(desk, WRONG, "No.")[1], Price(10, 20))]
    policy = Unsure(Never(threshold=0.5), 0.4, verify_last=True)
    answer = cascade(desk, agents, policy=policy).compile().invoke(TASK)["messages"][-1]
    assert route_of(answer)["unsure"] == {"do": "refuse", "cost_usd": 0.0}
    assert desk.text == "start"


def test_what_a_checkpointer_cannot_save_is_refused_before_the_agent_runs(desk):
    graph = cascade(desk, prepare=lambda name: object()).compile(checkpointer=InMemorySaver())
    with pytest.raises(TypeError, match=r"`prepare` returned <object .* for 'cheap', which"):
        graph.invoke(TASK, {"configurable": {"thread_id": "t"}})
    assert desk.text == "start"


@pytest.mark.parametrize("do", ["refuse", "interrupt"])
def test_where_the_last_agent_fails_a_request_ends_as_it_was_told_and_nothing_is_left(desk, do):
    def half(text: str) -> str:
        """Write the file adder.py, and fail."""
        (desk / "adder.py").write_text("half")
        raise RuntimeError("the disk is full")

    broken = create_agent(model(calling("half", text="x"), "never"), [half])
    agents = [*pool(desk)[:1], Candidate("strong", broken, Price(10, 20))]
    graph = cascade(desk, agents, policy=unsure(do)).compile(checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "t"}}
    state = graph.invoke(TASK, thread)
    if do == "interrupt":
        assert state["__interrupt__"][0].value["reason"].startswith("the effects of every answer")
        state = graph.invoke(Resume(resume="I did it by hand."), thread)
        assert state["messages"][-1].content == "I did it by hand."
        return
    assert state["messages"][-1].content == "I am not sure enough to answer this."
    assert desk.text == "start"
