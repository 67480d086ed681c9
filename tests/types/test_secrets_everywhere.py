"""Keys are found wherever a candidate was made, and hidden wherever it is reported."""

import json

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage

from langchain_llm_router import ChatLLMRouter
from langchain_llm_router.collect import parse_candidates
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.live import PriceFeed
from langchain_llm_router.policies import Always, Utility
from langchain_llm_router.router.chat import route_of
from langchain_llm_router.router.shadow import Shadow, ShadowOperation
from langchain_llm_router.types import Arm, Situation
from langchain_llm_router.types.secrets import find_secrets, redact
from langchain_llm_router.verification import AnswerGroups, Checks
from tests.support.fakes import ScriptedModel, make_outcomes
from tests.support.verifying import case, run

KEY = "corp9f8e7d6c5b4a3210"


@pytest.mark.parametrize("spec", ["s=openai:m@http://127.0.0.1:9/v1", "s=openai:m"])
def test_a_key_of_the_environment_is_found_in_a_candidate_of_the_command_line(spec, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (candidate,) = parse_candidates([spec])
    monkeypatch.delenv("OPENAI_API_KEY")
    assert KEY in find_secrets(candidate.model)


def test_the_password_of_a_base_url_is_found_in_every_spelling(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    url = "http://ann:hunter%2F2hunter@127.0.0.1:9/v1"
    (candidate,) = parse_candidates([f"s=openai:m@{url}"])
    secrets = find_secrets(candidate.model)
    assert {"hunter%2F2hunter", "hunter/2hunter"} <= set(secrets)
    assert "hunter" not in redact(f"{url} said: wrong password hunter/2hunter", secrets)


def test_a_wrong_candidate_of_the_command_line_is_refused_without_its_password():
    with pytest.raises(ValueError, match="must be written as") as refused:
        parse_candidates(["openai@http://ann:hunter2hunter@h/v1"])
    assert "hunter2" not in str(refused.value)


def test_a_key_that_a_function_returned_to_the_client_is_found():
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="m", api_key=lambda: KEY, base_url="http://127.0.0.1:9/v1")
    model.root_client._refresh_api_key()
    assert KEY in find_secrets(model)


def test_a_key_of_the_environment_that_a_provider_repeats_is_in_no_record(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", KEY)
    monkeypatch.setenv("SHORT_API_KEY", "none")
    failing = ScriptedModel(ValueError(f"Incorrect key: {KEY}"))
    router = ChatLLMRouter(candidates=[failing], policy=Always("scripted"))
    with pytest.raises(ValueError, match="Incorrect key") as failed:
        router.invoke("hi")
    assert KEY not in repr(failed.value)
    fine = ChatLLMRouter(candidates=[ScriptedModel("none")], policy=Always("scripted"))
    assert "none" in fine.invoke("hi").content
    assert KEY not in json.dumps(route_of(fine.invoke("hi")))


class LeakyEmbeddings(Embeddings):
    """Embeddings of a service that repeats the key which it refuses."""

    def embed_documents(self, texts):
        raise RuntimeError(f"401: {KEY} is no key")

    def embed_query(self, text):
        return self.embed_documents([text])[0]


def refuse_key(case):
    raise RuntimeError(f"401: {KEY} is no key")


@pytest.mark.parametrize(
    "verifier", [Checks([refuse_key]), AnswerGroups(LeakyEmbeddings(), threshold=0.5)]
)
def test_a_verifier_that_fails_repeats_no_key(verifier, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", KEY)
    evaluation, _ = run(verifier, case("words " * 99, earlier=((0, AIMessage("other " * 99)),)))
    (error,) = evaluation.errors
    assert error.startswith("RuntimeError: 401")
    assert KEY not in error


def test_a_shadow_and_a_feed_that_fail_repeat_no_key(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", KEY)

    class Broken(NearestNeighbors):
        def _predict(self, queries):
            refuse_key(None)

    shadow = Shadow(Utility(), Broken(n_neighbors=3).fit(make_outcomes()))
    failed = ShadowOperation(shadow, [Situation("q", (Arm("small"),))], []).perform()
    assert failed["error"].startswith("RuntimeError: 401")
    assert KEY not in failed["error"]
    feed = PriceFeed(lambda: refuse_key(None))
    assert not feed.refresh()
    assert feed.last_error.startswith("RuntimeError: 401")
    assert KEY not in feed.last_error


@pytest.mark.parametrize(
    "url", ["https://u:p@ss@h/x", "redis://:secret99@h", "https://token99@h/x"]
)
def test_the_user_of_a_url_is_hidden_whatever_its_form(url):
    clean = redact(url)
    assert clean.startswith(url.partition("://")[0] + "://[redacted]@h")
