"""Where real local models answer, for the tests marked `local_llm`.

Start the servers with `tests/support/local_models/serve.sh DIR`, or name others in
`LLM_ROUTER_LOCAL_SERVERS`, e.g. `qwen2.5-coder-0.5b@8102,qwen2.5-coder-1.5b@8103`, from weak to
strong.
"""

import os
from typing import Any

import httpx
import pytest
from langchain_core.language_models import BaseChatModel

from langchain_llm_router import Candidate, Price

SERVERS = os.environ.get(
    "LLM_ROUTER_LOCAL_SERVERS", "qwen2.5-coder-0.5b@8102,qwen2.5-coder-1.5b@8103"
)


def served(kind: type[BaseChatModel] | None = None, **settings: Any) -> list[Candidate]:
    """The models that are served; skips the test, saying why, where one does not answer."""
    from langchain_openai import ChatOpenAI

    kind = ChatOpenAI if kind is None else kind
    found = []
    for entry in SERVERS.split(","):
        name, port = entry.split("@")
        url = f"http://127.0.0.1:{port}"
        try:
            httpx.get(f"{url}/health", timeout=5).raise_for_status()
        except httpx.HTTPError:
            pytest.skip(f"no local model answers at {url}")
        model = kind(
            model=name,
            base_url=f"{url}/v1",
            api_key="none",
            # Other servers than OpenAI's are asked for no usage in streams otherwise.
            stream_usage=True,
            # No connection may outlive the event loop that opened it.
            http_async_client=httpx.AsyncClient(
                limits=httpx.Limits(max_keepalive_connections=0), timeout=300
            ),
            **settings,
        )
        found.append(Candidate(name, model, Price(0.1, 0.1)))
    return found
