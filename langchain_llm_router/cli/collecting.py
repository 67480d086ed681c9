"""`llm-router collect`: ask, grade, keep a journal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

__all__ = ["collect"]


def collect(  # noqa: PLR0913 - a command has as many options as it has
    questions: Annotated[Path, "JSONL, CSV or Parquet with `query`, if any `id`, `reference`."],
    *,
    candidate: Annotated[list[str], "[name=]provider:model[@base-url], from cheap to strong."] = [],  # noqa: B006
    journal: Annotated[Path, "Every answer is kept here; a later run goes on."] = Path("run.jsonl"),
    price: Annotated[list[str], "name=input,output in USD per million tokens."] = [],  # noqa: B006
    grader: Annotated[str, "exact, number, choice, judge or pairwise."] = "exact",
    judge: Annotated[str | None, "The model that grades, written like a candidate."] = None,
    samples: Annotated[int, "Self-evaluations per answer; 0: none."] = 8,
    concurrency: Annotated[int, "Calls in flight to one model."] = 8,
    budget: Annotated[float | None, "Stop before this many dollars are passed."] = None,
    logprobs: Annotated[bool, "Record the answers' log-probabilities."] = False,
    yes: Annotated[bool, "Begin without asking."] = False,
) -> None:
    """Ask every candidate every question, grade and self-evaluate: the data to fit a router on.

    Example: llm-router collect q.jsonl --candidate openai:gpt-4o-mini --candidate openai:gpt-4o
    --journal run.jsonl
    """
    from langchain_llm_router import collect as room  # noqa: PLC0415 - imports what only it needs
    from langchain_llm_router.verification import YesNo  # noqa: PLC0415 - the same

    with room.TerminalWatcher(yes=yes) as watcher:
        done = room.collect(
            questions,
            room.parse_candidates(candidate, price, logprobs=logprobs),
            journal=journal,
            grader=room.grader_by_name(grader, judge),
            verifiers={"self": YesNo(samples)} if samples > 0 else None,
            limits=room.Limits(concurrency=concurrency, budget_usd=budget),
            watcher=watcher,
        )
    means = zip(done.outcomes.candidates, done.outcomes.quality.mean(axis=0), strict=True)
    sys.stdout.write("".join(f"{name}: quality {mean:.3f}\n" for name, mean in means))
    if done.incomplete:
        question, lack = next(iter(done.incomplete.items()))
        sys.stdout.write(f"{len(done.incomplete)} left out, e.g. {question!r}: {lack}\n")
