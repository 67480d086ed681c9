"""`llm-router calibrate`: sets a saved router's knob to meet a target given in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from langchain_llm_router.apps.cli.parameters import Data, Folder, Json, load_exam
from langchain_llm_router.apps.cli.terminal import say, write_json
from langchain_llm_router.types.progress import Bar

if TYPE_CHECKING:
    from langchain_llm_router.training import Calibrated

__all__ = ["calibrate"]


def calibrate(
    router: Folder,
    *,
    target: Annotated[str, 'E.g. "quality >= 0.95 * best", "cost_usd <= 0.002".'],
    data: Data = [],  # noqa: B006
    confidence: Annotated[float | None, "Promise the target with this probability."] = None,
    out: Annotated[Path | None, "Write another folder instead of changing this one."] = None,
    seed: Annotated[int, "Another seed, another split."] = 0,
    json: Json = False,
) -> None:
    """Turn the knob of a saved router until a target is met, and save it.

    Half of the rows that the router has not seen choose the setting, the other half check it.
    Targets: quality >= 0.9, quality >= 0.95 * best, cost_usd <= 0.002, cost_usd <= 0.5 * best,
    strong share <= 0.3, strong share = 0.3.

    Example: llm-router calibrate router --data run.jsonl --target "quality >= 0.95 * best"
    """
    from langchain_llm_router.training import (  # noqa: PLC0415 - imports what only it needs
        Split,
        Target,
        family_of,
    )
    from langchain_llm_router.training import calibrate as turn  # noqa: PLC0415 - the same

    Target.parse(target)
    exam = load_exam(router, data)
    split = Split(seed=seed)
    with Bar("trying every setting on every row"):
        knob, _ = family_of(exam.saved.policy)
        found = turn(
            exam.saved,
            exam.own,
            target=target,
            evaluations=exam.evaluations,
            confidence=confidence,
            split=split,
        )
    assert found.policy is not None, "there was a policy to turn"
    chose = range(len(exam.own)) if confidence is not None else split.rows(len(exam.own))[0]
    changed = replace(exam.saved, policy=found.policy)
    folder = changed.taught_by(exam.own.queries[i] for i in chose).save(out or router)
    say(found.explain(), f"saved in {folder}")
    if json:
        write_json({"router": str(folder), "knob_name": knob, **_figures(found)})


def _figures(found: Calibrated) -> dict[str, Any]:
    return {
        "target": found.target,
        "knob": found.knob,
        "quality": found.quality.as_list(),
        "cost_usd": None if found.cost_usd is None else found.cost_usd.as_list(),
        "strong_share": found.strong_share.as_list(),
        "margin": found.margin.as_list(),
        "holds": found.holds,
        "confidence": found.confidence,
        "more_labels": found.more_labels,
        "n_rows": list(found.n_rows),
    }
