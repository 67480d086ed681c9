"""`llm-router serve`: a router behind OpenAI's HTTP interface."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from langchain_llm_router.apps.cli.parameters import Candidates, Prices, named_pool, verifiers
from langchain_llm_router.types.errors import import_extra

if TYPE_CHECKING:
    from langchain_llm_router.history import DecisionLog
    from langchain_llm_router.router.chat import ChatLLMRouter

__all__ = ["serve"]

_PATIENCE_S = 30


def serve(  # noqa: PLR0913 - a command has as many options as it has
    router: Annotated[Path | None, "Folder of a saved router; none: the demo's."] = None,
    *,
    candidate: Candidates = [],  # noqa: B006
    price: Prices = [],  # noqa: B006
    samples: Annotated[int, "Self-evaluations per draft, as given to `collect`."] = 8,
    host: Annotated[str, "Address to listen on."] = "127.0.0.1",
    port: Annotated[int, "Port to listen on."] = 8080,
    baseline: Annotated[
        str | None, "Candidate the page counts savings against; none: last."
    ] = None,
    log: Annotated[Path | None, "Write every decision here, for `replay` and `refit`."] = None,
    shadow: Annotated[Path | None, "Folder of a second router that decides beside it."] = None,
    cascade: Annotated[bool, "For the demo: its cascade instead of its one-shot route."] = False,
) -> None:
    """Serve a saved router: OpenAI's HTTP interface under /v1, a live page at /, /metrics.

    Without a folder it is the demo's router over its recorded answers. Keys are read from
    LLM_ROUTER_API_KEYS (comma-separated); without it no key is needed. Ctrl-C lets running requests
    finish. A shadow answers nothing: what it would have done is in the log and in the field
    `llm_router`.

    Example: llm-router serve router --candidate small=openai:qwen@http://127.0.0.1:8000/v1
    --candidate openai:gpt-4o

    Example: llm-router serve router --candidate small=openai:qwen --candidate openai:gpt-4o
    --log decisions.jsonl --shadow router2

    Example: llm-router serve --cascade, then open http://127.0.0.1:8080
    """
    uvicorn = import_extra("uvicorn", "serve")
    import_extra("fastapi", "serve")
    from langchain_llm_router.apps.server import create_app  # noqa: PLC0415 - imports what it needs
    from langchain_llm_router.router import Shadow  # noqa: PLC0415 - imports what it needs

    beside = {"log": _opened(log), "shadow": None if shadow is None else Shadow.load(shadow)}
    if router is None:
        served = _demo(cascade=cascade)
    elif cascade:
        msg = f"--cascade is for the demo only; {str(router)!r} has the policy it was fitted with."
        raise ValueError(msg)
    else:
        served = _saved(router, candidate, price, samples)
    served = served.model_copy(update=beside)
    keys = [key for key in os.environ.get("LLM_ROUTER_API_KEYS", "").split(",") if key]
    app = create_app(served, api_keys=keys, baseline=baseline)
    uvicorn.run(app, host=host, port=port, log_level="info", timeout_graceful_shutdown=_PATIENCE_S)


def _opened(path: Path | None) -> DecisionLog | None:
    from langchain_llm_router.history import DecisionLog  # noqa: PLC0415 - imports what it needs

    if path is None:
        return None
    log = DecisionLog(path)
    # A file that cannot be written is reported now, not after the first answer.
    log.touch()
    return log


def _demo(*, cascade: bool) -> ChatLLMRouter:
    from langchain_llm_router.apps.demo import Demo  # noqa: PLC0415 - imports what only it needs

    demo = Demo()
    return demo.cascade_router() if cascade else demo.fit_route().router


def _saved(
    folder: Path, texts: Sequence[str], prices: Sequence[str], samples: int
) -> ChatLLMRouter:
    from langchain_llm_router.router.chat import ChatLLMRouter  # noqa: PLC0415 - imports what it needs
    from langchain_llm_router.router.saved_router import SavedRouter  # noqa: PLC0415 - the same

    names = SavedRouter.load(folder).candidates
    return ChatLLMRouter.load(
        folder, candidates=named_pool(texts, prices, names), verifier=verifiers(samples)
    )
