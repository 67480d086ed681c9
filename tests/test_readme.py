"""What the README shows runs as pasted: each block in an interpreter or a shell of its own.

The models are real clients against a server on loopback, which adds and multiplies.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from langchain_llm_router.apps.cli.app import build_app
from tests.support.commands import CODE, environment
from tests.support.fake_openai import FakeOpenAI
from tests.support.forks import run_forked
from tests.support.paths import ROOT
from tests.support.questions import write_arithmetic

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BENCHMARKS = ROOT / "tests" / "benchmarks" / "README.md"

NOT_RUN = {
    'pip install -e ".[demo]"': "it is installed",
    "llm-router demo": "tests/apps/test_demo.py runs it",
    'pip install -e ".[dev]" && pytest': "it is what runs this",
}
NEEDS = {"langchain": "agents"}
"""Extras of the core's blocks, by the module that they import."""


def blocks(language: str) -> list[str]:
    """Every block of the language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


class Arithmetic(FakeOpenAI):
    """Answers with numbers; the small model multiplies wrong, and doubts what it multiplied."""

    def reply(self, body: dict[str, Any]) -> str:
        said = str(body["messages"][-1]["content"])
        words = " ".join(str(message["content"]) for message in body["messages"])
        found = re.search(r"What is (\d+) (plus|times) (\d+)\?", words)
        if found is None or "response_format" in body:
            return super().reply(body)
        a, how, b = int(found[1]), found[2], int(found[3])
        if not said.startswith("What is"):
            return "Yes" if how == "plus" else "No"
        wrong = how == "times" and body["model"].endswith("mini")
        return f"The answer is {(a + b if how == 'plus' else a * b) + wrong}."


STRICT = "import warnings; warnings.simplefilter('error')\n"


def test_every_python_block_runs_by_itself(tmp_path):
    code = [block for block in blocks("python") if "http://127.0.0.1:8080" not in block]
    assert len(code) >= 6
    missing = {
        name: extra for name, extra in NEEDS.items() if find_spec(name.split(".")[0]) is None
    }
    runs = [block for block in code if not any(f"from {name}." in block for name in missing)]
    with FakeOpenAI() as openai:
        for i, block in enumerate(runs):
            folder = tmp_path / str(i)
            folder.mkdir()
            done = run_forked(STRICT + block, cwd=folder, OPENAI_BASE_URL=openai.url)
            assert done.returncode == 0, f"{block}\n{done.stderr}"
    assert len(openai.requests) >= 5
    if missing:
        pytest.skip(f"one block needs the extra {', '.join(missing.values())}")


# Pasted, a command that is refused does not stop the next; only verdicts may be other than 0.
WATCHED = """
end() { [ $1 = 3 ] || [ $1 = 4 ] || { echo "exit $1: $BASH_COMMAND" >&2; exit $1; }; }
trap 'end $?' ERR
pip() { :; }
"""


class Shell:
    """A folder in which blocks are pasted into bash, with `llm-router` on the path."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        command = folder / "bin" / "llm-router"
        command.parent.mkdir()
        command.write_text(f"#!{sys.executable}\n{CODE}\n", encoding="utf-8")
        command.chmod(0o755)
        path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = environment(OPENAI_BASE_URL=url, PATH=path, COLUMNS="200")

    def start(self, block: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-c", WATCHED + block], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def paste(self, block: str) -> str:
        process = self.start(block)
        out, err = process.communicate(timeout=500)
        assert process.returncode in {0, 3, 4}, f"{block}\n{out}\n{err}"
        return out


@pytest.fixture
def shell(tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    for module, extra in (("typer", "cli"), ("matplotlib", "plot"), ("fastapi", "serve")):
        pytest.importorskip(module, reason=f"{module} (extra `{extra}`) is not installed")
    with Arithmetic() as openai:
        yield Shell(tmp_path, openai.url)


def shell_blocks() -> list[str]:
    return [block for block in blocks("bash") if block.strip() not in NOT_RUN]


@pytest.mark.slow
def test_the_blocks_of_commands_lead_from_questions_to_a_served_answer(shell):
    write_arithmetic(shell.folder / "q.jsonl", 240, seed=0)
    write_arithmetic(shell.folder / "more.jsonl", 240, seed=1)
    fitting, trying, serving = shell_blocks()[:3]
    assert "is kept with 95 % confidence" in shell.paste(fitting)
    shell.paste(trying)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    process = shell.start(serving.rstrip() + f" --port {port}\n")
    try:
        wait_for(int(port), process)
        [asking] = [block for block in blocks("python") if "http://127.0.0.1:8080" in block]
        done = subprocess.run(
            [sys.executable, "-c", asking.replace("8080", port)], capture_output=True, text=True,
            timeout=120, check=False, env=shell.environment,
        )  # fmt: skip
        assert done.stdout.startswith("The answer is 42. "), done.stderr
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)


def wait_for(port: int, process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        assert process.poll() is None, process.communicate()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("the server does not answer")


@pytest.mark.slow
def test_the_block_of_commands_for_logs_runs(shell):
    lines = []
    for i in range(30):
        question = {"role": "user", "content": f"What is {i} plus {i}?"}
        answer = {"index": 0, "message": {"role": "assistant", "content": f"{2 * i}"}}
        request = {"model": "gpt-4o", "messages": [question]}
        response = {"model": "gpt-4o-2024-08-06", "choices": [answer], "usage":
                    {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}}  # fmt: skip
        lines.append(json.dumps({"request": request, "response": response}) + "\n")
    (shell.folder / "requests.jsonl").write_text("".join(lines), encoding="utf-8")
    [block] = shell_blocks()[3:]
    assert "large" in shell.paste(block)


def commands_in_sentences() -> list[str]:
    """Each command of the text that has arguments, without those that are cut short by dots."""
    found = re.findall(r"`llm-router ([^`]+)`", TEXT)
    return [one for one in found if len(shlex.split(one)) > 1 and "..." not in one]


def test_the_commands_in_sentences_have_the_arguments_they_need():
    for module in ("typer", "rich"):
        pytest.importorskip(module, reason=f"{module} (extra `cli`) is not installed")
    typer = import_module("typer.main")
    group = typer.get_command(build_app())
    assert len(commands_in_sentences()) >= 4
    for command in commands_in_sentences():
        name, *arguments = shlex.split(command)
        # Raises what the command line would print.
        group.commands[name].make_context(name, arguments)


def test_no_comment_in_a_block_of_commands_reaches_a_shell_that_takes_it_for_arguments():
    assert not [line for block in blocks("bash") for line in block.splitlines() if "#" in line]


@pytest.mark.parametrize("path", [ROOT / "README.md", BENCHMARKS], ids=["package", "benchmarks"])
def test_what_the_readme_links_to_is_there(path):
    text = path.read_text(encoding="utf-8")
    pages = {path: text}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, section = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), target
        if section:
            pages.setdefault(file, file.read_text(encoding="utf-8"))
            heads = re.findall(r"^#+ (.*)$", pages[file], flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
            assert section in anchors, target


def test_the_commands_beside_figures_are_there():
    for text in (TEXT, BENCHMARKS.read_text(encoding="utf-8")):
        for name in re.findall(r"tests/benchmarks/(\w+\.py)", text):
            assert (BENCHMARKS.parent / name).exists(), name
    expected = TEXT.split("## What to expect")[1].split("## Eight words")[0]
    for name in re.findall(r"`(\w+\.py)`", expected):
        assert (BENCHMARKS.parent / name).exists(), name


def test_the_readme_names_every_dependency_of_the_core():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [re.split(r"[<>=~! ]", one)[0] for one in project["dependencies"]]
    (sentence,) = re.findall(r"^The core needs ([^.]*)\.", TEXT, flags=re.MULTILINE)
    assert re.split(r", | and ", sentence) == needed


def test_the_first_screen_has_the_picture_the_install_line_code_without_a_key_and_two_commands():
    begin = "\n".join(TEXT.splitlines()[:40])
    order = [
        "](examples/pictures/",
        "```bash\npip install",
        "```python",
        "```bash\nllm-router demo",
    ]
    places = [begin.find(text) for text in order]
    assert -1 not in places
    assert places == sorted(places)
    (code,) = re.findall(r"^```python\n(.*?)^```", begin, flags=re.MULTILINE | re.DOTALL)
    assert code.rstrip() in "\n".join(blocks("python"))
    assert len([line for line in code.splitlines() if line]) <= 6
    assert "openai" not in code, "no key is needed"
    assert begin.count("```bash") == 3
