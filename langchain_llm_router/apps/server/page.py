"""The live page: ask, watch the cascade think, move λ and see the choice move."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.params import Depends
from fastapi.responses import HTMLResponse, StreamingResponse
from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel, Field

from langchain_llm_router.apps.server.counters import Counters
from langchain_llm_router.calls.ask import Predicting
from langchain_llm_router.loop.arms import build_arms
from langchain_llm_router.policies import Policy
from langchain_llm_router.router.chat import ChatLLMRouter, route_of
from langchain_llm_router.types import Arm, Candidate
from langchain_llm_router.types.options import RoutingOptions

__all__ = ["add_page"]

_LAMBDAS = np.concatenate([[0.0], np.geomspace(0.1, 1e5, 60)])


class _Question(BaseModel):
    """What the page sends."""

    question: str = Field(min_length=1, max_length=20_000)
    lambda_: float | None = Field(default=None, ge=0, le=1e9, alias="lambda")

    def options(self) -> dict[str, Any]:
        """The request's routing options."""
        return {} if self.lambda_ is None else {"lambda": self.lambda_}


def add_page(
    app: FastAPI,
    router: ChatLLMRouter,
    counters: Counters,
    *,
    guard: Sequence[Depends] = (),
    baseline: str | None = None,
) -> None:
    """Add `/` and the two calls it makes: `/live/ask` (server-sent events) and `/live/choices`."""
    names = [candidate.name for candidate in router.parts.candidates]
    reference = names[-1] if baseline is None else baseline
    if reference not in names:
        msg = f"Unknown baseline {reference!r}: allowed are {names}."
        raise ValueError(msg)
    against = next(c for c in router.parts.candidates if c.name == reference)
    # The same ledger: requests from the page are logged and budgeted like all others.
    telling = router.model_copy(update={"streaming_mode": "events"})

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        source = files("langchain_llm_router.apps.server").joinpath("page.html")
        return source.read_text(encoding="utf-8")

    @app.post("/live/ask", dependencies=list(guard), response_model=None)
    async def ask(body: _Question) -> StreamingResponse:
        return StreamingResponse(
            _thinking(telling, counters, body, against), media_type="text/event-stream"
        )

    @app.post("/live/choices", dependencies=list(guard))
    async def choices(body: _Question) -> dict[str, Any]:
        quality = None
        parts = router.parts
        if router.estimator is not None:
            predicted = await Predicting(router.estimator, body.question).aperform()
            quality = [predicted[column] for column in parts.columns]
        arms = build_arms(parts.candidates, quality, body.question)
        return {
            "arms": [
                {"candidate": a.candidate, "quality": a.quality, "cost_usd": a.cost_usd}
                for a in arms
            ],
            "curve": _curve(arms),
            **_heeded(parts.policy),
            "verifies": parts.policy.verifies,
        }


async def _thinking(
    router: ChatLLMRouter, counters: Counters, body: _Question, against: Candidate
) -> AsyncIterator[str]:
    """The steps of one routing as they happen, then the answer."""
    config = RunnableConfig(configurable={"llm_router": body.options()})
    record, answer = None, ""
    try:
        async for event in router.astream_events(body.question, config, version="v2"):
            if event["event"] == "on_custom_event" and event["name"] == "llm_router":
                yield _event("step", event["data"])
            elif event["event"] == "on_chain_end" and event["parent_ids"] == []:
                message = event["data"]["output"]
                record, answer = route_of(message), str(message.text)
    except Exception as error:  # noqa: BLE001 - the status is sent: the page must show the error
        yield _event("failed", {"message": f"{type(error).__name__}: {error}"})
        return
    counters.count(record)
    yield _event(
        "answer", {"text": answer, "record": record, "baseline": _baseline(record, against)}
    )


def _baseline(record: dict[str, Any] | None, against: Candidate) -> dict[str, Any]:
    """What the answer would have cost from the baseline, with the tokens that were spent."""
    cost = None
    if record is not None and against.price is not None:
        kept = [a for a in record["attempts"] if a["candidate"] == record["candidate"]][-1]
        if kept.get("input_tokens") is not None:
            cost = against.price.estimate_usd(
                input_tokens=kept["input_tokens"], output_tokens=kept["output_tokens"]
            )
    return {"candidate": against.name, "cost_usd": cost}


def _heeded(policy: Policy) -> dict[str, Any]:
    """λ that the router chooses by, and whether the page's slider replaces it."""
    knob, moved = policy.knob, policy.with_options(RoutingOptions(lambda_=1.0)).knob
    own = knob.value if knob is not None and knob.name == "lambda" else None
    return {"lambda": own, "heeds_lambda": moved is not None and moved.name == "lambda"}


def _curve(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """For every λ, which candidate the utility would choose, and its expected cost and quality."""
    known = [arm for arm in arms if arm.quality is not None and arm.cost_usd is not None]
    points = []
    for lambda_ in _LAMBDAS if known else ():
        best = max(known, key=lambda arm: (arm.quality or 0.0) - lambda_ * (arm.cost_usd or 0.0))
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
    return f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
