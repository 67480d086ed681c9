"""A cascade's graph in processes that are killed: `python tests/support/killed_graph.py FOLDER`.

Each case is a process of its own that runs one request over an SQLite checkpointer and is killed
by `kill -9`: right after one of its checkpoints is written, or in the middle of a call to a model.
A second process then takes the thread up. What came of it is printed as one JSON object.
"""

import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.sqlite import SqliteSaver

from langchain_llm_router import Candidate, ChatLLMRouter, Price, create_cascade, route_of
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.budgets.ledgers import InProcessLedger, Ledger, Reservation
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.verification import SelfEvaluator

QUESTION = {"messages": [("human", "q")]}
THREAD = {"configurable": {"thread_id": "t"}}
CALLS = ["small asked", "small judged", "large asked"]


class FileModel(BaseChatModel):
    """Says the same each time and notes each call in a file; one call may hang."""

    name_: str
    folder: Path
    hangs_at: str | None = None

    @property
    def _llm_type(self) -> str:
        return "file"

    def _note(self, what: str) -> None:
        call = f"{self.name_} {what}"
        with (self.folder / "calls").open("a") as file:
            file.write(f"{call}\n")
        if call == self.hangs_at:
            # LangGraph writes the mark of a step in another thread, so it may come after the call.
            time.sleep(0.2)
            (self.folder / "hangs").touch()
            time.sleep(60)

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self._note("asked")
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        message = AIMessage(f"{self.name_} says", usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def with_structured_output(self, schema, *, include_raw=False, **kwargs):
        def judge(_: Any) -> dict[str, Any]:
            self._note("judged")
            usage = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
            parsed = schema(rationale="because", verdict="Incorrect")
            return {"raw": AIMessage("no", usage_metadata=usage), "parsed": parsed,
                    "parsing_error": None}  # fmt: skip

        return RunnableLambda(judge)


class FileLedger(Ledger):
    """Accounts in a file, which the processes share one after the other.

    As in any ledger that processes share, what a killed one has reserved stays reserved.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def _load(self) -> dict[str, int]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}

    def _add(self, accounts, nano: int) -> None:
        used = self._load()
        for account in accounts:
            used[account.key] = used.get(account.key, 0) + nano
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(used))
        fresh.replace(self._path)

    def reserve(self, accounts, want_nano: int, least_nano: int) -> Reservation | None:
        room = [account.limit_nano - self.used_nano(account) for account in accounts]
        granted = min([want_nano, *room])
        if granted < least_nano:
            return None
        self._add(accounts, granted)
        return Reservation(tuple(accounts), granted)

    def settle(self, hold: Reservation, spent_nano: int) -> None:
        self._add(hold.accounts, spent_nano - hold.granted_nano)

    def used_nano(self, account) -> int:
        return self._load().get(account.key, 0)


class KilledSaver(SqliteSaver):
    """Kills its process right after its `fatal`-th checkpoint; 0: never."""

    fatal = 0
    n_written = 0

    def put(self, *args: Any, **kwargs: Any) -> Any:
        written = super().put(*args, **kwargs)
        self.n_written += 1
        if self.n_written == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return written


def parts(folder: Path, ledger: str, hangs_at: str | None) -> dict[str, Any]:
    models = {
        name: FileModel(name_=name, folder=folder, hangs_at=hangs_at) for name in ("small", "large")
    }
    own = InProcessLedger() if ledger == "own" else FileLedger(folder / "ledger.json")
    return {
        "candidates": [
            Candidate("small", models["small"], Price(1, 2), max_output_tokens=100),
            Candidate("large", models["large"], Price(10, 20), max_output_tokens=100),
        ],
        "policy": ConfidenceThreshold(threshold=0.7),
        "verifier": SelfEvaluator(n_samples=1),
        "budgets": Budgets([Budget(1.0)], own),
    }


def run(folder: Path, ledger: str, *, fatal: int = 0, hangs_at: str | None = None) -> None:
    """Begin the request, or take it up; leaves `result.json` if it comes to an end."""
    given = parts(folder, ledger, hangs_at)
    budgets = given["budgets"]
    with KilledSaver.from_conn_string(str(folder / "threads.db")) as saver:
        saver.fatal = fatal
        # A killed process loses nothing that it has written; only a power cut could.
        saver.conn.execute("PRAGMA synchronous = OFF")
        graph = create_cascade(given.pop("candidates"), **given).compile(checkpointer=saver)
        before = graph.get_state(THREAD)
        messages = before.values.get("messages", [])
        if not messages or route_of(messages[-1]) is None:
            asked = None if messages or before.next else QUESTION
            # "sync": no node begins before the checkpoint of the one before it is written.
            messages = graph.invoke(asked, THREAD, durability="sync")["messages"]
        message = messages[-1]
    result = {
        "answer": message.content,
        "record": route_of(message),
        "next": list(before.next),
        "used_nano": budgets.ledger.used_nano(budgets.budgets[0].account({}, 0.0)),
        "n_checkpoints": saver.n_written,
    }
    (folder / "result.json").write_text(json.dumps(result))


def in_process(work: Callable[[], None], until: Path | None = None) -> None:
    """Work in a process of its own; with `until`, kill it as soon as that file is there."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - whatever it is, a child ends here
            traceback.print_exc()
        finally:
            os._exit(0)
    ended = 0
    while until is not None and not until.exists() and ended == 0:
        time.sleep(0.005)
        ended, _ = os.waitpid(pid, os.WNOHANG)
    if ended == 0:
        if until is not None:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def case(folder: Path, ledger: str, **death: Any) -> dict[str, Any] | None:
    """What comes of a request whose first process died so; None: it did not die of it."""
    folder.mkdir(parents=True)
    until = folder / "hangs" if death.get("hangs_at") else None
    in_process(lambda: run(folder, ledger, **death), until)
    if death and (folder / "result.json").exists():
        return None
    if death:
        in_process(lambda: run(folder, ledger))
    result = json.loads((folder / "result.json").read_text())
    return {**result, "calls": (folder / "calls").read_text().splitlines()}


def worst_usd(folder: Path) -> dict[str, float]:
    """What each call can cost at most."""
    arms = {
        arm.candidate: arm
        for arm in ChatLLMRouter(**parts(folder, "own", None)).situation("q").arms
    }
    return {
        "small asked": arms["small"].worst_asking_usd,
        "small judged": arms["small"].worst_verification_usd,
        "large asked": arms["large"].worst_asking_usd,
    }


def main() -> None:
    folder = Path(sys.argv[1])
    # Here as well, so that the processes to come find everything imported, and copy none of it to
    # collect garbage in it.
    (folder / "first").mkdir()
    run(folder / "first", "own")
    gc.freeze()
    gc.disable()
    whole = case(folder / "whole", "shared")
    assert whole is not None
    found = {
        "worst_usd": worst_usd(folder),
        "whole": whole,
        "shared": {
            call: case(folder / f"shared {call}", "shared", hangs_at=call) for call in CALLS
        },
        "own": {call: case(folder / f"own {call}", "own", hangs_at=call) for call in CALLS[-1:]},
        "between": [
            case(folder / f"checkpoint {fatal}", "shared", fatal=fatal)
            for fatal in range(1, whole["n_checkpoints"] + 1)
        ],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
