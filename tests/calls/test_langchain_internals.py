"""Each private name of LangChain and LangGraph, against the installed versions.

A failure says what the installed version does not have, and what the package needs it for.
"""

import ast
import asyncio
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest
from langchain_core import language_models
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_model_stream import AsyncChatModelStream, ChatModelStream
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.tracers import context
from langchain_core.tracers.context import collect_runs
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph
from langgraph.runtime import Runtime

from langchain_llm_router.calls import langchain_internals
from langchain_llm_router.calls.langchain_internals import (
    CHECKPOINTER_KEY,
    RUNTIME_KEY,
    VERSIONS_KEY,
    acreate_events,
    create_events,
    has_checkpointer,
    has_context_handlers,
    identifying_params,
    langsmith_params,
    shows_messages,
    start_producer,
)
from tests.support.paths import PACKAGE

CORE = f"langchain-core {version('langchain-core')}"
GRAPH = f"langgraph {version('langgraph')}"

# What a chat model of ours inherits and calls on itself, or overrides.
INHERITED = {
    "_add_version": "this package's version in traces",
    "_agenerate": "asking, in the doubles for tests",
    "_astream": "streaming, in the doubles for tests",
    "_atransform_stream_with_config": "the run around an async stream",
    "_convert_input": "strings and prompts as messages",
    "_generate": "asking, for callers that bypass `invoke`",
    "_get_ls_params": "the router's provider and name in traces",
    "_identifying_params": "what tells one router from another in a cache",
    "_llm_type": "the kind of model in traces",
    "_resolve_model_profile": "what all candidates can do",
    "_stream": "streaming, in the doubles for tests",
    "_transform_stream_with_config": "the run around a stream",
}
THEIRS = {name for base in (BaseChatModel, AsyncChatModelStream) for name in dir(base)}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name != "_"


def own_names(tree: ast.AST) -> set[str]:
    """The private names that a file defines."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found |= {node.attr} if ast.unparse(node.value) == "self" else set()
    return found


def foreign_names(tree: ast.AST, ours: set[str]) -> tuple[set[str], set[str]]:
    """The private names of others that a file uses, and those that it has from a base class."""
    used, inherited = set(), set()

    def sort(name: str, of: ast.expr) -> None:
        if is_private(name) and (name not in ours or name in THEIRS):
            holder = ast.unparse(of)
            if holder not in sys.stdlib_module_names:
                (inherited if holder in ("self", "super()") else used).add(name)

    for node in ast.walk(tree):
        match node:
            case ast.Import() | ast.ImportFrom():
                module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                names = {f"{module}{alias.name}" for alias in node.names}
                names = {name for name in names if not name.startswith(PACKAGE.name)}
                used |= {name for name in names if any(map(is_private, name.split(".")))}
            case ast.Constant(value=str(text)) if "__pregel" in text:
                used.add(text)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                inherited |= {name} & THEIRS if is_private(name) else set()
            case ast.Attribute(attr=name, value=holder):
                sort(name, holder)
            case ast.Call(
                func=ast.Name("getattr" | "hasattr"),
                args=[holder, ast.Constant(value=str(name)), *_],
            ):
                sort(name, holder)
    return used, inherited


@cache
def names_by_file() -> dict[str, tuple[set[str], set[str]]]:
    trees = {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    ours = set().union(*map(own_names, trees.values()))
    return {
        str(path.relative_to(PACKAGE)): foreign_names(tree, ours) for path, tree in trees.items()
    }


def test_private_names_of_others_are_in_one_file_only():
    home = Path(langchain_internals.__file__).relative_to(PACKAGE)
    used = {file: found for file, (found, _) in names_by_file().items() if found}
    assert len(used.pop(str(home))) >= 6
    assert used == {}, "put these into calls/langchain_internals.py, with a test against LangChain"


def test_what_is_inherited_is_known():
    found = set().union(*(inherited for _, inherited in names_by_file().values()))
    assert found == set(INHERITED)


@pytest.mark.parametrize(
    "code",
    [
        "import core._inside",
        "from core._inside import name",
        "from core import _name",
        'config["__pregel_send"]',
        "model._get_ls_params()",
        "stream._task = None",
        'getattr(stream, "_task", None)',
    ],
)
def test_a_private_name_is_seen_in_every_form(code):
    used, inherited = foreign_names(ast.parse(code), {"_get_ls_params", "_ours"})
    assert used
    assert not inherited


def test_names_of_our_own_are_no_ones_private_names():
    code = "sys._getframe()\nother._ours\nfrom langchain_llm_router.x import _ours"
    assert foreign_names(ast.parse(code), {"_ours"}) == (set(), set())
    assert foreign_names(ast.parse("self._convert_input(x)"), set())[1] == {"_convert_input"}


@pytest.mark.parametrize(("name", "use"), INHERITED.items(), ids=INHERITED)
def test_a_chat_model_still_inherits(name, use):
    assert hasattr(BaseChatModel, name), f"{CORE}: `BaseChatModel.{name}` is gone; it was for {use}"


def test_hooks_of_context_variables_are_listed():
    assert isinstance(getattr(context, "_configure_hooks", None), list), (
        f"{CORE} keeps no list `tracers.context._configure_hooks`: every call makes a run, slower"
    )
    assert not has_context_handlers()
    with collect_runs():
        assert has_context_handlers(), f"{CORE}: the handler of `collect_runs` is not in the hooks"


def test_without_the_list_of_hooks_any_handler_may_be_there(monkeypatch):
    monkeypatch.delattr(context, "_configure_hooks")
    assert has_context_handlers()


@pytest.fixture
def openai_model():
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="gpt-4o-mini", api_key="none")


def test_a_model_says_its_provider_and_name(openai_model):
    params = langsmith_params(openai_model)
    assert (params.get("ls_provider"), params.get("ls_model_name")) == ("openai", "gpt-4o-mini"), (
        f"{CORE}: `_get_ls_params` gives {params}: no price is found, and no provider's own blocks"
    )
    assert "gpt-4o-mini" in str(identifying_params(openai_model)), (
        f"{CORE}: `_identifying_params` does not tell models apart"
    )


def test_a_model_keeps_its_versions_under_the_known_key(openai_model):
    metadata = openai_model.metadata or {}
    if "langchain-core" not in metadata.get(VERSIONS_KEY, {}):
        pytest.fail(f"{CORE}: metadata {metadata} has no {VERSIONS_KEY!r}: calls merge versions")


CHUNKS = [ChatGenerationChunk(message=AIMessageChunk(content=text)) for text in ("good ", "day")]


async def test_chunks_become_the_events_of_typed_streams():
    stream, astream = ChatModelStream(), AsyncChatModelStream()

    async def chunks():
        for chunk in CHUNKS:
            yield chunk

    for event in create_events(iter(CHUNKS), stream.message_id):
        stream.dispatch(event)
    async for event in acreate_events(chunks(), astream.message_id):
        astream.dispatch(event)
    assert stream.output.text == (await astream).text == "good day", (
        f"{CORE}: `_compat_bridge` makes other events: typed streams of the router are broken"
    )


def test_without_the_bridge_typed_streams_are_refused_in_words(monkeypatch):
    name = "_compat_bridge"
    monkeypatch.delattr(language_models, name, raising=False)
    monkeypatch.setitem(sys.modules, f"langchain_core.language_models.{name}", None)
    with pytest.raises(NotImplementedError, match='ask for `version="v2"`'):
        create_events(iter(CHUNKS), None)


async def test_the_task_behind_a_typed_stream_is_started_once_and_cancelled_by_closing():
    stream, started = AsyncChatModelStream(), []
    assert getattr(stream, "_producer_task", "none") is None, (
        f"{CORE}: `AsyncChatModelStream._producer_task` is gone: closing does not stop the request"
    )

    async def produce():
        started.append(asyncio.current_task())
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            stream.fail(error)
            raise

    async def start():
        start_producer(stream, produce)

    stream.set_start(start)
    await start()
    await start()
    await asyncio.sleep(0)
    await stream.aclose()
    assert [task.cancelled() for task in started] == [True], (
        f"{CORE}: `aclose` does not stop `_producer_task`"
    )


def test_a_node_finds_the_runtime_of_its_graph_in_its_config():
    found = []
    graph = StateGraph(MessagesState)
    graph.add_node("node", lambda state, config: found.append(config["configurable"][RUNTIME_KEY]))
    graph.set_entry_point("node")
    list(graph.compile().stream({"messages": []}, stream_mode="custom"))
    (runtime,) = found
    assert isinstance(runtime, Runtime), (
        f"{GRAPH}: the config has no `__pregel_runtime`: no events, and retries are not counted"
    )
    assert runtime.execution_info.node_attempt == 1, f"{GRAPH}: the runtime counts no attempts"
    assert runtime.stream_writer is not Runtime().stream_writer, (
        f"{GRAPH}: the runtime has no writer for `stream_mode='custom'`"
    )


def test_a_node_knows_whether_its_graph_has_a_checkpointer():
    found = []
    graph = StateGraph(MessagesState)
    graph.add_node("node", lambda state, config: found.append(has_checkpointer(config)))
    graph.set_entry_point("node")
    graph.compile().invoke({"messages": []})
    thread = {"configurable": {"thread_id": "t"}}
    graph.compile(checkpointer=InMemorySaver()).invoke({"messages": []}, thread)
    assert found == [False, True], f"{GRAPH}: the config has no `__pregel_checkpointer`"
    assert has_checkpointer({})


def test_a_nodes_config_has_the_checkpointer_and_the_handler_that_shows_messages():
    found, saver = [], InMemorySaver()
    graph = StateGraph(MessagesState)
    graph.add_node("node", lambda state, config: found.append(config))
    graph.set_entry_point("node")
    compiled, config = graph.compile(checkpointer=saver), {"configurable": {"thread_id": "1"}}
    list(compiled.stream({"messages": []}, config, stream_mode="messages"))
    assert found[0]["configurable"][CHECKPOINTER_KEY] is saver, (
        f"{GRAPH}: the config has no `__pregel_checkpointer`: agents cannot pause or go on"
    )
    assert any(map(shows_messages, found[0]["callbacks"].handlers)), (
        f"{GRAPH}: no handler shows messages: those of rejected agents would not be hidden"
    )
