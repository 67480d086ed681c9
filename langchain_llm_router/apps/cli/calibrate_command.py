"""`llm-router calibrate`: sets the knob of a saved router to meet a target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from langchain_llm_router.apps.cli.parameters import (
    DataOption,
    JsonOption,
    RouterArgument,
    load_exam,
)
from langchain_llm_router.apps.cli.terminal import write_json, write_text
from langchain_llm_router.types.progress import Bar

if TYPE_CHECKING:
    from langchain_llm_router.training import Calibrated

__all__ = ["calibrate"]


def calibrate(
    router: RouterArgument,
    *,
    target: Annotated[str, 'E.g. "quality >= 0.95 * best", "cost_usd <= 0.002".'],
    data: DataOption = [],  # noqa: B006
    confidence: Annotated[float | None, "Guarantee the target with this probability."] = None,
    out: Annotated[Path | None, "Write another folder instead of changing this one."] = None,
    seed: Annotated[int, "Seed of the random split."] = 0,
    json: JsonOption = False,
) -> None:
    """Set the knob of a saved router so that a target is met, and save the router.

    Half of the rows that it was not fitted on choose the setting, the other half check it.
    Targets: quality >= 0.9, quality >= 0.95 * best, cost_usd <= 0.002, cost_usd <= 0.5 * best,
    strong share <= 0.3, strong share = 0.3.

    Example: llm-router calibrate router --data run.jsonl --target "quality >= 0.95 * best"
    """
    from langchain_llm_router.training import (  # noqa: PLC0415 - imports what only it needs
        Split,
        Target,
        family_of,
    )
    from langchain_llm_router.training import calibrate as set_knob  # noqa: PLC0415 - the same

    Target.parse(target)
    exam = load_exam(router, data)
    split = Split(seed=seed)
    with Bar("trying every setting on every row"):
        knob, _ = family_of(exam.saved.policy)
        calibrated = set_knob(
            exam.saved,
            exam.own,
            target=target,
            evaluations=exam.evaluations,
            confidence=confidence,
            split=split,
        )
    assert calibrated.policy is not None, "`exam.saved` has a policy"
    used = range(len(exam.own)) if confidence is not None else split.rows(len(exam.own))[0]
    changed = replace(exam.saved, policy=calibrated.policy)
    folder = changed.taught_by(exam.own.queries[i] for i in used).save(out or router)
    write_text(calibrated.explain(), f"saved in {folder}")
    if json:
        write_json({"router": str(folder), "knob_name": knob, **_figures(calibrated)})


def _figures(calibrated: Calibrated) -> dict[str, Any]:
    cost_usd = calibrated.cost_usd
    return {
        "target": calibrated.target,
        "knob": calibrated.knob,
        "quality": calibrated.quality.as_list(),
        "cost_usd": None if cost_usd is None else cost_usd.as_list(),
        "strong_share": calibrated.strong_share.as_list(),
        "margin": calibrated.margin.as_list(),
        "holds": calibrated.holds,
        "confidence": calibrated.confidence,
        "more_labels": calibrated.more_labels,
        "n_rows": list(calibrated.n_rows),
    }
