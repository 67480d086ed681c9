"""The commonest mistakes end in one line that says what to do, and with the right exit code."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from langchain_llm_router.apps.cli import serve_command
from tests.support.commands import CODE, environment, run_main
from tests.support.questions import write_questions

pytest.importorskip("typer")
pytest.importorskip("rich")

UNREACHABLE = "a=openai:b@http://127.0.0.1:1/v1"
COLLECT = ("collect", "q.jsonl", "--candidate", UNREACHABLE, "--price", "a=1,2")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    write_questions(tmp_path / "q.jsonl", 3)
    return lambda *arguments: run_main(arguments, monkeypatch, capsys)


def only_line(err: str) -> str:
    (line,) = err.strip().splitlines()
    return line


def test_a_missing_key_is_named_before_anything_is_asked(run, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    code, _, err = run("collect", "q.jsonl", "--candidate", "openai:gpt-4o-mini")
    assert code == 1
    assert only_line(err) == (
        "llm-router: 'openai:gpt-4o-mini' needs a key: set the environment variable "
        "OPENAI_API_KEY, e.g. `export OPENAI_API_KEY=...`."
    )


def test_a_missing_key_of_a_served_router_is_named(run, monkeypatch, tmp_path):
    pytest.importorskip("uvicorn")
    from langchain_llm_router.policies import Always
    from langchain_llm_router.router.saved_router import SavedRouter

    SavedRouter(("gpt-4o",), Always("gpt-4o")).save(tmp_path / "router")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    code, _, err = run("serve", "router", "--candidate", "openai:gpt-4o", "--port", "0")
    assert code == 1
    assert "needs a key: set the environment variable OPENAI_API_KEY" in only_line(err)


def test_a_placeholder_of_a_model_says_that_it_is_one(run):
    code, _, err = run("collect", "q.jsonl", "--candidate", "small=provider:model")
    assert code == 1
    assert "'provider:model' stands for a model of yours: write e.g." in only_line(err)


def test_a_missing_package_of_a_provider_says_what_to_install(run):
    pytest.importorskip("langchain")
    code, _, err = run("collect", "q.jsonl", "--candidate", "cohere:command")
    assert code == 1
    assert "pip install langchain-cohere" in only_line(err)


def test_a_used_port_is_named_before_the_router_is_loaded(run):
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = run("serve", "--port", taken.getsockname()[1])
    assert code == 1
    assert "Address already in use" in only_line(err)


def test_a_port_that_is_taken_during_the_start_ends_in_one_line_too(run, monkeypatch):
    uvicorn = pytest.importorskip("uvicorn")

    def refused(*args, **kwargs):
        raise SystemExit(3)

    monkeypatch.setattr(uvicorn, "run", refused)
    code, _, err = run("serve", "--port", "0")
    assert code == 1
    assert "could not start" in only_line(err)


def test_a_used_port_is_said_once_and_what_to_do(run, monkeypatch):
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        _, _, before = run("serve", "--port", port)
        monkeypatch.setattr(serve_command, "_check_address", lambda host, port: None)
        code, _, during = run("serve", "--port", port)
    assert only_line(before) == (
        f"llm-router: Cannot listen on `--host` '127.0.0.1', `--port` {port}: Address already in "
        "use: choose another `--port`."
    )
    assert code == 1
    for said in (before, during):
        assert said.lower().count("in use") == 1
        assert said.count(str(port)) == 1


def test_a_file_where_a_folder_is_needed_is_named(run, tmp_path):
    (tmp_path / "taken").write_text("")
    code, _, err = run(*COLLECT, "--journal", "taken/run.jsonl")
    assert code == 1
    assert "'taken': a folder is needed there, so choose another path." in only_line(err)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs permissions of POSIX")
def test_a_folder_without_permission_is_named(run, tmp_path):
    run("collect", "missing.jsonl")  # So that nothing is imported without permissions.
    (tmp_path / "locked").mkdir(mode=0o500)
    is_root = os.geteuid() == 0
    if is_root:
        for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
            folder.chmod(0o755)
        os.seteuid(65534)
    try:
        code, _, err = run(*COLLECT, "--journal", "locked/run.jsonl")
    finally:
        if is_root:
            os.seteuid(0)
    assert code == 1
    assert "Permission denied: 'locked/run.jsonl': choose another path" in only_line(err)


def test_an_unknown_grader_is_told_all_that_there_are(run):
    code, _, err = run(*COLLECT, "--grader", "coin")
    assert code == 1
    assert "one of ['exact', 'number', 'choice', 'judge', 'pairwise']" in only_line(err)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has another Ctrl-C")
def test_ctrl_c_during_the_start_ends_in_one_line():
    code = f"import sys; sys.stderr.write('begun\\n'); sys.stderr.flush()\n{CODE}"
    with subprocess.Popen(
        [sys.executable, "-c", code, "demo", "--help"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(),
    ) as started:  # fmt: skip
        assert started.stderr.readline() == "begun\n"
        time.sleep(0.15)
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=60)
    # It may have been through before the signal came.
    assert started.returncode == 130 or "Usage" in out
    assert "Traceback" not in err
