"""The output of `llm-router demo`: the tables, three explained decisions, and the picture."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from langchain_llm_router import plots
from langchain_llm_router.apps.demo.demo import (
    DRAFTER,
    POOL,
    STRONG,
    TARGET,
    Demo,
    FittedCascade,
    FittedPool,
    FittedRoute,
    Strategy,
)
from langchain_llm_router.evaluation import Verdict, replay
from langchain_llm_router.evaluation.intervals import Interval, mean_interval
from langchain_llm_router.evaluation.sweeps import Sweep, utility_sweep
from langchain_llm_router.plots.canvas import Figure
from langchain_llm_router.policies.confidence import ConfidenceThreshold
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.types.figures import format_share, format_usd
from langchain_llm_router.types.progress import Bar, track

__all__ = ["show"]

_SHORT = {
    "gemini-1.5-flash": "flash",
    "deepseek-v2.5": "deepseek",
    "gpt-4o-mini": "4o-mini",
    "llama-3.1-70b": "llama-70b",
    "claude-3.5-sonnet": "sonnet",
}


def show(out: Path, *, seed: int = 0, as_json: bool = False) -> None:
    """Run the demo and print its results.

    Args:
        out: Folder for the picture; created if missing.
        seed: Seed of the random split.
        as_json: Whether to print the figures as one JSON object on the last line.
    """
    console = Console(stderr=as_json)
    demo = Demo(seed)
    _introduce(console, demo)
    with Bar("fitting and calibrating") as bar:
        pool, route, cascade = demo.fit_pool(), demo.fit_route(), demo.fit_cascade()
        pooled = demo.answer_with_pool(pool, bar)
        routed = demo.answer_with_route(route, bar)
        cascaded = demo.answer_with_cascade(cascade, bar)
        routers = [
            demo.live("pooled answers", pooled),
            demo.live("cascade", cascaded, cascade.peers),
            demo.live("one-shot route", routed),
        ]
        verdicts = {it.name: demo.verdict(it) for it in track(routers, "judging", bar)}
    console.print(_table(demo, routers, verdicts))
    console.print(_call_table(demo, routers))
    for name, verdict in verdicts.items():
        console.print(f"[bold]{name}[/bold]: {escape(verdict.sentence)}")
    _explain(console, demo, pooled, routed, cascaded)
    out.mkdir(parents=True, exist_ok=True)
    picture = plots.save(_picture(demo, (pool, cascade, route), routers), out / "cost_quality.png")
    console.print(f"\nThe cost–quality curve is in [bold]{escape(str(picture))}[/bold].")
    if as_json:
        sys.stdout.write(json.dumps(_figures(demo, routers, verdicts, cascade)) + "\n")


def _introduce(console: Console, demo: Demo) -> None:
    n = {name: len(getattr(demo, name)) for name in ("train", "validation", "test")}
    console.print(
        "[bold]llm-router demo[/bold]: ZeroEval (GSM8K, MATH level 5, CRUX), real recorded answers "
        f"of {len(POOL)} models.\n{n['train']} questions to fit on, {n['validation']} to calibrate "
        f'"not measurably worse than the best single model at the least cost", {n["test"]} '
        f"held-out ones to answer. The target there: {TARGET}."
    )


def _table(demo: Demo, routers: Sequence[Strategy], verdicts: dict[str, Verdict]) -> Table:
    title = f"{len(demo.test):,} held-out questions"
    table = Table(title=title, title_justify="left", box=SIMPLE)
    table.add_column("strategy")
    for heading in ("quality, 95 % interval", "cost per 1k", "cheaper than best"):
        table.add_column(heading, justify="right")
    *alone, perfect = demo.baselines()
    for strategy in alone:
        table.add_row(*_cells(strategy, None))
    table.add_section()
    for strategy in routers:
        cost = float(strategy.cost_usd.mean())
        mixed = float(np.interp(cost, *demo.hull()))
        row = ("at random, same $", format_share(mixed, 1), format_usd(1000 * cost), "")
        table.add_row(*row, style="dim")
        table.add_row(*_cells(strategy, verdicts[strategy.name].saved), style="bold")
    table.add_section()
    table.add_row(*_cells(perfect, None))
    return table


def _cells(strategy: Strategy, saved: Interval | None) -> list[str]:
    quality = mean_interval(strategy.quality, bounds=(0, 1))
    return [
        strategy.name,
        f"{format_share(quality.value, 1)}  {100 * quality.low:.1f}–{100 * quality.high:.1f}",
        format_usd(1000 * float(strategy.cost_usd.mean())),
        "" if saved is None else f"{format_share(saved.value)}  {_signed(saved)}",
    ]


def _signed(saved: Interval) -> str:
    return f"{100 * saved.low:.0f} to {100 * saved.high:.0f}"


def _call_table(demo: Demo, routers: Sequence[Strategy]) -> Table:
    table = Table(title="Calls per 100 questions", title_justify="left", box=SIMPLE)
    table.add_column("strategy")
    for name in POOL:
        table.add_column(_SHORT[name], justify="right")
    for strategy in [*routers, demo.baselines()[-1]]:
        shares = strategy.shares or {}
        calls = (100 * shares.get(name, 0.0) for name in POOL)
        table.add_row(strategy.name, *(f"{n:.0f}" if n > 0 else "·" for n in calls))
    return table


def _explain(
    console: Console,
    demo: Demo,
    pooled: Sequence[dict[str, Any]],
    routed: Sequence[dict[str, Any]],
    cascaded: Sequence[dict[str, Any]],
) -> None:
    console.print("\n[bold]Three decisions, explained[/bold]")
    agreed = next(i for i, r in enumerate(pooled) if r["candidate"] != STRONG and _verified(r) > 1)
    weak = next((i for i, r in enumerate(routed) if r["candidate"] != STRONG and i != agreed), 0)
    strong = next(
        i for i, r in enumerate(cascaded) if r["candidate"] == STRONG and i not in (agreed, weak)
    )
    shown = ((agreed, pooled[agreed]), (weak, routed[weak]), (strong, cascaded[strong]))
    for i, record in shown:
        row = demo.test[i]
        correct = demo.outcomes.quality[row, POOL.index(record["candidate"])] == 1
        question = " ".join(demo.outcomes.queries[row].split())
        console.print(f"\n  [italic]{escape(question[:96])}{'…' if len(question) > 96 else ''}[/]")
        for step in record["steps"]:
            console.print(f"    {step['action']:<6} {step['candidate']}: {escape(step['reason'])}")
            verdicts = record["attempts"][0].get("verdicts")
            if step["action"] == "verify" and verdicts:
                same = sum(verdict is True for verdict in verdicts)
                console.print(f"           {same} of {len(verdicts)} peers gave the same answer")
        for name, numbers in record["scores"].items():
            told = ", ".join(
                f"{k} {format_usd(v) if k.endswith('_usd') else f'{v:.4g}'}"
                for k, v in numbers.items()
                if v is not None
            )
            console.print(f"      [dim]{name}: {told}[/dim]")
        if record["flip"] is not None:
            console.print(f"      [dim]what would change it: {escape(record['flip'])}[/dim]")
        outcome = "[green]correct[/green]" if correct else "[red]wrong[/red]"
        cost = f"{format_usd(1000 * record['cost_usd'])} per 1k such questions"
        console.print(f"    → {record['candidate']} was {outcome}, at {cost}")


def _verified(record: dict[str, Any]) -> int:
    return sum(step["action"] == "verify" for step in record["steps"])


def _picture(
    demo: Demo,
    fitted: tuple[FittedPool, FittedCascade, FittedRoute],
    routers: Sequence[Strategy],
) -> Figure:
    unseen = demo.unseen
    pool, cascade, route = fitted
    predicted = route.estimator.predict(unseen.queries)
    curves = [
        *plots.sweep_points("pooled answers", demo.pool_sweep(pool)),
        *plots.sweep_points("cascade", _cascade_sweep(demo, cascade)),
        *plots.sweep_points(
            "one-shot route",
            utility_sweep(predicted, unseen, expected_cost_usd=route.expected_cost_usd),
        ),
    ]
    best, ours_best = demo.best(), routers[0]
    cheaper = 1 - ours_best.cost_usd.mean() / best.cost_usd.mean()
    return plots.cost_quality_curve(
        curves,
        singles=plots.single_points(unseen),
        hull=demo.hull(),
        oracle=plots.oracle_point(unseen),
        chosen=plots.StrategyPoint(
            "calibrated", float(ours_best.cost_usd.mean()), float(ours_best.quality.mean())
        ),
        title=f"As good as the best single model, {format_share(cheaper)} cheaper",
        subtitle=f"{len(unseen):,} held-out ZeroEval questions; recorded answers, list prices; "
        "◆ calibrated on other questions",
    )


def _cascade_sweep(demo: Demo, cascade: FittedCascade) -> Sweep:
    """Replay the cascade at every threshold that gives another result."""
    pair = demo.unseen.select((DRAFTER, STRONG))
    evaluations, model = cascade.evaluations.take(demo.test), cascade.policy.observation
    assert isinstance(model, KernelDensity)
    levels = {model.p_good(float(score)) for score in np.unique(evaluations.confidence[:, 0])}
    knobs = sorted([0.0, *(level + 1e-9 for level in levels)])
    replays = [
        replay(ConfidenceThreshold(model, threshold=knob), None, pair, evaluations=evaluations)
        for knob in knobs
    ]
    return Sweep(
        np.array(knobs),
        np.array([done.quality for done in replays]),
        np.array([done.cost_usd for done in replays]),
    )


def _figures(
    demo: Demo,
    routers: Sequence[Strategy],
    verdicts: dict[str, Verdict],
    cascade: FittedCascade,
) -> dict[str, Any]:
    def figures(strategy: Strategy) -> dict[str, Any]:
        quality = mean_interval(strategy.quality, bounds=(0, 1))
        return {
            "quality": quality.value,
            "quality_interval": [quality.low, quality.high],
            "usd_per_1k": float(strategy.cost_usd.mean() * 1000),
            "calls_per_query": strategy.shares,
        }

    return {
        "n_test": len(demo.test),
        "best_single": demo.best().name,
        "peers": list(cascade.peers),
        "strategies": {s.name: figures(s) for s in [*demo.baselines(), *routers]},
        "verdicts": {name: verdict.as_dict() for name, verdict in verdicts.items()},
    }
