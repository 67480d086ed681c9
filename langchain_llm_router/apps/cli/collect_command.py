"""`llm-router collect`: collects the data to fit a router on."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from langchain_llm_router.apps.cli.parameters import CandidatesOption, JsonOption, PricesOption
from langchain_llm_router.apps.cli.terminal import write_json, write_text

if TYPE_CHECKING:
    from langchain_llm_router.collect import Collected

__all__ = ["collect"]


def collect(  # noqa: PLR0913 - each option is a parameter
    questions: Annotated[
        Path, "JSONL, CSV or Parquet: `query`, optional `id`, `reference`; or langsmith:NAME."
    ],
    *,
    candidate: CandidatesOption = [],  # noqa: B006
    journal: Annotated[Path, "File for all results; a later run resumes it."] = Path("run.jsonl"),
    price: PricesOption = [],  # noqa: B006
    grader: Annotated[str, "exact, number, choice, judge or pairwise."] = "exact",
    judge: Annotated[str | None, "The model that grades, written like a candidate."] = None,
    samples: Annotated[int, "Number of self-evaluations per answer, may be 0."] = 8,
    verify_last: Annotated[bool, "Have the last candidate evaluate its answers too."] = False,
    concurrency: Annotated[int, "Maximum number of concurrent calls to one model."] = 8,
    attempts: Annotated[int, "Maximum attempts on rate limits and lost connections."] = 6,
    budget: Annotated[float | None, "Stop before spending more than this many dollars."] = None,
    logprobs: Annotated[bool, "Record the answers' log-probabilities."] = False,
    ray: Annotated[bool, "Use a Ray cluster; if there is none, start a local one."] = False,
    shards: Annotated[int, "With --ray: processes that share --concurrency and --budget."] = 4,
    yes: Annotated[bool, "Start without asking for confirmation."] = False,
    without_prices: Annotated[bool, "Start although the price of a candidate is unknown."] = False,
    json: JsonOption = False,
) -> None:
    """Collect data to fit a router on: ask every candidate, grade and self-evaluate its answers.

    After 20 questions the run stops if no verdict or grade of a candidate can be read; in a
    terminal it asks. The same command goes on from there.

    Example: llm-router collect q.jsonl --candidate openai:gpt-4o-mini --candidate openai:gpt-4o
    --journal run.jsonl
    """
    from langchain_llm_router import collect as room  # noqa: PLC0415 - imports what only it needs
    from langchain_llm_router.verification import YesNo  # noqa: PLC0415 - the same

    if judge is not None and grader not in ("judge", "pairwise"):
        msg = f"`--judge` needs `--grader judge` or `--grader pairwise`, got `--grader {grader}`."
        raise ValueError(msg)

    def setup() -> room.Setup:
        return {
            "candidates": room.parse_candidates(candidate, price, logprobs=logprobs),
            "grader": room.grader_by_name(grader, judge),
            "verifiers": {"self": YesNo(samples)} if samples > 0 else None,
            "verify_last": verify_last,
        }

    limits = room.Limits(concurrency, attempts, budget)
    with room.TerminalWatcher(yes=yes, without_prices=without_prices) as watcher:
        if ray:
            done = room.collect_on_ray(
                questions, setup, journal=journal, n_shards=shards, limits=limits, watcher=watcher
            )
        else:
            done = room.collect(
                questions, **setup(), journal=journal, limits=limits, watcher=watcher
            )
    for name, figures in _figures(done).items():
        write_text(f"{name}: quality {figures['quality']:.3f}")
    if done.incomplete:
        question, reason = next(iter(done.incomplete.items()))
        write_text(f"{len(done.incomplete)} left out, e.g. {question!r}: {reason}")
    n_read, n_verdicts = done.n_verdicts
    if n_verdicts > 0:
        write_text(f"verdicts readable: {n_read:,} of {n_verdicts:,}")
    if json:
        left_out = dict(done.incomplete)
        write_json(
            {
                "journal": str(journal),
                "n_rows": len(done.ids),
                "left_out": left_out,
                "verdicts_readable": [n_read, n_verdicts],
                "candidates": _figures(done),
            }
        )


def _figures(done: Collected) -> dict[str, dict[str, float | None]]:
    """Return the mean quality and cost of every candidate."""
    table = done.outcomes
    costs = table.mean_cost_usd
    return {
        name: {
            "quality": float(table.quality[:, j].mean()),
            "cost_usd": None if costs is None or isnan(costs[j]) else float(costs[j]),
        }
        for j, name in enumerate(table.candidates)
    }
