"""`llm-router serve`: serves a router through OpenAI's HTTP interface."""

from __future__ import annotations

import errno
import gc
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from langchain_llm_router.apps.cli.page_texts import choose_examples, page_texts
from langchain_llm_router.apps.cli.parameters import (
    CandidatesOption,
    PricesOption,
    build_verifiers,
    parse_pool,
)
from langchain_llm_router.apps.cli.terminal import write_text
from langchain_llm_router.types.errors import LlmRouterError, import_extra

if TYPE_CHECKING:
    from langchain_llm_router.history import DecisionLog
    from langchain_llm_router.loop.sensitive import Sensitive
    from langchain_llm_router.router.chat import ChatLLMRouter

__all__ = ["serve", "spare_collections"]

_SHUTDOWN_TIMEOUT_S = 30
_KEYS_VARIABLE = "LLM_ROUTER_API_KEYS"
_ALL_INTERFACES = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not listened on
# Larger than the server's own limits, so that its error says what is allowed.
_MAX_HEAD_BYTES = 131_072
_OBJECTS_BETWEEN_COLLECTIONS = 20_000


def serve(  # noqa: PLR0913 - each option is a parameter
    router: Annotated[
        Path | None, "Folder of a saved router; without it and candidates, the demo's."
    ] = None,
    *,
    candidate: CandidatesOption = [],  # noqa: B006
    price: PricesOption = [],  # noqa: B006
    samples: Annotated[
        int | None, "Number of self-evaluations per draft; by default as in `collect`."
    ] = None,
    other_verifier: Annotated[
        bool, "Serve also where the verifier is another one than the router was fitted with."
    ] = False,
    host: Annotated[str, "Address to listen on."] = "127.0.0.1",
    port: Annotated[int, "Port to listen on."] = 8080,
    baseline: Annotated[
        str | None, "Candidate that savings are computed against; by default the last."
    ] = None,
    log: Annotated[Path | None, "File for all decisions, for `replay` and `refit`."] = None,
    shadow: Annotated[Path | None, "Folder of a router whose decisions are only recorded."] = None,
    judge_share: Annotated[
        float, "Share of the answers that the dearest candidate judges afterwards; needs --log."
    ] = 0.0,
    out: Annotated[
        Path | None, "Folder to save a router made of candidates alone, for `refit`."
    ] = None,
    cascade: Annotated[bool, "Serve the demo's cascade instead of its one-shot route."] = False,
    allow_host: Annotated[
        list[str], "A host name, beside the loopback ones, under which to serve; repeatable."
    ] = [],  # noqa: B006
    sensitive_pattern: Annotated[
        list[str], "A regular expression of what only --local candidates may see; repeatable."
    ] = [],  # noqa: B006
    local: Annotated[list[str], "A candidate that may see sensitive requests; repeatable."] = [],  # noqa: B006
) -> None:
    """Serve a saved router: OpenAI's HTTP interface under /v1, a live page at /, /metrics.

    Without a folder, two or more candidates with prices are served by a router that was fitted on
    nothing: it compares short answers of cheap candidates. Without candidates either, the demo's
    router and its recorded answers are served. API keys are read from
    LLM_ROUTER_API_KEYS (comma-separated); without it no key is needed. Other machines must use the
    name given by --host or --allow-host. After Ctrl-C, running requests may finish. A shadow's
    decisions are in the log and in the field `llm_router`.

    Example: llm-router serve router --candidate small=openai:qwen@http://127.0.0.1:8000/v1
    --candidate openai:gpt-4o

    Example: llm-router serve router --candidate small=openai:qwen --candidate openai:gpt-4o
    --log decisions.jsonl --shadow router2

    Example: llm-router serve --candidate small=openai:gpt-4o-mini --candidate large=openai:gpt-4o
    --price small=0.15,0.6 --price large=2.5,10 --log decisions.jsonl --judge-share 0.02

    Example: llm-router serve --candidate local=openai:qwen@http://127.0.0.1:8000/v1 --candidate
    openai:gpt-4o --price local=0,0 --sensitive-pattern "[0-9]{3}-[0-9]{2}-[0-9]{4}" --local local

    Example: llm-router serve --cascade, then open http://127.0.0.1:8080
    """
    uvicorn = import_extra("uvicorn", "serve")
    import_extra("fastapi", "serve")
    from langchain_llm_router.apps.server import create_app  # noqa: PLC0415 - imports what it needs
    from langchain_llm_router.router import Shadow  # noqa: PLC0415 - imports what it needs

    keys = _read_keys()
    _check_address(host, port)
    update: dict[str, Any] = {
        "log": _open_log(log),
        "shadow": None if shadow is None else Shadow.load(shadow),
        "judge_share": judge_share,
    }
    sensitive = _read_sensitive(sensitive_pattern, local)
    if cascade and (router is not None or candidate):
        named = (
            f"the router {str(router)!r}" if router is not None else f"the candidates {candidate}"
        )
        msg = f"`--cascade` must be omitted, because it is for the demo, with {named}."
        raise ValueError(msg)
    if out is not None and (router is not None or not candidate):
        msg = f"`--out` must be omitted with a saved router and with the demo, got {str(out)!r}."
        raise ValueError(msg)
    if router is None and (candidate or price):
        served, texts = _make_unfitted(candidate, price, out, sensitive)
    elif router is None:
        served, texts = _load_demo(cascade=cascade)
    else:
        served = _load_saved(router, candidate, price, samples, check_verifier=not other_verifier)
        texts = page_texts(router)
    if sensitive is not None:
        update["sensitive"] = _replace_rule(served.sensitive, sensitive)
    served = served.model_copy(update=update)
    hosts = [*allow_host, *([] if host in _ALL_INTERFACES else [host])]
    app = create_app(served, api_keys=keys, baseline=baseline, allowed_hosts=hosts, **texts)
    spare_collections()
    try:
        uvicorn.run(
            app,
            host=host,
            port=port,
            log_level="info",
            timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT_S,
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
        )
    except SystemExit as end:
        if end.code in (None, 0):
            raise
        # What failed was printed by uvicorn, e.g. that another server took the port meanwhile.
        msg = f"The server could not start, or failed (uvicorn's exit code {end.code}): see above."
        raise LlmRouterError(msg) from end


def spare_collections() -> None:
    """Make garbage collections rare and short from now on, because every stream waits for them.

    What is loaded, some hundred thousand objects, is left out of them. The others are a hundred
    for each request in progress, which leave no cycles behind: by default, a few more requests
    than before would let all of them be looked through, which takes milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)


def _check_address(host: str, port: int) -> None:
    """Refuse an address that cannot be served, before anything is loaded.

    Raises:
        OSError: If the host is not one of this machine, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        # Python adds the address to the system's words, which the sentence has already.
        said = str(error.strerror or error).partition(" (while attempting")[0]
        advice = ": choose another `--port`" if error.errno == errno.EADDRINUSE else ""
        msg = f"Cannot listen on `--host` {host!r}, `--port` {port}: {said}{advice}."
        raise OSError(msg) from error


def _read_keys() -> list[str] | None:
    """Return the accepted keys; None if the variable is not set, so that no key is needed.

    Raises:
        ValueError: If it is set and has no key, e.g. because a secret was not filled in.
    """
    text = os.environ.get(_KEYS_VARIABLE)
    if text is None:
        return None
    keys = [key.strip() for key in text.split(",") if key.strip()]
    if not keys:
        msg = (
            f"{_KEYS_VARIABLE} is set but has no key, got {text!r}: give it comma-separated keys, "
            "or unset it if callers need none."
        )
        raise ValueError(msg)
    return keys


def _read_sensitive(patterns: Sequence[str], local: Sequence[str]) -> Sensitive | None:
    """Return the rule on sensitive requests; None if there is none.

    Raises:
        ValueError: If there are expressions without candidates, or candidates without expressions.
    """
    from langchain_llm_router.loop.sensitive import Sensitive  # noqa: PLC0415 - imports messages

    if bool(patterns) != bool(local):
        msg = (
            "`--sensitive-pattern` says what is sensitive and `--local` who may see it: give both, "
            f"got {list(patterns)} and {list(local)}."
        )
        raise ValueError(msg)
    return Sensitive(list(patterns), candidates=list(local)) if patterns else None


def _replace_rule(saved: Sensitive | None, given: Sensitive) -> Sensitive:
    """Return the rule that was given.

    Raises:
        ValueError: If the router was saved with another rule.
    """
    if saved is not None and saved.data() != given.data():
        msg = (
            f"The router was saved with the rule {saved.rule!r} on sensitive requests, for "
            f"{list(saved.candidates)}: omit `--sensitive-pattern` and `--local`."
        )
        raise ValueError(msg)
    return given


def _open_log(path: Path | None) -> DecisionLog | None:
    from langchain_llm_router.history import DecisionLog  # noqa: PLC0415 - imports what it needs

    if path is None:
        return None
    log = DecisionLog(path)
    # Created now, so that a file that cannot be written is reported before the first answer.
    log.touch()
    return log


def _load_demo(*, cascade: bool) -> tuple[ChatLLMRouter, dict[str, Any]]:
    from langchain_llm_router.apps.demo import Demo  # noqa: PLC0415 - imports what only it needs

    demo = Demo()
    router = demo.cascade_router() if cascade else demo.fit_route().router
    # Its models only know the recorded questions.
    return router, {"examples": choose_examples(demo.unseen.queries)}


def _make_unfitted(
    texts: Sequence[str], prices: Sequence[str], out: Path | None, sensitive: Sensitive | None
) -> tuple[ChatLLMRouter, dict[str, Any]]:
    from langchain_llm_router.router.chat import ChatLLMRouter  # noqa: PLC0415 - imports what it needs
    from langchain_llm_router.router.default_pool import describe_pool, save_pool  # noqa: PLC0415 - the same

    router = ChatLLMRouter(candidates=parse_pool(texts, prices, ()))
    if out is not None:
        save_pool(router.parts.candidates, out, sensitive)
    told = describe_pool(router.parts.policy)
    write_text(told)
    return router, {"verdict": told}


def _load_saved(
    folder: Path,
    texts: Sequence[str],
    prices: Sequence[str],
    samples: int | None,
    *,
    check_verifier: bool,
) -> ChatLLMRouter:
    from langchain_llm_router.router.chat import ChatLLMRouter  # noqa: PLC0415 - imports what it needs
    from langchain_llm_router.router.saved_router import SavedRouter  # noqa: PLC0415 - the same

    saved = SavedRouter.load(folder)
    described = samples is None and saved.verifier_description is not None
    return ChatLLMRouter.load(
        folder,
        candidates=parse_pool(texts, prices, saved.candidates),
        verifier=None if described else build_verifiers(8 if samples is None else samples),
        check_verifier=check_verifier,
    )
