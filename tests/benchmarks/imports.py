"""What importing the package costs, against the least that a chat model and a graph must import.

    python tests/benchmarks/imports.py --json

Every figure is the CPU time of a fresh process from its start to its end, the best of three, and
all are taken in turns, so that what the machine is otherwise busy with hits all alike. One run of
each goes before, so that no file is compiled while it is timed.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from rich.progress import Progress

ROOT = Path(__file__).resolve().parents[2]

CHAT_MODELS = "import langchain_core.language_models.chat_models"
FRONT_DOOR = "from langchain_llm_router import Candidate, ChatLLMRouter"
LANGGRAPH = "import langgraph.graph"
CASCADE = """
from langchain_core.language_models import FakeListChatModel
from langchain_llm_router import Candidate, create_cascade
from langchain_llm_router.policies import Always
pool = [Candidate(name, FakeListChatModel(responses=["Yes."])) for name in ("small", "large")]
create_cascade(pool, policy=Always("small")).compile()
"""
COMMANDS = (
    "demo", "collect", "fit", "calibrate", "evaluate", "explain", "replay", "feedback", "refit",
    "plot", "serve",
)  # fmt: skip


def command_line(*words: str) -> list[str]:
    """A run of `llm-router`, as its console script runs it."""
    run = "from langchain_llm_router.apps.cli import main; main()"
    return [sys.executable, "-c", run, *words]


def cpu_s(command: list[str]) -> float:
    """CPU seconds of a process and of all its threads, user and system."""
    compiled = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=compiled | {"LANGSMITH_TRACING": "false"}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command} failed"
    return usage.ru_utime + usage.ru_stime


def best_in_turns(commands: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """The least CPU time of each command."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    with Progress(disable=None) as progress:
        bar = progress.add_task("importing", total=(rounds + 1) * len(commands))
        for turn in range(rounds + 1):
            for name, command in commands.items():
                taken = cpu_s(command)
                if turn > 0:
                    seconds[name].append(taken)
                progress.advance(bar)
    return {name: min(taken) for name, taken in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many counts")
    args = parser.parse_args()
    codes = {
        "chat_models": CHAT_MODELS,
        "front_door": FRONT_DOOR,
        "langgraph": LANGGRAPH,
        "cascade": CASCADE,
    }
    commands = {name: [sys.executable, "-c", code] for name, code in codes.items()}
    commands["help"] = command_line("--help")
    commands |= {f"{name} --help": command_line(name, "--help") for name in COMMANDS}
    cpu = best_in_turns(commands, args.rounds)
    slowest = max(COMMANDS, key=lambda name: cpu[f"{name} --help"])
    result = {
        "rounds": args.rounds,
        "chat_models_s": cpu["chat_models"],
        "front_door_s": cpu["front_door"],
        "front_door_over_chat_models": cpu["front_door"] / cpu["chat_models"],
        "langgraph_s": cpu["langgraph"],
        "cascade_s": cpu["cascade"],
        "cascade_over_langgraph_and_front_door": cpu["cascade"]
        / (cpu["langgraph"] + cpu["front_door"]),
        "help_s": cpu["help"],
        "slowest_command": slowest,
        "slowest_command_help_s": cpu[f"{slowest} --help"],
    }
    result = {k: round(v, 3) if isinstance(v, float) else v for k, v in result.items()}
    for name, value in result.items():
        print(f"{name:40s} {value}", file=sys.stderr)
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
