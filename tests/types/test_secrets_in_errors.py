"""Keys that errors hold, however they hold them, and keys that models hold without saying so."""

import base64
import json
import traceback
from urllib.parse import quote

import httpx
import pytest
from pydantic import Field, SecretStr

from langchain_llm_router.types.secrets import find_secrets, redact, redact_error
from tests.support.fakes import ScriptedModel

KEY = "corp9f8e7d6c5b4a3210"


class Detailed(Exception):
    def __init__(self, detail: object) -> None:
        self.detail = detail

    def __str__(self) -> str:
        return f"failed: {self.detail}"


def noted() -> Exception:
    error = ValueError("no")
    error.add_note(f"the key was {KEY}")
    return error


def caused() -> Exception:
    error = RuntimeError("no")
    error.__cause__, error.__context__ = KeyError(KEY), ValueError(KEY)
    error.__cause__.__cause__ = error
    return error


@pytest.mark.parametrize(
    "error",
    [Detailed(KEY), Detailed({"a": [(KEY,)]}), Detailed(KEY.encode()), noted(), caused(),
     ValueError({KEY: 1}, [KEY], (KEY,), KEY.encode()), ExceptionGroup("no", [ValueError(KEY)])],
    ids=["own", "nested", "bytes", "note", "causes", "arguments", "group"],
)  # fmt: skip
def test_no_form_of_an_error_shows_a_key(error):
    redact_error(error, (KEY,))
    assert KEY not in "".join(traceback.format_exception(error))
    assert KEY not in str(error)


class Plain(ScriptedModel):
    api_key: str = ""
    hub_api_token: str = ""
    model_kwargs: dict[str, object] = Field(default_factory=dict)
    profile_name: str = "default-profile"
    max_tokens_key_limit: str = "unlimited"


@pytest.mark.parametrize(
    "fields",
    [{"api_key": KEY}, {"hub_api_token": KEY}, {"model_kwargs": {"api-key": KEY}},
     {"model_kwargs": {"extra_headers": {"X-Team": f"Bearer {KEY}"}}},
     {"model_kwargs": {"base_url": f"https://h/v1?subscription-key={KEY}"}},
     {"model_kwargs": {"http_client": httpx.Client(headers={"x-api-key": KEY})}},
     {"model_kwargs": {"http_client": httpx.Client(auth=("ann", KEY))}}],
)  # fmt: skip
def test_a_key_is_found_by_the_name_that_it_has(fields):
    assert KEY in find_secrets(Plain("x", **fields))


def test_what_only_sounds_like_a_secret_is_left_alone():
    assert not {"default-profile", "unlimited"} & {*find_secrets(Plain("x"))}


class Odd(ScriptedModel):
    its_key: SecretStr = SecretStr('k"ey\\with/sl+ash=12345')


def to_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("write", [json.dumps, lambda key: quote(key, safe=""), to_base64])
def test_a_key_is_hidden_in_the_forms_in_which_it_is_sent(write):
    model = Odd("x")
    said = f"bad key: {write(model.its_key.get_secret_value())}"
    assert "ash" not in redact(said, find_secrets(model))
    assert "[redacted]" in redact(said, find_secrets(model))


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "OPENAI_KEY", "AWS_SESSION_TOKEN", "LLM_ROUTER_API_KEYS",
             "AWS_BEARER_TOKEN_BEDROCK", "DB_PASSWORD", "AZURE_CLIENT_SECRET"],
)  # fmt: skip
def test_keys_of_the_environment_are_found_under_usual_names(name, monkeypatch):
    monkeypatch.setenv(name, f"{KEY},{KEY}second")
    assert {KEY, f"{KEY}second"} <= {*find_secrets(ScriptedModel("x"))}


@pytest.mark.parametrize(
    "text",
    ["github_pat_11ABCDEFG0abcdefghijkl", "xoxb-1234567890-abcdefghijkl", "?sig=abcdef01234567",
     "aws_secret_access_key=wJalrXUtnFEMI/K7MDENG", 'api_key": "abcdef0123456789',
     "x-api-key: abcdef0123456789", "ya29.a0AfH6SMBxxxxxxxxxxxxxxx"],
)  # fmt: skip
def test_more_forms_of_keys_are_known(text):
    assert "[redacted]" in redact(text)
