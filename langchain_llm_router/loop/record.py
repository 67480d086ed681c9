"""The decision record of a request, and the data of traces and events."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from langchain_llm_router.types import Decision, Situation, sum_usd

__all__ = [
    "brief_steps",
    "decision_data",
    "decision_record",
    "situation_data",
    "verdict_lines",
]

_VERDICTS = {True: "Correct", False: "Incorrect", None: "no verdict"}


def decision_record(
    steps: Sequence[Decision], situation: Situation, decision_id: str, *, verifies: bool = False
) -> dict[str, Any]:
    """Build the decision record, which is stored in `response_metadata["llm_router"]`.

    `cost_usd` is the total cost, with rejected drafts, verification, and what it costs to abstain.
    Where prices are from a feed, `price_age_s` has their age in seconds by arm, None where
    the feed does not say.

    Args:
        steps: All decisions; the last one accepts or abstains.
        situation: The situation at the end, with all attempts.
        decision_id: Identifier that feedback refers to.
        verifies: Whether the policy verifies answers: then `confidence` is `"unverified"` if the
            answer was accepted without verification.
    """
    decision = steps[-1]
    accepted = [a for a in situation.attempts if a["candidate"] == decision.candidate]
    is_final = len(steps) > 1 and steps[-2].final and decision.action == "accept"
    is_final = is_final and not any(attempt.get("verified", False) for attempt in accepted)
    unsure = None
    if decision.action == "abstain":
        unsure = {"do": decision.ending, "cost_usd": decision.ending_cost_usd}
    scored = [step for step in steps if len(step.scores) > 0]
    chosen = scored[-1] if scored else decision
    sensitive = {} if situation.sensitive is None else {"sensitive": situation.sensitive}
    ages = {a.candidate: a.price_age_s for a in situation.arms if a.price_from_feed}
    return {
        "candidate": decision.candidate,
        "policy": decision.policy,
        "reason": decision.reason,
        "confidence": "unverified" if verifies and is_final else decision.confidence,
        "scores": {name: dict(numbers) for name, numbers in chosen.scores.items()},
        "flip": chosen.flip,
        "signal": next((step.signal for step in steps if step.signal is not None), None),
        "unsure": unsure,
        "propensity": math.prod([step.propensity for step in steps]),
        "attempts": [dict(attempt) for attempt in situation.attempts],
        "steps": brief_steps(steps),
        "cost_usd": _total_usd(situation, decision),
        "decision_id": decision_id,
        **sensitive,
        **({"price_age_s": ages} if ages else {}),
    }


def brief_steps(steps: Sequence[Decision]) -> list[dict[str, Any]]:
    """Return what a record says of each step."""
    return [
        {"action": step.action, "candidate": step.candidate, "reason": step.reason}
        for step in steps
    ]


def _total_usd(situation: Situation, decision: Decision) -> float | None:
    spent_usd, ending_usd = situation.spent_usd, decision.ending_cost_usd
    return spent_usd if ending_usd is None else sum_usd([spent_usd, ending_usd])


def decision_data(decision: Decision) -> dict[str, Any]:
    """Convert a decision to plain data: the choice, the reason, the numbers of every arm."""
    return {
        "action": decision.action,
        "candidate": decision.candidate,
        "policy": decision.policy,
        "reason": decision.reason,
        "scores": {name: dict(numbers) for name, numbers in decision.scores.items()},
        "confidence": decision.confidence,
        "bar": decision.bar,
        "propensity": decision.propensity,
        "flip": decision.flip,
        "signal": decision.signal,
        "ending": decision.ending,
    }


def verdict_lines(attempt: Mapping[str, Any]) -> list[str]:
    """Return the verdicts on an attempt as text, one line each, with their rationales."""
    verdicts = attempt.get("verdicts") or []
    rationales = attempt.get("rationales") or [None] * len(verdicts)
    return [
        _VERDICTS[verdict] if rationale is None else f"{_VERDICTS[verdict]}: {rationale}"
        for verdict, rationale in zip(verdicts, rationales, strict=False)
    ]


def situation_data(situation: Situation) -> dict[str, Any]:
    """Convert a situation to plain data without the query: the arms and the attempts so far.

    In a tool loop it has `stuck` too, the reading that says whether the loop is stuck.
    """
    data: dict[str, Any] = {
        "arms": [
            {
                "candidate": arm.candidate,
                "quality": arm.quality,
                "cost_usd": arm.cost_usd,
                "ttft_s": arm.ttft_s,
                "itl_s": arm.itl_s,
                "tokens_per_s": arm.tokens_per_s,
            }
            for arm in situation.arms
        ],
        "attempts": [dict(attempt) for attempt in situation.attempts],
    }
    if situation.stuck is not None:
        data["stuck"] = asdict(situation.stuck)
    return data
