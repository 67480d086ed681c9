"""What a fitted router is worth, on a page to read: Markdown, with the curve as a picture."""

from __future__ import annotations

from pathlib import Path

from langchain_llm_router import plots
from langchain_llm_router.fitting.fitting import Fitted

__all__ = ["verdict", "write_report"]


def write_report(fitted: Fitted, folder: str | Path) -> Path:
    """Write `report.md` and `cost_quality.png` (extra `plot`) into a folder.

    Returns:
        The path of the report.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    singles = plots.single_points(fitted.test)
    chosen = plots.replay_point("this router", fitted.replay)
    figure = plots.cost_quality_curve(
        [],
        singles=singles,
        oracle=plots.oracle_point(fitted.test),
        chosen=chosen,
        subtitle=f"{len(fitted.test):,} held-out questions, 95 % intervals",
    )
    plots.save(figure, folder / "cost_quality.png")
    path = folder / "report.md"
    path.write_text(_markdown(fitted), encoding="utf-8")
    return path


def _markdown(fitted: Fitted) -> str:
    router, test = fitted.router, fitted.test
    costs = test.mean_cost_usd
    assert costs is not None, "a router is fitted on known costs only"
    rows = [
        f"| {name} alone | {test.quality[:, j].mean():.1%} | {_per_1000(float(costs[j]))} |"
        for j, name in enumerate(test.candidates)
    ]
    rows.append(
        f"| **this router** | **{fitted.quality.value:.1%}** "
        f"({fitted.quality.low:.1%} to {fitted.quality.high:.1%}) "
        f"| **{_per_1000(fitted.cost_usd.value)}** "
        f"({_per_1000(fitted.cost_usd.low)} to {_per_1000(fitted.cost_usd.high)}) |"
    )
    shares = ", ".join(f"{name} {share:.0%}" for name, share in fitted.replay.shares.items())
    standings = "\n".join(
        f"| {s.name} | {s.utility:.4f} | {s.quality:.1%} | {_per_1000(s.cost_usd)} |"
        for s in fitted.standings[:12]
    )
    left_out = "".join(f"\n* {name}: {why}" for name, why in fitted.left_out.items())
    verifier = "" if router.verifier is None else f", verified by `{router.verifier}`"
    return f"""# Fitted router

**{fitted.standings[0].name}**{verifier}

{verdict(fitted)}

## On {len(test):,} questions that nothing was fitted on

| | quality | USD per 1,000 questions |
| --- | --- | --- |
{chr(10).join(rows)}

Its answers came from: {shares}.

![Cost and quality](cost_quality.png)

## Who competed

Judged by quality - λ·cost with λ = {fitted.lambda_:.6g} per dollar, on rows that taught nobody.

| contender | utility | quality | USD per 1,000 |
| --- | --- | --- | --- |
{standings}

{len(fitted.standings)} competed.{" Did not apply:" + left_out if left_out else ""}
"""


def verdict(fitted: Fitted) -> str:
    """One sentence: whether routing is worth it on these data."""
    gain, single = fitted.gain, fitted.single
    span = f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}, 95 % interval)"
    if len(fitted.router.candidates) == 1:
        return f"**Not worth routing here**: no router beat `{single}` alone on held-out rows."
    if fitted.worth_it:
        return f"**Worth routing**: {span} quality - λ·cost per question above `{single}` alone."
    return (
        f"**Not proven to be worth routing**: {span} quality - λ·cost per question above "
        f"`{single}` alone. The interval reaches 0: collect more rows, or use `{single}`."
    )


def _per_1000(cost_usd: float) -> str:
    return f"${1000 * cost_usd:.4g}"
