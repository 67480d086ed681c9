"""Agents of a cascade in processes that are killed: `python tests/support/killed_agents.py FOLDER`.

Each case is a process of its own that runs a cascade of two agents over an SQLite checkpointer and
a file that the agents write, and that is killed by `kill -9` in the middle of a model's call, of a
tool, of a check or of `restore`. A second process takes the thread up. What came of it is printed
as one JSON object.
"""

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.sqlite import SqliteSaver

from langchain_llm_router import Candidate, Price, create_cascade, route_of
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.budgets.ledgers import InProcessLedger
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.verification import Checks
from tests.support.killed_graph import FileLedger, in_process

TASK = {"messages": [("human", "Write good.")]}
THREAD = {"configurable": {"thread_id": "t"}}
EVENTS = [
    *("prepare cheap", "cheap 1", "cheap writes", "cheap 2", "check bad"),
    *("restore cheap", "prepare strong", "strong 1", "strong writes", "strong 2"),
]


class Notes:
    """Notes each event in a file; the process hangs at one of them."""

    def __init__(self, folder: Path, hangs_at: str | None) -> None:
        self.folder, self.hangs_at = folder, hangs_at

    def add(self, event: str) -> None:
        with (self.folder / "events").open("a") as file:
            file.write(f"{event}\n")
        if event == self.hangs_at:
            # LangGraph writes checkpoints in another thread.
            time.sleep(0.3)
            (self.folder / "hangs").touch()
            time.sleep(60)


class TwoCalls(BaseChatModel):
    """Calls the tool `write`, and then says that it is done."""

    notes: Any
    name_: str
    text: str
    max_tokens: int = 50

    @property
    def _llm_type(self) -> str:
        return "two-calls"

    def bind_tools(self, tools, **kwargs):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        second = any(message.type == "tool" for message in messages)
        self.notes.add(f"{self.name_} {2 if second else 1}")
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        message = AIMessage(f"{self.name_} is done", usage_metadata=usage)
        if not second:
            calls = [{"name": "write", "args": {"text": self.text}, "id": "1"}]
            message = AIMessage("", tool_calls=calls, usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])


def candidate(notes: Notes, name: str, text: str, price: Price) -> Candidate:
    path = notes.folder / "file"

    def write(text: str) -> str:
        """Write the file."""
        notes.add(f"{name} writes")
        path.write_text(text)
        return "written"

    agent = create_agent(TwoCalls(notes=notes, name_=name, text=text), [write])
    return Candidate(name, agent, price, max_cost_usd=0.2)


def run(folder: Path, ledger: str, hangs_at: str | None = None) -> None:
    """Begin the request, or take it up; leaves `result.json` if it comes to an end."""
    notes, path = Notes(folder, hangs_at), folder / "file"
    if not path.exists():
        path.write_text("start")

    def prepare(name: str) -> str:
        notes.add(f"prepare {name}")
        return path.read_text()

    def restore(name: str, prepared: str) -> None:
        notes.add(f"restore {name}")
        path.write_text(prepared)

    def is_good(case: Any) -> bool:
        notes.add(f"check {path.read_text()}")
        return path.read_text() == "good"

    own = InProcessLedger() if ledger == "own" else FileLedger(folder / "ledger.json")
    budgets = Budgets([Budget(5.0)], own)
    with SqliteSaver.from_conn_string(str(folder / "threads.db")) as saver:
        saver.conn.execute("PRAGMA synchronous = OFF")
        graph = create_cascade(
            [
                candidate(notes, "cheap", "bad", Price(10, 20)),
                candidate(notes, "strong", "good", Price(100, 200)),
            ],
            policy=ConfidenceThreshold(),
            verifier=Checks([is_good]),
            prepare=prepare,
            restore=restore,
            budgets=budgets,
        ).compile(checkpointer=saver)
        begun = graph.get_state(THREAD).next
        state = graph.invoke(None if begun else TASK, THREAD, durability="sync")
    message = state["messages"][-1]
    result = {
        "answer": message.content,
        "record": route_of(message),
        "file": path.read_text(),
        "used_nano": budgets.ledger.used_nano(budgets.budgets[0].account({}, 0.0)),
    }
    (folder / "result.json").write_text(json.dumps(result))


def case(folder: Path, ledger: str = "own", hangs_at: str | None = None) -> dict[str, Any]:
    folder.mkdir(parents=True)
    in_process(lambda: run(folder, ledger, hangs_at), folder / "hangs" if hangs_at else None)
    if hangs_at:
        assert not (folder / "result.json").exists()
        in_process(lambda: run(folder, ledger))
    result = json.loads((folder / "result.json").read_text())
    return {**result, "events": (folder / "events").read_text().splitlines()}


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "first").mkdir()
    run(folder / "first", "own")
    gc.freeze()
    gc.disable()
    killed = {event: case(folder / event.replace(" ", "-"), "own", event) for event in EVENTS}
    shared = case(folder / "shared", "shared", "cheap 2")
    print(json.dumps({"whole": case(folder / "whole"), "killed": killed, "shared": shared}))


if __name__ == "__main__":
    main()
