"""A cheap agent edits a file, a check runs, and the strong agent starts from the same file if not.

Offline a scripted model plays both agents. With your own keys, change the line marked below.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage

from langchain_llm_router import Candidate, Price, create_cascade, route_of
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.verification import Checks, Command


def scripted(code: str) -> ScriptedChatModel:
    call = {"name": "write", "args": {"code": code}, "id": "call_1"}
    return ScriptedChatModel(AIMessage("", tool_calls=[call]), "It adds now.", max_tokens=500)


# With real keys: models = {"cheap": "openai:gpt-4o-mini", "strong": "openai:gpt-4o"}
models: dict[str, Any] = {
    "cheap": scripted("def add(a, b):\n    return a - b\n"),
    "strong": scripted("def add(a, b):\n    return a + b\n"),
}


def main() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "adder.py"
        path.write_text("def add(a, b):\n    ...\n", encoding="utf-8")

        def write(code: str) -> str:
            """Write the file adder.py."""
            path.write_text(code, encoding="utf-8")
            return "written"

        def prepare(name: str) -> str:
            return path.read_text(encoding="utf-8")  # with git: the commit of a worktree

        def restore(name: str, before: str) -> None:
            path.write_text(before, encoding="utf-8")  # with git: reset --hard, clean

        test = Command(
            [sys.executable, "-c", "from adder import add; assert add(2, 3) == 5"], folder
        )
        graph = create_cascade(
            [
                Candidate("cheap", create_agent(models["cheap"], [write]), Price(0.15, 0.6)),
                Candidate("strong", create_agent(models["strong"], [write]), Price(2.5, 10)),
            ],
            policy=ConfidenceThreshold(),  # passed: keep
            verifier=Checks([test]),
            hand_over="last",
            prepare=prepare,
            restore=restore,
        ).compile()
        answer = graph.invoke({"messages": [("human", "Make add() add.")]})["messages"][-1]
        for attempt in route_of(answer)["attempts"]:
            said = (attempt.get("check_outputs") or ["not checked"])[0].splitlines()
            print(f"{attempt['candidate']:6s} ${attempt['cost_usd']:.6f}  {said[0]}  {said[-1]}")
        print(f"{answer.text}  <- {route_of(answer)['candidate']}")


if __name__ == "__main__":
    main()
