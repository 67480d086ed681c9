"""Every example runs as it stands: offline, quickly, and short enough to read."""

import json
import os
import runpy
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.support.paths import EXAMPLES

SCRIPTS = sorted(EXAMPLES.glob("*.py"))
SERVED = EXAMPLES / "langgraph_dev"

SAYS = {
    "budgets": "ann: small for $0.00001",
    "feedback_refit": "after   quality",
    "serving": "why large: P(good) 0.000",
    "streaming": "The capital of Ecuador is Quito.\nby large for $",
    "agent_cascade": "It adds now.  <- strong",
    "agent": "with the middleware: Lima: 18 degrees, cloudy.  <- large",
    "extend": "are good enough",
    "cascade": "of 40 drafts; the others went to claude-3.5-sonnet",
    "human_in_the_loop": "approved: True  ->  answered by claude-3.5-sonnet",
    "local_models": "unseen questions right, and kept",
    "nodes": "{'self_evaluate': '__main__.trust_plain_numbers'",
    "ratings": "Debug my gentle parser: strong (win rate of strong",
    "rag": "From pier three, every 40 min.  <- large",
    "route": "pinned to gpt-4o-mini",
    "routing_edge": "'claude-3.5-sonnet': 28}",
    "testing": "4 tests passed",
    "tradeoff": "always claude-3.5-sonnet",
    "train": "saved, loaded, predicts the same: True",
}


@pytest.fixture
def _offline(monkeypatch):
    def refuse(self, address, *rest):
        msg = f"an example wants to reach {address!r}"
        raise AssertionError(msg)

    # Nothing may leave the process, whatever the machine's settings are.
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    monkeypatch.chdir(EXAMPLES.parent)


@pytest.mark.usefixtures("_offline")
@pytest.mark.parametrize(
    "script",
    [
        # It collects and fits: the longest of them by far.
        pytest.param(path, marks=pytest.mark.slow if path.stem == "local_models" else ())
        for path in SCRIPTS
    ],
    ids=lambda path: path.stem,
)
def test_an_example_runs_offline(script, capsys):
    # In this process, since importing LangChain takes longer than the examples do.
    runpy.run_path(str(script), run_name="__main__")
    assert SAYS[script.stem] in capsys.readouterr().out


@pytest.mark.usefixtures("_offline")
def test_the_notebook_runs_offline_from_start_to_end(capsys):
    matplotlib = pytest.importorskip(
        "matplotlib", reason="matplotlib (extra `plot`) is not installed"
    )
    matplotlib.use("Agg")
    notebook = json.loads((EXAMPLES / "walkthrough.ipynb").read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            lines = "".join(cell["source"]).splitlines()
            source = "\n".join(line for line in lines if not line.startswith("%"))
            exec(compile(source, cell["id"], "exec"), names)
    assert "promised with confidence 0.95" in capsys.readouterr().out


@pytest.mark.parametrize("script", [*SCRIPTS, SERVED / "graph.py"], ids=lambda path: path.stem)
def test_an_example_is_short_and_says_which_line_to_change(script):
    lines = script.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 80
    assert (
        sum(line.startswith(("# With real keys:", "# With your own data:")) for line in lines) == 1
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def post(url: str, body: dict) -> bytes:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return reply.read()


@pytest.fixture
def server(tmp_path):
    pytest.importorskip("langgraph_cli", reason="langgraph-cli is not installed")
    pytest.importorskip("langgraph_api", reason="langgraph-cli is there without its `inmem` extra")
    # The server writes beside the graph, so it gets a copy.
    for path in SERVED.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    port = free_port()
    code = "from langgraph_cli.cli import cli; cli()"
    log = tmp_path / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "dev", "--no-browser", "--no-reload",
             "--host", "127.0.0.1", "--port", str(port)],
            cwd=tmp_path, stdout=out, stderr=out,
            env={**os.environ, "LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1",
                 "PYTHONPATH": str(EXAMPLES.parent)},
        )  # fmt: skip
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ok", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.slow
def test_langgraphs_server_answers_and_streams(server):
    from langchain_llm_router.data import ZeroEval

    question = ZeroEval.load().outcomes.queries[3]
    asked = {
        "assistant_id": "cascade",
        "input": {"messages": [{"role": "user", "content": question}]},
    }
    state = json.loads(post(f"{server}/runs/wait", asked))
    answer = state["messages"][-1]
    assert answer["content"]
    assert answer["response_metadata"]["llm_router"]["steps"][-1]["action"] == "accept"
    streamed = post(f"{server}/runs/stream", {**asked, "stream_mode": ["custom", "messages-tuple"]})
    events = [line for line in streamed.decode().splitlines() if line.startswith("event:")]
    assert "event: custom" in events
    assert "event: messages" in events
    assert b'"event":"verdict"' in streamed.replace(b" ", b"")
