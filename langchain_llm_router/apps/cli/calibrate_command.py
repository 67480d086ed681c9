"""`llm-router calibrate`: sets the knob of a saved router to meet a target."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from langchain_llm_router.apps.cli.parameters import (
    DataOption,
    JsonOption,
    RouterArgument,
    check_output_folder,
    load_exam,
)
from langchain_llm_router.apps.cli.terminal import EXIT_CODES, write_json, write_text
from langchain_llm_router.types.errors import CalibrationError
from langchain_llm_router.types.progress import Bar

if TYPE_CHECKING:
    from langchain_llm_router.evaluation import Exam
    from langchain_llm_router.training import Calibrated, Split

__all__ = ["calibrate"]


def calibrate(  # noqa: PLR0913 - each option is a parameter
    router: RouterArgument,
    *,
    target: Annotated[str, 'Targets to keep, as for `fit`; also "strong share = 0.3".'],
    data: DataOption = [],  # noqa: B006
    confidence: Annotated[
        float | None, "Promise the target with this confidence; by default 0.95."
    ] = None,
    no_promise: Annotated[
        bool, "Take the best setting, without a promise. Excludes --confidence."
    ] = False,
    out: Annotated[Path | None, "Write another folder instead of changing this one."] = None,
    force: Annotated[bool, "Overwrite the folder of `--out` if it exists."] = False,
    even_if_worse: Annotated[
        bool, "Save the setting even if the target is neither promised nor kept."
    ] = False,
    seed: Annotated[int, "Seed of the random split."] = 0,
    json: JsonOption = False,
) -> None:
    """Set the knob of a saved router so that a target is met, and save the router.

    The first line is the verdict: the target is kept (exit code 0), it is not kept (3), or it
    cannot be said yet (4). Half of the rows that the router was not fitted on choose the setting,
    the other half check it. A setting is saved if the target is promised or kept.

    Targets: quality >= 0.9, quality >= best - 1 point, at least 99 % of large,
    quality >= 0.95 * best, cost <= half of large, cost_usd <= 0.002, cost_usd <= 0.5 * best,
    p95 latency <= 2 s, strong share <= 0.3; with --no-promise also strong share = 0.3.

    Example: llm-router calibrate router --data run.jsonl --target "quality >= best - 1 point"
    """
    from langchain_llm_router.evaluation import parse_targets  # noqa: PLC0415 - imports NumPy
    from langchain_llm_router.training import Split, family_of  # noqa: PLC0415 - the same

    if out is not None:
        check_output_folder(out, force=force)
    parse_targets(target)
    promise = _promise(confidence, no_promise=no_promise)
    exam, notes, left_out = load_exam(router, data)
    split = Split(seed=seed)
    try:
        calibrated = _set_knob(exam, target, promise, split)
    except CalibrationError as error:
        if exam.saved.policy.knob is None:
            # A mistake, and no verdict on the target.
            raise
        _refuse(error, {"target": target, **left_out}, json=json)
    verdict, folder = calibrated.verdict, None
    kept = calibrated.holds if verdict is None else verdict.outcome == "kept"
    if kept or calibrated.confidence is not None or even_if_worse:
        folder = _save(exam, calibrated, split, out or router)
        line = f"Saved in {folder}."
    else:
        line = "Nothing was saved. `--even-if-worse` saves this setting."
    write_text(calibrated.explain(), *filter(None, [notes]), line)
    if json:
        where = None if folder is None else str(folder)
        knob = family_of(exam.saved.policy)[0]
        write_json({"router": where, "knob_name": knob, **_figures(calibrated), **left_out})
    outcome = "kept" if kept else "not_kept"
    sys.exit(EXIT_CODES[outcome if verdict is None else verdict.outcome])


def _promise(confidence: float | None, *, no_promise: bool) -> float | None:
    """Return the confidence of the promise, None without one; refuse what makes no sense early."""
    if no_promise:
        if confidence is not None:
            msg = f"--no-promise excludes --confidence, got {confidence!r}: leave one of them out."
            raise ValueError(msg)
        return None
    promised = 0.95 if confidence is None else confidence
    if not 0.5 < promised < 1:
        msg = f"--confidence must be in (0.5, 1), got {promised!r}."
        raise ValueError(msg)
    return promised


def _set_knob(exam: Exam, target: str, confidence: float | None, split: Split) -> Calibrated:
    from langchain_llm_router.training import calibrate as set_knob  # noqa: PLC0415 - imports NumPy

    with Bar("trying every setting on every row"):
        return set_knob(
            exam.saved,
            exam.outcomes,
            target=target,
            evaluations=exam.evaluations,
            confidence=confidence,
            split=split,
        )


def _refuse(error: CalibrationError, figures: Mapping[str, Any], *, json: bool) -> NoReturn:
    """Say that no setting meets the target, or that these rows cannot promise it, and exit."""
    outcome = "not_kept" if error.more_labels is None else "unknown"
    write_text(str(error), "Nothing was saved.")
    if json:
        more = error.more_labels
        facts = {"verdict": outcome, "sentence": str(error), "more_labels": more, "router": None}
        write_json({**facts, **figures})
    sys.exit(EXIT_CODES[outcome])


def _save(exam: Exam, calibrated: Calibrated, split: Split, folder: Path) -> Path:
    """Write the router, its goal and its verdict into a folder."""
    from langchain_llm_router.evaluation.saved_goals import with_goal  # noqa: PLC0415 - NumPy

    assert calibrated.policy is not None, "`exam.saved` has a policy"
    promised = calibrated.confidence is not None
    used = range(len(exam.own)) if promised else split.rows(len(exam.own))[0]
    changed = replace(exam.saved, policy=calibrated.policy, goal=None)
    if calibrated.goal is not None:
        changed = with_goal(changed, calibrated.goal)
    path = changed.taught_by(exam.own.queries[i] for i in used).save(folder)
    # The verdict on the setting before this one is not that on this one.
    (path / "verdict.json").unlink(missing_ok=True)
    if calibrated.verdict is not None:
        calibrated.verdict.save(path)
    return path


def _figures(calibrated: Calibrated) -> dict[str, Any]:
    cost_usd, verdict = calibrated.cost_usd, calibrated.verdict
    return {
        **({"verdict": None} if verdict is None else verdict.as_dict()),
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
