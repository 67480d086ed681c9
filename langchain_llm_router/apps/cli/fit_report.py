"""The report on a fitted router: Markdown with pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from langchain_llm_router import plots
from langchain_llm_router.evaluation.intervals import mean_interval
from langchain_llm_router.training.contenders import HEURISTICS
from langchain_llm_router.training.fitted_router import Fitted, Standing
from langchain_llm_router.types.figures import format_share, format_usd

__all__ = ["drawn_line", "latency_line", "saved_line", "write_report"]

_SHOWN = 12


def write_report(fitted: Fitted, folder: str | Path, *, notes: str = "") -> Path:
    """Write `report.md` and its pictures (extra `plot`) into a folder.

    Args:
        fitted: The result of `fit_router`.
        folder: The folder of the saved router.
        notes: Text for the head of the report, e.g. which rows were left out.

    Returns:
        Path of the report.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _draw(fitted, folder)
    path = folder / "report.md"
    path.write_text(_markdown(fitted, folder, notes), encoding="utf-8")
    return path


def saved_line(fitted: Fitted) -> str:
    """Return a line that says what is saved, and why it is not the winner if it is another."""
    winner = fitted.standings[0].name
    if fitted.worth_it:
        return f"Saved: the router {winner}."
    if fitted.router is fitted.winner:
        return f"Saved all the same, as asked: the router {winner}."
    (name,) = fitted.router.candidates
    return f"Saved: `{name}` alone. `--even-if-worse` saves the router {winner}."


def drawn_line(fitted: Fitted) -> str:
    """Return on how many of the questions the figures are; empty if they are on all."""
    return f"On {_questions(fitted)}." if len(fitted.outcomes) != fitted.n_rows else ""


def latency_line(fitted: Fitted) -> str:
    """Return a sentence on what the winner costs in time."""
    if fitted.latency is None:
        return (
            "What it costs in time is unknown: for that the data must be a journal of "
            "`llm-router collect`, which has the time to the first token of every answer."
        )
    text = fitted.latency.text()
    return f"With the router {fitted.standings[0].name}, {text[0].lower()}{text[1:]}"


def _draw(fitted: Fitted, folder: Path) -> None:
    tested = f"{_questions(fitted)}, each by a router fitted without it"
    figure = plots.cost_quality_curve(
        plots.sweep_points("the same router, other λ", fitted.sweep),
        singles=plots.single_points(fitted.outcomes),
        oracle=plots.oracle_point(fitted.outcomes),
        chosen=_point(fitted),
        subtitle=f"{tested}, 95 % intervals",
    )
    plots.save(figure, folder / "cost_quality.png")
    shown = _shown(fitted)
    figure = plots.contest_chart(
        [(standing.name, 100 * standing.score) for standing in shown],
        x="gain that can probably be proven (%)",
        subtitle=f"{len(shown)} of {len(fitted.standings)}, {tested}",
    )
    plots.save(figure, folder / "contest.png")
    figure = plots.answer_shares(_shares(fitted), subtitle=tested)
    plots.save(figure, folder / "shares.png")


def _shown(fitted: Fitted) -> list[Standing]:
    """Return the first standings, and that of the baseline by rules wherever it stands."""
    standings = fitted.standings
    return [s for i, s in enumerate(standings) if i < _SHOWN or HEURISTICS in s.name]


def _point(fitted: Fitted) -> plots.StrategyPoint:
    cost = float(fitted.done.cost_usd.mean()) + fitted.optimism.cost_usd
    quality = mean_interval(fitted.done.quality - fitted.optimism.quality, bounds=(-1, 1))
    return plots.StrategyPoint("this router", cost, quality.value, quality.low, quality.high)


def _shares(fitted: Fitted) -> dict[str, dict[str, float]]:
    """Return each candidate's share of the accepted answers, over all questions and by group."""
    done, groups = fitted.done, fitted.outcomes.groups

    def share(rows: np.ndarray) -> dict[str, float]:
        counts = np.bincount(done.accepted[rows], minlength=len(done.candidates)) / len(rows)
        return {name: float(part) for name, part in zip(done.candidates, counts, strict=True)}

    everything = np.arange(len(fitted.outcomes))
    shares = {f"all {len(everything):,}": share(everything)}
    for group in sorted(set(groups or ())):
        rows = np.array([i for i, label in enumerate(groups or ()) if label == group])
        shares[f"{group} ({len(rows):,})"] = share(rows)
    return shares


def _markdown(fitted: Fitted, folder: Path, notes: str) -> str:
    verdict, asked = fitted.verdict, _questions(fitted)
    return f"""# Fitted router

**{_OUTCOMES[verdict.outcome]}** {verdict.sentence}

{saved_line(fitted)}{_note(notes)}

Load it with:

```python
{fitted.router.python_block(folder=folder).rstrip()}
```

## What it is worth

On {asked}, each answered by a router that was fitted without it ({fitted.n_folds} parts):

{_worth_table(fitted)}

{_random_choice(fitted)}

{latency_line(fitted)}

![Cost and quality](cost_quality.png)

{_optimism(fitted)}

## Which candidates answer

![Shares](shares.png)

## The contenders

![Standings](contest.png)

{_standings(fitted)}

{_left_out(fitted)}

---

Intervals are 95 % intervals; a kept target holds with {100 * verdict.confidence:.4g} % confidence
for new questions like these. Equal questions are in the same part.
"""


_OUTCOMES = {
    "kept": "The target is kept.",
    "not_kept": "Routing is not worth it here.",
    "unknown": "It cannot be said yet.",
}


def _questions(fitted: Fitted) -> str:
    """Say on how many questions the routers were compared, and of how many."""
    n = len(fitted.outcomes)
    return f"{n:,} questions" + ("" if n == fitted.n_rows else f" drawn from {fitted.n_rows:,}")


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    assert low is not None, "it is computed for every figure here"
    assert high is not None, "as `low`"
    return f"{format_share(value, 1)} ({format_share(low, 1)} to {format_share(high, 1)})"


def _note(text: str) -> str:
    return f" {text}" if text else ""


def _optimism(fitted: Fitted) -> str:
    """Say by how much the figures are corrected for the choice, and why."""
    optimism = fitted.optimism
    return (
        f"The same questions also chose this router among {len(fitted.standings):,} kinds and "
        "their settings, which flatters the one that is chosen. The choice was repeated on "
        f"resampled questions to see by how much: {100 * optimism.quality:.1f} points of quality "
        f"and {_per_1000(optimism.cost_usd)} per 1,000 questions are already taken off above."
    )


def _random_choice(fitted: Fitted) -> str:
    above = fitted.verdict.above_random
    if above is None:
        return ""
    return (
        "Sending as many questions to each model at random, for the same money, needs no router. "
        f"This router's quality is {100 * above.value:+.1f} points "
        f"({100 * above.low:+.1f} to {100 * above.high:+.1f}) above that."
    )


def _worth_table(fitted: Fitted) -> str:
    table = fitted.outcomes
    costs = table.mean_cost_usd
    assert costs is not None, "a router is fitted on known costs only"
    rows = []
    for j, name in enumerate(table.candidates):
        quality = mean_interval(table.quality[:, j], bounds=(0, 1))
        rows.append(
            f"| {name} alone | {_with_interval(quality.value, quality.low, quality.high)} "
            f"| {_per_1000(float(costs[j]))} |"
        )
    point = _point(fitted)
    rows.append(
        f"| **this router** | **{_with_interval(point.quality, point.low, point.high)}** "
        f"| **{_per_1000(point.cost_usd)}** |"
    )
    repeated, perfect = fitted.repeated, plots.oracle_point(table)
    oracles: dict[str, tuple[float, float | None]] = {
        "perfect routing": (perfect.quality, perfect.cost_usd)
    }
    if repeated is not None:
        oracles = {
            "perfect routing, chosen by the runs that count": repeated.naive,
            "perfect routing, tested on other runs": repeated.honest,
        }
    for name, (reached, cost_usd) in oracles.items():
        cost = "unknown" if cost_usd is None else _per_1000(cost_usd)
        rows.append(f"| {name} | {format_share(reached, 1)} | {cost} |")
    head = "| | quality | cost per 1,000 questions |\n| --- | --- | --- |\n"
    told = "" if repeated is None else f"\n\n{repeated.sentence}"
    return head + "\n".join(rows) + told


def _standings(fitted: Fitted) -> str:
    rows = "\n".join(
        f"| {s.name} | {format_share(s.score, 2)} | {format_share(s.quality, 1)} "
        f"| {_per_1000(s.cost_usd)} |"
        for s in _shown(fitted)
    )
    return (
        "Each at its best setting. The gain is the share of the cost that it saves, times the "
        "probability that as many other questions would prove it worth using; quality and cost "
        "are not yet lowered for the choice.\n\n"
        "| contender | gain | quality | cost per 1,000 |\n| --- | --- | --- | --- |\n" + rows
    )


def _left_out(fitted: Fitted) -> str:
    text = f"{len(fitted.standings)} competed."
    by_reason: dict[str, list[str]] = {}
    for name, why in fitted.left_out.items():
        by_reason.setdefault(why, []).append(name)
    for why, names in by_reason.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        text += f"\n* {names[0]}{more} did not apply: {why}"
    return text


def _per_1000(cost_usd: float) -> str:
    return format_usd(1000 * cost_usd)
