"""The report on a fitted router: Markdown with pictures."""

from __future__ import annotations

from pathlib import Path

from langchain_llm_router import plots
from langchain_llm_router.evaluation.intervals import Interval
from langchain_llm_router.training import Target
from langchain_llm_router.training.fitted_router import Fitted

__all__ = ["verdict", "write_report"]

_SHOWN = 12


def write_report(fitted: Fitted, folder: str | Path) -> Path:
    """Write `report.md` and its pictures (extra `plot`) into a folder.

    Returns:
        Path of the report.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _draw(fitted, folder)
    path = folder / "report.md"
    path.write_text(_markdown(fitted), encoding="utf-8")
    return path


def _draw(fitted: Fitted, folder: Path) -> None:
    tested = f"{len(fitted.test):,} held-out questions"
    figure = plots.cost_quality_curve(
        plots.sweep_points("the same router, other λ", fitted.sweep),
        singles=plots.single_points(fitted.test),
        oracle=plots.oracle_point(fitted.test),
        chosen=plots.replay_point("this router", fitted.replay),
        subtitle=f"{tested}, 95 % intervals",
    )
    plots.save(figure, folder / "cost_quality.png")
    score, _ = _score(fitted)
    figure = plots.contest_chart(
        [(s.name, _score_of(fitted, i)) for i, s in enumerate(fitted.standings[:_SHOWN])],
        x=score,
        subtitle=f"the first {min(_SHOWN, len(fitted.standings))} of {len(fitted.standings)}, on "
        f"{fitted.n_rows['picking']:,} questions that trained no contender",
    )
    plots.save(figure, folder / "contest.png")
    figure = plots.answer_shares(_shares(fitted), subtitle=tested)
    plots.save(figure, folder / "shares.png")
    figure = plots.worth_curve(
        fitted.margins, chosen=_lambda_of(fitted), subtitle=f"{tested}, 95 % intervals"
    )
    plots.save(figure, folder / "worth.png")


def _lambda_of(fitted: Fitted) -> float:
    return fitted.lambda_ if fitted.calibrated is None else fitted.calibrated.knob


def _score(fitted: Fitted) -> tuple[str, bool]:
    """Return a description of the score that ranks the routers, and whether higher is better."""
    if fitted.calibrated is None:
        return f"quality - λ·cost, λ = {fitted.lambda_:.4g} per USD", True
    if Target.parse(fitted.calibrated.target).metric == "quality":
        return "USD per 1,000 questions where the target is met (less is better)", False
    return "quality (%) where the target is met", True


def _score_of(fitted: Fitted, i: int) -> float:
    standing = fitted.standings[i]
    if fitted.calibrated is None:
        return standing.utility
    if Target.parse(fitted.calibrated.target).metric == "quality":
        return 1000 * standing.cost_usd
    return 100 * standing.quality


def _shares(fitted: Fitted) -> dict[str, dict[str, float]]:
    """Return each candidate's share of the accepted answers, over all questions and by group."""
    done, groups = fitted.replay, fitted.test.groups

    def of(rows: list[int]) -> dict[str, float]:
        accepted = [done.candidates[done.accepted[i]] for i in rows]
        return {name: accepted.count(name) / len(rows) for name in done.candidates}

    shares = {f"all {len(fitted.test):,}": of(list(range(len(fitted.test))))}
    for group in sorted(set(groups or ())):
        rows = [i for i, g in enumerate(groups or ()) if g == group]
        shares[f"{group} ({len(rows):,})"] = of(rows)
    return shares


def _markdown(fitted: Fitted) -> str:
    rows = ", ".join(f"{n:,} for {purpose}" for purpose, n in fitted.n_rows.items())
    return f"""# Fitted router

{verdict(fitted)}

The router is **{fitted.standings[0].name}**{_parts(fitted)}. Load it with:

```python
{_use(fitted)}
```

## What it is worth

On {len(fitted.test):,} questions that were not used for fitting, selection or calibration:

{_worth_table(fitted)}

It saves {_percent(fitted.saved)} of the cost of a random mix of single models with the same
quality. The last picture shows which candidates' answers it returned.

![Cost and quality](cost_quality.png)
{_target(fitted)}
## When it is not worth it

![Gain by λ](worth.png)

{_when(fitted)}

## The contenders

![Standings](contest.png)

{_standings(fitted)}

{_left_out(fitted)}

## Which candidates answer

![Shares](shares.png)

---

The {sum(fitted.n_rows.values()):,} questions were split once into disjoint parts: {rows}. Equal
questions are in the same part. Intervals are 95 % intervals from resampled questions.
"""


def _parts(fitted: Fitted) -> str:
    router = fitted.router
    parts = [f"policy `{type(router.policy).__name__}`"]
    if router.estimator is not None:
        parts.append(f"estimator `{type(router.estimator).__name__}`")
    if router.verifier is not None:
        parts.append(f"verifier `{router.verifier}`")
    return f" ({', '.join(parts)})"


def _use(fitted: Fitted) -> str:
    names = ", ".join(f'Candidate("{name}", ...)' for name in fitted.router.candidates)
    verifier = fitted.router.verifier
    argument = "" if verifier is None else f', verifier={{"{verifier}": ...}}'
    return f'router = ChatLLMRouter.load("this folder", candidates=[{names}]{argument})'


def _worth_table(fitted: Fitted) -> str:
    test = fitted.test
    costs = test.mean_cost_usd
    assert costs is not None, "a router is fitted on known costs only"
    rows = [
        f"| {name} alone | {test.quality[:, j].mean():.1%} | {_per_1000(float(costs[j]))} |"
        for j, name in enumerate(test.candidates)
    ]
    quality, cost = fitted.quality, fitted.cost_usd
    rows.append(
        f"| **this router** | **{quality.value:.1%}** ({quality.low:.1%} to {quality.high:.1%}) "
        f"| **{_per_1000(cost.value)}** ({_per_1000(cost.low)} to {_per_1000(cost.high)}) |"
    )
    oracle = plots.oracle_point(test)
    rows.append(f"| perfect routing | {oracle.quality:.1%} | {_per_1000(oracle.cost_usd)} |")
    head = "| | quality | USD per 1,000 questions |\n| --- | --- | --- |\n"
    return head + "\n".join(rows)


def _target(fitted: Fitted) -> str:
    calibrated = fitted.calibrated
    if calibrated is None:
        return ""
    margin = calibrated.margin
    kept = "kept" if calibrated.holds else "missed"
    lines = [
        "",
        "## The target",
        "",
        f"`{calibrated.target}` asks for λ = {calibrated.knob:.4g} quality per USD. On "
        f"{calibrated.n_rows[1]:,} questions that were not used to choose it, "
        f"it was {kept} by {100 * margin.value:.1f} points "
        f"({100 * margin.low:.1f} to {100 * margin.high:.1f}).",
    ]
    if calibrated.confidence is None:
        lines.append("It is not guaranteed: `--confidence 0.95` asks for a guarantee.")
    else:
        lines.append(
            "**Guaranteed for new questions like these with probability "
            f"{calibrated.confidence:g}.**"
        )
        if calibrated.more_labels is not None:
            lines.append(
                f"About {calibrated.more_labels:,} more labels would guarantee a better setting."
            )
    return "\n".join(lines) + "\n"


def _when(fitted: Fitted) -> str:
    worth = [knob for knob, it in fitted.margins if it.low > 0]
    if len(worth) == 0:
        return (
            "At no λ is the gain over the best single model proven. Use that model, or collect "
            "more questions, a better verifier, or candidates that differ more."
        )
    first, last = fitted.margins[0][0], fitted.margins[-1][0]
    text = f"The gain is proven for λ from {min(worth):.4g} to {max(worth):.4g} quality per USD."
    if min(worth) > first:
        text += " For lower λ, where quality dominates, use the best model."
    if max(worth) < last:
        text += " For higher λ, where cost dominates, use the cheapest."
    return text


def _standings(fitted: Fitted) -> str:
    rows = "\n".join(
        f"| {s.name} | {s.utility:.4f} | {s.quality:.1%} | {_per_1000(s.cost_usd)} |"
        for s in fitted.standings[:_SHOWN]
    )
    by = (
        f"Sorted by quality - λ·cost with λ = {fitted.lambda_:.6g} per USD"
        if fitted.calibrated is None
        else f"Each at the λ where it meets `{fitted.calibrated.target}` best"
    )
    return (
        f"{by}, on {fitted.n_rows['picking']:,} questions that trained no contender.\n\n"
        "| contender | utility | quality | USD per 1,000 |\n| --- | --- | --- | --- |\n" + rows
    )


def _left_out(fitted: Fitted) -> str:
    text = f"{len(fitted.standings)} competed."
    missed = [name for name, why in fitted.left_out.items() if why.startswith("No setting meets")]
    if missed:
        text += f" {len(missed)} miss the target with every setting, e.g. {missed[0]}."
    others = {name: why for name, why in fitted.left_out.items() if name not in missed}
    by_reason: dict[str, list[str]] = {}
    for name, why in others.items():
        by_reason.setdefault(why, []).append(name)
    for why, names in by_reason.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        text += f"\n* {names[0]}{more} did not apply: {why}"
    return text


def verdict(fitted: Fitted) -> str:
    """Return one sentence that says whether routing is worth it on these data."""
    single = fitted.single
    if len(fitted.router.candidates) == 1:
        (only,) = fitted.router.candidates
        return f"**Not worth routing here**: no router beat `{only}` alone on held-out rows."
    if fitted.calibrated is None:
        span = f"{_points(fitted.gain)} points of quality - λ·cost above `{single}` alone"
    else:
        span = f"it saves {_percent(fitted.saved)} of the cost at equal quality"
    if fitted.worth_it:
        return f"**Worth routing**: {span}."
    return (
        f"**Not proven to be worth routing**: {span}. The interval reaches 0: collect more rows, "
        f"or use `{single}`."
    )


def _points(it: Interval) -> str:
    return f"{100 * it.value:+.1f} ({100 * it.low:+.1f} to {100 * it.high:+.1f})"


def _percent(it: Interval) -> str:
    return f"{it.value:.0%} ({it.low:.0%} to {it.high:.0%})"


def _per_1000(cost_usd: float) -> str:
    return f"${1000 * cost_usd:.4g}"
