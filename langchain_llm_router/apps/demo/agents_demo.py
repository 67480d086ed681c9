"""The demo on agents, `llm-router demo --agents`: a cheap agent, a check, a strong agent.

Recorded runs of two models of 2026 on the 500 issues of SWE-bench Verified are replayed; the check
of a run's outcome is simulated, so that its worth can be seen for any reliability. There is one run
per model and issue, as a whole: the only signal of the run itself is its cost.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from langchain_llm_router import plots
from langchain_llm_router.data import Outcomes, SelfEvaluations, split_indices
from langchain_llm_router.data.openhands_index import OpenHandsIndex
from langchain_llm_router.evaluation import Interval, quality_above_mix_interval
from langchain_llm_router.evaluation.intervals import (
    Resampling,
    mean_interval,
    weighted_bootstrap,
)
from langchain_llm_router.evaluation.sweeps import Sweep
from langchain_llm_router.evaluation.table_replay import replay_all
from langchain_llm_router.policies.pomdp import Pomdp
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Floats, Indices
from langchain_llm_router.types.figures import format_share, format_usd
from langchain_llm_router.types.progress import Bar, Progress, Watch

__all__ = ["CHEAP", "SIGNALS", "STRONG", "AgentsDemo", "Tried", "show_agents"]

CHEAP, STRONG = "DeepSeek-V4-Pro", "claude-opus-4-8"
_RUN_COST = "run cost alone"
SIGNALS: Mapping[str, float | None] = {
    "perfect check": 1.0,
    "check, 90 % right": 0.9,
    "check, 80 % right": 0.8,
    "check, 50 % right": 0.5,
    _RUN_COST: None,
}
"""How often each check is right, by its name; None for the cost of the run."""

_CHOSEN = "check, 90 % right"
_DRAWN = ("perfect check", _CHOSEN, _RUN_COST)
_FACTORS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
"""The λ that are tried, as multiples of the one of equal utility."""

_OWN_LAMBDA = _FACTORS.index(1.0)
_N_SPLITS = 3


@dataclass(frozen=True, eq=False)
class Tried:
    """What a cascade reached on every issue, by policies that were fitted on other issues.

    Attributes:
        name: Name of its signal.
        sweep: Mean quality and cost of every issue over the splits, by λ in multiples of the λ at
            which both models are of equal utility.
    """

    name: str
    sweep: Sweep

    @property
    def quality(self) -> Floats:
        """Quality of every issue at the λ of equal utility."""
        quality: Floats = self.sweep.quality[_OWN_LAMBDA]
        return quality

    @property
    def cost_usd(self) -> Floats:
        """Cost of every issue in USD there."""
        cost: Floats = self.sweep.cost_usd[_OWN_LAMBDA]
        return cost


class AgentsDemo(CheckedArguments):
    """The recorded runs, and the cascades over them.

    Args:
        seed: Seed of the splits and of the simulated checks.

    Attributes:
        runs: Runs of the cheap and of the strong model.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.runs = OpenHandsIndex.load().outcomes["swe-bench"].select((CHEAP, STRONG))

    def try_signal(self, name: str, watch: Watch | None = None) -> Tried:
        """Fit a cascade on half of the issues, replay it on the others, both ways, in all splits.

        Raises:
            ValueError: If there is no such signal.
        """
        if name not in SIGNALS:
            msg = f"`name` must be one of {list(SIGNALS)}, got {name!r}."
            raise ValueError(msg)
        shape = (len(_FACTORS), len(self.runs))
        quality, cost = np.zeros(shape), np.zeros(shape)
        progress = Progress(watch, 2 * _N_SPLITS)
        for train, test, seed in self._halves():
            progress.begin(name)
            known = self.runs.take(train)
            scores = self._scores(SIGNALS[name], train, seed)
            lambda_ = _equal_utility(known)
            policy = Pomdp(lambda_, likelihood="kde").fit(known, scores.take(train))
            done = replay_all(
                [policy.with_knob(factor * lambda_) for factor in _FACTORS],
                None,
                self.runs.take(test),
                evaluations=scores.take(test),
                expected_cost_usd=known.mean_cost_usd,
            )
            quality[:, test] += np.array([each.quality for each in done]) / _N_SPLITS
            cost[:, test] += np.array([each.cost_usd for each in done]) / _N_SPLITS
        return Tried(name, Sweep(np.array(_FACTORS), quality, cost))

    def _halves(self) -> Iterator[tuple[Indices, Indices, int]]:
        for k in range(_N_SPLITS):
            seed = 1000 * self.seed + k
            a, b = split_indices(len(self.runs), (0.5, 0.5), seed=seed)
            yield a, b, seed
            yield b, a, seed

    def _scores(self, right: float | None, train: Indices, seed: int) -> SelfEvaluations:
        """Simulate a check of every run, or rank the run's cost among the training runs."""
        quality, costs = self.runs.quality, self.runs.cost_usd
        assert costs is not None, "these runs have costs"
        if right is None:
            ranks = [
                np.searchsorted(np.sort(costs[train, j]), costs[:, j]) / len(train)
                for j in range(costs.shape[1])
            ]
            scores = 1 - np.stack(ranks, axis=1)
        else:
            told = np.random.default_rng(seed).random(quality.shape) < right
            scores = np.where(told, quality, 1 - quality)
        return SelfEvaluations(self.runs.candidates, scores, np.zeros(scores.shape))


def _equal_utility(runs: Outcomes) -> float:
    """Return the λ in quality per USD at which both models are worth the same.

    There a cascade gains nothing from going cheap or strong, only from its signal.
    """
    quality, cost = runs.quality.mean(axis=0), runs.mean_cost_usd
    assert cost is not None, "these runs have costs"
    return float(max(quality[1] - quality[0], 0.0) / (cost[1] - cost[0]))


def show_agents(out: Path, *, seed: int = 0, as_json: bool = False) -> None:
    """Replay the cascades and print what each signal is worth.

    Args:
        out: Folder for the picture; created if missing.
        seed: Seed of the splits and of the simulated checks.
        as_json: Whether to print the figures as one JSON object on the last line.
    """
    console = Console(stderr=as_json)
    demo = AgentsDemo(seed)
    console.print(
        f"[bold]llm-router demo --agents[/bold]: recorded runs of the OpenHands agent on the "
        f"{len(demo.runs)} issues of SWE-bench Verified, one run per model. {CHEAP} goes first; "
        f"a check of its outcome decides whether {STRONG} tries, too. Both runs are paid. Checks "
        "are simulated and free; policies are fitted on one half of the issues and tested on the "
        f"other, both ways, in {_N_SPLITS} splits, for a λ at which both models alone are worth "
        f"the same. A mix is {STRONG} for a random share of the issues, at the same cost."
    )
    with Bar("replaying") as bar:
        tried = [demo.try_signal(name, bar) for name in SIGNALS]
    figures = {it.name: _figures(it.quality, it.cost_usd, demo.runs) for it in tried}
    console.print(_table(demo.runs, figures))
    for name, it in figures.items():
        console.print(f"[bold]{name}[/bold]: {escape(_sentence(it))}")
    console.print(
        "\nNeither the issue's text nor the steps of a run are read. How right your own check is, "
        "measure: `fit_router` learns it from recorded outcomes. A check that is no better than a "
        "coin is given no weight."
    )
    out.mkdir(parents=True, exist_ok=True)
    picture = plots.save(_picture(demo.runs, tried, figures), out / "agents.png")
    console.print(f"\nThe cost–quality curve is in [bold]{escape(str(picture))}[/bold].")
    if as_json:
        sys.stdout.write(json.dumps(_as_dict(demo.runs, figures)) + "\n")


@dataclass(frozen=True, eq=False)
class _Spent:
    quality: Floats
    cost_usd: Floats


@dataclass(frozen=True)
class _Figures:
    quality: Interval
    cost_usd: float
    share: Interval
    gain: Interval
    above_mix: Interval


def _figures(quality: Floats, cost_usd: Floats, runs: Outcomes) -> _Figures:
    assert runs.cost_usd is not None, "these runs have costs"
    strong = runs.cost_usd[:, 1]
    share = weighted_bootstrap(lambda w: (w @ cost_usd) / (w @ strong), len(runs), Resampling())
    return _Figures(
        quality=mean_interval(quality, bounds=(0, 1)),
        cost_usd=float(cost_usd.mean()),
        share=share,
        gain=mean_interval(quality - runs.quality[:, 1]),
        above_mix=quality_above_mix_interval(_Spent(quality, cost_usd), runs),
    )


def _table(runs: Outcomes, figures: Mapping[str, _Figures]) -> Table:
    table = Table(title=f"{len(runs)} issues", title_justify="left", box=SIMPLE)
    table.add_column("strategy")
    for heading in ("resolved, 95 %", "cost per issue", "of the best", "points above a mix"):
        table.add_column(heading, justify="right")
    assert runs.mean_cost_usd is not None
    for j, name in enumerate(runs.candidates):
        quality = mean_interval(runs.quality[:, j], bounds=(0, 1))
        cost, strong = float(runs.mean_cost_usd[j]), float(runs.mean_cost_usd[1])
        table.add_row(
            f"{name} alone", _percent(quality), format_usd(cost), format_share(cost / strong), ""
        )
    table.add_section()
    for name, it in figures.items():
        table.add_row(
            name,
            _percent(it.quality),
            format_usd(it.cost_usd),
            format_share(it.share.value),
            _points(it.above_mix),
            style="bold" if name == _CHOSEN else None,
        )
    table.add_section()
    best = plots.oracle_point(runs)
    strong = float(runs.mean_cost_usd[1])
    cells = (
        format_share(best.quality, 1),
        format_usd(best.cost_usd),
        format_share(best.cost_usd / strong),
    )
    table.add_row("if one knew beforehand", *cells, "")
    return table


def _sentence(it: _Figures) -> str:
    """Say what a signal is worth."""
    gain = f"{_points(it.gain)} points against {STRONG} alone"
    words = f"{gain}, at {format_share(it.share.value)} of its cost"
    if it.above_mix.low > 0:
        return f"{words}; {_points(it.above_mix)} above a random mix of both for the same money."
    return (
        f"{words}; a random mix of both for the same money does as well, as far as these issues "
        f"can tell ({_points(it.above_mix)} points)."
    )


def _percent(it: Interval) -> str:
    return f"{format_share(it.value, 1)}  {100 * it.low:.1f}–{100 * it.high:.1f}"


def _points(it: Interval) -> str:
    return f"{100 * it.value:+.1f} ({100 * it.low:+.1f} to {100 * it.high:+.1f})"


def _picture(runs: Outcomes, tried: Sequence[Tried], figures: Mapping[str, _Figures]) -> Any:
    chosen = figures[_CHOSEN]
    return plots.cost_quality_curve(
        [
            point
            for it in tried
            if it.name in _DRAWN
            for point in plots.sweep_points(it.name, it.sweep)
        ],
        singles=plots.single_points(runs),
        oracle=plots.oracle_point(runs),
        chosen=plots.StrategyPoint(_CHOSEN, chosen.cost_usd, chosen.quality.value),
        title="A cheap agent, a check, a strong agent",
        subtitle=f"{len(runs)} issues of SWE-bench Verified, recorded runs, simulated checks; "
        "◆ 90 % right",
    )


def _as_dict(runs: Outcomes, figures: Mapping[str, _Figures]) -> dict[str, Any]:
    assert runs.mean_cost_usd is not None
    return {
        "n_tasks": len(runs),
        "alone": {
            name: {"quality": float(quality), "usd_per_task": float(cost)}
            for name, quality, cost in zip(
                runs.candidates, runs.quality.mean(axis=0), runs.mean_cost_usd, strict=True
            )
        },
        "oracle": plots.oracle_point(runs).quality,
        "strategies": {
            name: {
                "quality": it.quality.as_list(),
                "usd_per_task": it.cost_usd,
                "cost_share": it.share.as_list(),
                "gain": it.gain.as_list(),
                "above_random_mix": it.above_mix.as_list(),
            }
            for name, it in figures.items()
        },
    }
