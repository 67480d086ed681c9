"""The live page: ask a question, watch the steps, and see how the choice depends on λ."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from importlib.resources import files
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse
from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel, Field

from langchain_llm_router.apps.server.bodies import to_json
from langchain_llm_router.apps.server.counters import Counters
from langchain_llm_router.apps.server.failures import describe, failure_response
from langchain_llm_router.calls.ask import PredictOperation
from langchain_llm_router.loop.arms import build_arms
from langchain_llm_router.policies import Policy
from langchain_llm_router.router.chat import ChatLLMRouter, route_of
from langchain_llm_router.router.request_log import WATCH_KEY, Watch
from langchain_llm_router.types import Arm, Candidate
from langchain_llm_router.types.options import RoutingOptions

__all__ = ["add_page"]

_PARTS = ("page.css", "page_figures.js", "page_markdown.js", "page.js")

_EXAMPLES = (
    "How many days are there from 3 March to 17 May?",
    "Explain in two sentences why the sky is blue.",
    "Write a Python function that reverses the words of a sentence.",
    "A train leaves at 9:40 and needs 2 h 35 min. When does it arrive?",
)
"""Offered where nothing is known about the questions that the router was made for."""

_LAMBDAS = np.concatenate([[0.0], np.geomspace(0.1, 1e5, 60)])


class _Question(BaseModel):
    """The request that the page sends."""

    question: str = Field(min_length=1, max_length=20_000)
    lambda_: float | None = Field(default=None, ge=0, le=1e9, alias="lambda")

    def options(self) -> dict[str, Any]:
        """Return the request's routing options."""
        return {} if self.lambda_ is None else {"lambda": self.lambda_}


def add_page(
    app: FastAPI,
    router: ChatLLMRouter,
    counters: Counters,
    *,
    baseline: str | None = None,
    examples: Sequence[str] = (),
    verdict: str | None = None,
) -> None:
    """Add the page `/` and its calls, `/live/setup`, `/live/ask` (events) and `/live/choices`.

    Raises:
        ValueError: If the baseline is not one of the candidates.
    """
    if baseline is None:
        baseline = router.parts.names[-1]
    if baseline not in router.parts.names:
        msg = f"`baseline` must be one of {list(router.parts.names)}, got {baseline!r}."
        raise ValueError(msg)
    # A copy shares log and budgets, so the page's requests are treated like all others.
    event_router = router.model_copy(update={"streaming_mode": "events"})

    html, headers = _page()
    setup = {
        "candidates": [_described(candidate) for candidate in router.parts.candidates],
        "baseline": baseline,
        "examples": list(examples or _EXAMPLES),
        "verdict": verdict,
        **_lambda_settings(router.parts.policy),
    }

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(html, headers=headers)

    # Not in the page, which is open to those without a key.
    @app.get("/live/setup")
    async def settings() -> dict[str, Any]:
        return setup

    @app.post("/live/ask", response_model=None)
    async def ask(body: _Question) -> StreamingResponse:
        return StreamingResponse(
            _stream_steps(
                event_router, counters, body, router.parts.at_current_prices().by_name[baseline]
            ),
            media_type="text/event-stream",
        )

    @app.post("/live/choices")
    async def choices(body: _Question) -> Any:
        quality = None
        parts = router.parts.at_current_prices()
        if router.estimator is not None:
            try:
                predicted = await PredictOperation(router.estimator, body.question).aperform()
            except Exception as error:  # noqa: BLE001 - every request gets a response
                return failure_response(error, parts.secrets)
            quality = [predicted[column] for column in parts.columns]
        arms = build_arms(parts.candidates, quality, body.question)
        return {
            "arms": [
                {"candidate": a.candidate, "quality": a.quality, "cost_usd": a.cost_usd}
                for a in arms
            ],
            "curve": _curve(arms),
            **_lambda_settings(parts.policy),
        }


def _page() -> tuple[str, dict[str, str]]:
    """Return the page with its parts put into it, and the headers that forbid all others."""
    folder = files("langchain_llm_router.apps.server")
    html = folder.joinpath("page.html").read_text(encoding="utf-8")
    for name in _PARTS:
        html = html.replace(f"{{{name}}}", folder.joinpath(name).read_text(encoding="utf-8"))
    policy = (
        f"default-src 'none'; script-src {_hashes(html, 'script')}; "
        f"style-src {_hashes(html, 'style')}; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return html, {
        "content-security-policy": policy,
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }


def _hashes(html: str, tag: str) -> str:
    texts = [part.split(f"</{tag}>")[0] for part in html.split(f"<{tag}>")[1:]]
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def _described(candidate: Candidate) -> dict[str, Any]:
    price = candidate.price
    if price is None:
        return {"name": candidate.name, "price": None}
    prices = {"input": price.input_usd_per_mtok, "output": price.output_usd_per_mtok}
    return {"name": candidate.name, "price": prices}


async def _stream_steps(
    router: ChatLLMRouter, counters: Counters, body: _Question, baseline_candidate: Candidate
) -> AsyncIterator[str]:
    """Yield the steps of a request as they happen, then the answer."""
    watch = Watch(router.parts.fields, counters.count_attempts)
    config = RunnableConfig(configurable={"llm_router": body.options(), WATCH_KEY: watch})
    record, answer = None, ""
    try:
        events = router.astream_events(body.question, config, version="v2")
        # Closed with the response, so that a client that leaves ends the calls.
        async with aclosing(events):
            async for event in events:
                if event["event"] == "on_custom_event" and event["name"] == "llm_router":
                    yield _event("step", event["data"])
                elif event["event"] == "on_chain_end" and event["parent_ids"] == []:
                    message = event["data"]["output"]
                    record, answer = route_of(message), str(message.text)
    except Exception as error:  # noqa: BLE001 - the status has been sent: report it as an event
        text = describe(error, router.parts.secrets)
        yield _event("failed", {"message": text})
        return
    counters.count(record)
    yield _event(
        "answer",
        {"text": answer, "record": record, "baseline": _baseline(record, baseline_candidate)},
    )


def _baseline(record: dict[str, Any] | None, baseline_candidate: Candidate) -> dict[str, Any]:
    """Estimate the baseline's cost for the same numbers of tokens as the accepted answer."""
    cost = None
    if record is not None and baseline_candidate.price is not None:
        accepted = [a for a in record["attempts"] if a["candidate"] == record["candidate"]][-1]
        if accepted.get("input_tokens") is not None:
            cost = baseline_candidate.price.estimate_usd(
                input_tokens=accepted["input_tokens"], output_tokens=accepted["output_tokens"]
            )
    return {"candidate": baseline_candidate.name, "cost_usd": cost}


def _lambda_settings(policy: Policy) -> dict[str, Any]:
    """Return the policy's λ, whether the page's slider can replace it, and if it verifies."""
    knob, replaced = policy.knob, policy.with_options(RoutingOptions(lambda_=1.0)).knob
    value = knob.value if knob is not None and knob.name == "lambda" else None
    return {
        "lambda": value,
        "heeds_lambda": replaced is not None and replaced.name == "lambda",
        "verifies": policy.verifies,
    }


def _curve(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Return the candidate of the highest utility at each λ, with expected quality and cost."""
    complete = [arm for arm in arms if arm.quality is not None and arm.cost_usd is not None]
    points = []
    for lambda_ in _LAMBDAS if complete else ():
        best = max(complete, key=lambda arm: (arm.quality or 0.0) - lambda_ * (arm.cost_usd or 0.0))
        points.append(
            {
                "lambda": float(lambda_),
                "candidate": best.candidate,
                "quality": best.quality,
                "cost_usd": best.cost_usd,
            }
        )
    return points


def _event(kind: str, data: Any) -> str:
    return f"event: {kind}\ndata: {to_json(data)}\n\n"
