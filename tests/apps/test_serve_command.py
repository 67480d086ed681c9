"""`llm-router serve`: saved routers over HTTP."""

import gc
import json
import shutil
import signal

import httpx
import pytest

from langchain_llm_router.apps.cli.page_texts import choose_examples, page_texts, save_examples
from langchain_llm_router.apps.cli.serve_command import serve, spare_collections
from langchain_llm_router.history import read_log, replay_log
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.types.figures import format_usd
from tests.support.local_server import LocalServer
from tests.support.saved_routers import start

pytest.importorskip("typer")

pytest.importorskip("rich")


def pool(server) -> list[str]:
    return [
        text
        for name in ("small", "large")
        for text in ("--candidate", f"{name}=openai:{name}@{server.url}", "--price", f"{name}=1,2")
    ]


def url_of(process) -> str:
    return next(line.split()[-5] for line in process.stderr if "Uvicorn running on" in line)


@pytest.mark.slow
def test_a_saved_router_is_served_and_lets_answers_end_when_told_to_stop(made):
    pytest.importorskip("fastapi")
    with LocalServer(delay_s=0.5) as server:
        process = start("serve", "cascade", "--port", "0", "--samples", "2", *pool(server),
                        cwd=made)  # fmt: skip
        url = url_of(process)
        body = {"model": "router", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}
        with httpx.stream(
            "POST", f"{url}/v1/chat/completions", json={**body, "stream": True}, timeout=60
        ) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            process.send_signal(signal.SIGTERM)
            rest = list(lines)
        assert first.startswith("data: {")
        assert rest[-2:] == ["data: [DONE]", ""]
        process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM)


def test_a_served_router_keeps_a_log_and_lets_a_second_one_decide_beside_it(made):
    pytest.importorskip("fastapi")
    question = "What is 2 + 2?"
    with LocalServer() as server:
        process = start("serve", "cascade", "--port", "0", "--samples", "2", *pool(server),
                        "--log", "served.jsonl", "--shadow", "route", cwd=made)  # fmt: skip
        url = url_of(process)
        body = {"model": "router", "messages": [{"role": "user", "content": question}]}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
        # Who asks on the page is on the books too.
        httpx.post(f"{url}/live/ask", json={"question": question}, timeout=60).raise_for_status()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    history = read_log(made / "served.jsonl")
    assert [entry.query for entry in history.entries] == [question] * 2
    assert history.entries[0].shadow == answer["llm_router"]["shadow"]
    assert answer["llm_router"]["shadow"]["name"] == "route"
    replayed = replay_log(history.entries, SavedRouter.load(made / "cascade").policy)
    assert replayed.n_identical == 2


def test_candidates_with_prices_are_served_without_a_folder(tmp_path):
    pytest.importorskip("fastapi")
    with LocalServer() as server:
        candidates = [text.replace("large=1,2", "large=10,20") for text in pool(server)]
        process = start("serve", "--port", "0", *candidates, cwd=tmp_path)
        url = url_of(process)
        body = {"model": "router", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert answer["llm_router"]["candidate"] in {"small", "large"}
    spent = format_usd(answer["llm_router"]["cost_usd"])
    assert f"Spent {spent} on 1 answers." in err, "said at the end"
    assert "assumed from prices" in json.dumps(answer["llm_router"])
    assert "says little about your questions" in out


def test_the_page_says_the_verdict_that_was_saved_with_the_router(made, tmp_path):
    pytest.importorskip("fastapi")
    assert not any(page_texts(made / "route").values())
    folder = tmp_path / "route"
    shutil.copytree(made / "route", folder)
    told = {"sentence": "41 % cheaper than large."}
    (folder / "verdict.json").write_text(json.dumps(told))
    save_examples(folder, ["What is 2 + 2?"])
    with LocalServer() as server:
        process = start("serve", str(folder), "--port", "0", *pool(server), cwd=made)
        setup = httpx.get(f"{url_of(process)}/live/setup", timeout=60).json()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert setup["verdict"] == told["sentence"]
    assert setup["examples"] == ["What is 2 + 2?"]


@pytest.mark.parametrize("text", ["", "[5]", '"words"', '{"sentence": 5}'])
def test_texts_that_cannot_be_read_are_not_shown(tmp_path, text):
    (tmp_path / "verdict.json").write_text(text)
    (tmp_path / "examples.json").write_text(text)
    assert not any(page_texts(tmp_path).values())


def test_the_examples_are_the_shortest_and_plainest_questions():
    queries = ["bbb", "bbb", "a" * 201, r"\frac", "cc", "ddddd", "eeeeee"]
    assert choose_examples(queries) == ["cc", "bbb", "ddddd", "eeeeee"]


@pytest.mark.parametrize(("patterns", "local"), [(["x"], []), ([], ["a"])])
def test_a_pattern_without_a_local_candidate_is_refused_and_the_other_way_round(patterns, local):
    with pytest.raises(ValueError, match="give both"):
        serve(sensitive_pattern=patterns, local=local, port=0)


def test_the_objects_of_a_hundred_requests_in_progress_start_no_garbage_collection():
    before, default = gc.get_threshold(), 700
    gc.set_threshold(default, 10, 10)
    try:
        spare_collections()
        collections = [generation["collections"] for generation in gc.get_stats()]
        held = [[] for _ in range(15_000)]
        assert [generation["collections"] for generation in gc.get_stats()] == collections
        assert len(held) > 10 * default
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.set_threshold(*before)
